"""Makes the parts that report runs and incidents to people: the channels that are set, and their users."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from mailbatch.bootstrap.sending import permit_for_a_while

if TYPE_CHECKING:
    from mailbatch.application.notifying.deliver_reports import DeliverReports
    from mailbatch.application.notifying.incidents import NotifyOfIncidents
    from mailbatch.application.ports.notifying import Channel
    from mailbatch.bootstrap.connections import Connections
    from mailbatch.bootstrap.sending import Sending


class Notifying:
    """The channels for the reports of runs and incidents."""

    def __init__(self, connections: Connections, sending: Sending) -> None:
        self._connections = connections
        self._sending = sending

    @cached_property
    def channels(self) -> dict[str, Channel]:
        """Each channel that is set, by its name."""
        s = self._connections.settings
        found: dict[str, Channel] = {}
        if s.webhook_url:
            from mailbatch.infrastructure.notify.webhook import Webhook

            secret = s.webhook_secret.get_secret_value() if s.webhook_secret else None
            found["webhook"] = Webhook(s.webhook_url, secret)
        if s.report_to:
            from mailbatch.infrastructure.notify.mail import ReportByMail

            sending = self._sending
            found["mail"] = ReportByMail(s.report_to, sending.compose, sending.single_transport, permit_for_a_while)
        return found

    @property
    def deliver_reports(self) -> DeliverReports | None:
        """Delivers the reports that wait in the outbox; None without a channel."""
        from mailbatch.application.notifying.deliver_reports import DeliverReports

        return DeliverReports(self._connections.stores.outbox, self.channels) if self.channels else None

    @property
    def notify_of_incidents(self) -> NotifyOfIncidents:
        """Reports the incidents that the watch finds and that no run can report."""
        from mailbatch.application.notifying.incidents import NotifyOfIncidents

        return NotifyOfIncidents(self._connections.stores.incidents, self.channels)
