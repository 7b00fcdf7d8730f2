"""Combines all sources of a stop into one token that a run asks before each item."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from mailbatch.domain.run import RunOutcome


class CombinedStopToken:
    """The port ``StopToken``: the first reason that is found stays the reason.

    ``reason`` calls each of ``sources`` every time, so they must be cheap. Slower sources call ``request_stop``.
    """

    def __init__(self, *sources: Callable[[], RunOutcome | None]) -> None:
        self._sources = sources
        self._reason: RunOutcome | None = None

    def request_stop(self, reason: RunOutcome) -> None:
        """Stop the run for ``reason``, unless it has a reason already."""
        self._reason = self._reason or reason

    def reason(self) -> RunOutcome | None:
        """Return why the run must stop, or None."""
        if self._reason is None:
            for source in self._sources:
                if (reason := source()) is not None:
                    self.request_stop(reason)
                    break
        return self._reason
