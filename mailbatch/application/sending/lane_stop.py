"""Why a lane begins nothing more."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mailbatch.application.ports.runs import StopToken
    from mailbatch.domain.circuit import Outage
    from mailbatch.domain.errors import RunFailed


class LaneStop:
    """Collects what ends a lane early. The first reason of each kind counts.

    ``outage``: the relay stays away or takes no mail. ``failure``: the database fails. Neither is raised at once,
    because the mails on the wire must come back as outcomes first.
    """

    __slots__ = ("_requested", "failure", "outage")

    def __init__(self, token: StopToken) -> None:
        self.outage: Outage | None = None
        self.failure: RunFailed | None = None
        self._requested = token.reason

    def is_set(self) -> bool:
        """Return whether nothing more may begin."""
        return self.outage is not None or self.failure is not None or self._requested() is not None

    def is_requested(self) -> bool:
        """Return whether the run was asked to stop."""
        return self._requested() is not None

    def relay_failed(self, outage: Outage) -> None:
        """Stop because of the relay."""
        self.outage = self.outage or outage

    def database_failed(self, failure: RunFailed) -> None:
        """Stop because of the database."""
        self.failure = self.failure or failure
