"""Ports of the notifications to people: run reports and incidents on their way, and the channels that take them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from mailbatch.domain.finding import Finding
    from mailbatch.domain.incident import Incident
    from mailbatch.domain.run_notification import DueReport


class Outbox(Protocol):
    """The reports that are to be delivered. They are put there when a run is closed. May raise ``StoreError``."""

    def take(self, limit: int) -> Sequence[DueReport]:
        """Return up to ``limit`` reports whose time has come. For a minute they are returned to no other caller."""

    def delivered(self, one: DueReport) -> None:
        """Record that the report has arrived."""

    def failed(self, one: DueReport, reason: str, retry_in: float | None) -> None:
        """Record why it has not arrived, and in how many seconds to try again (None: never)."""

    def next_in(self) -> float | None:
        """Return the seconds until the next report is due; None if there is none."""


class Channel(Protocol):
    """A way to reach people: a webhook, or mail."""

    def __call__(self, report_id: str, report: Mapping[str, Any]) -> None:
        """Deliver ``report``, of a run or an incident, or raise ``NotDelivered`` within some seconds."""


class Incidents(Protocol):
    """The last incident of each kind and channel. May raise ``StoreError``."""

    def note(self, found: Sequence[Finding], channels: Collection[str]) -> None:
        """Begin an incident for each of ``found`` that has none, and end the incidents of other kinds.

        If something is found again soon after its incident ended, that incident goes on.
        """

    def take(self, channels: Collection[str]) -> Sequence[Incident]:
        """Return the incidents that one of ``channels`` is to deliver now. For a while no other caller gets them."""

    def delivered(self, one: Incident) -> None:
        """Record that the notification has arrived."""

    def give_up(self, one: Incident) -> None:
        """Record that its notification is not tried again."""
