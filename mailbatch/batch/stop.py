"""One answer to "must this run stop?", merged from everyone who may say so."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from mailbatch.domain.run import RunOutcome


class Stop:
    """The port ``StopToken``: the first reason that is given stays the reason.

    ``sources`` are asked each time, so they must be cheap; whoever learns of a reason otherwise calls ``tell``.
    """

    def __init__(self, *sources: Callable[[], RunOutcome | None]) -> None:
        self._sources = sources
        self._reason: RunOutcome | None = None

    def tell(self, reason: RunOutcome) -> None:
        """Stop the run for ``reason``, unless it has one already."""
        self._reason = self._reason or reason

    def reason(self) -> RunOutcome | None:
        """Why the run must stop, or None."""
        if self._reason is None:
            for source in self._sources:
                if (reason := source()) is not None:
                    self.tell(reason)
                    break
        return self._reason
