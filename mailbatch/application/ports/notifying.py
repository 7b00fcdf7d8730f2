"""Ports of the notifications to people: run reports and incidents on their way, and the channels that take them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from mailbatch.domain.finding import Finding
    from mailbatch.domain.incident import Incident
    from mailbatch.domain.run_notification import DueReport


class Outbox(Protocol):
    """The reports that are to be delivered; they are put there when a run is closed. May raise ``StoreError``."""

    def take(self, limit: int) -> Sequence[DueReport]:
        """Up to ``limit`` reports whose time has come; for a while nobody else is given them."""

    def delivered(self, one: DueReport) -> None:
        """Note that it has arrived."""

    def failed(self, one: DueReport, reason: str, retry_in: float | None) -> None:
        """Note why it has not, and when to try again (None: never)."""

    def next_in(self) -> float | None:
        """Seconds until the next is due, None if there is none."""


class Channel(Protocol):
    """A way to somebody."""

    def __call__(self, report_id: str, report: Mapping[str, Any]) -> None:
        """Deliver ``report``, of a run or an incident, or raise ``NotDelivered`` within some seconds."""


class Incidents(Protocol):
    """The incidents that were seen, one of each kind and channel: the last. May raise ``StoreError``."""

    def note(self, found: Sequence[Finding], channels: Collection[str]) -> None:
        """Begin an incident for each of ``found`` that has none, and end those of other kinds.

        What comes back soon after its end is the same incident.
        """

    def take(self, channels: Collection[str]) -> Sequence[Incident]:
        """Those that are to be told now by one of ``channels``; for a while nobody else is given them."""

    def told(self, one: Incident) -> None:
        """Note that it has arrived."""

    def give_up(self, one: Incident) -> None:
        """Note that it is not tried again."""
