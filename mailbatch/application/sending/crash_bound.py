"""Keeps the bound of a run above the number of mails that a crash of this lane could leave in doubt."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mailbatch.application.ports.runs import Run


class CrashBound:
    """The share of one lane in the bound of its run: ``mails`` when the run begins, and more when the lane grows."""

    def __init__(self, run: Run, mails: int) -> None:
        self._run = run
        self._mails = mails

    def cover(self, mails: int, spare: int) -> None:
        """Raise the bound before so many mails can be in doubt, if it is lower: at once to ``spare``, if that is more.

        Raises:
            StoreError: the bound could not be written. The mails must not be claimed, or their ends not be sent.
        """
        if mails > self._mails:
            wanted = max(mails, spare)
            self._run.raise_bound(wanted - self._mails)
            self._mails = wanted
