"""Why a lane begins nothing more at one of its relays."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mailbatch.application.sending.lane_stop import LaneStop

if TYPE_CHECKING:
    from mailbatch.domain.circuit import Outage
    from mailbatch.domain.errors import RunFailed


class RelayStop(LaneStop):
    """What stops the lane stops this too. An outage of this relay stops nothing else."""

    __slots__ = ("_lane",)

    def __init__(self, lane: LaneStop) -> None:
        self.outage: Outage | None = None
        self._lane = lane

    def is_set(self) -> bool:
        """Return whether nothing more may begin at this relay."""
        return self.outage is not None or self._lane.is_set()

    def is_requested(self) -> bool:
        """Return whether the run was asked to stop."""
        return self._lane.is_requested()

    def database_failed(self, failure: RunFailed) -> None:
        """Stop the lane because of the database."""
        self._lane.database_failed(failure)
