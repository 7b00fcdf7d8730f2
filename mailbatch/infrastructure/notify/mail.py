"""Sends the report of a run or of an incident as a mail, directly to the relay and not through the backlog."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from uuid import NAMESPACE_URL, uuid5

from mailbatch.domain.claimed import ClaimedMail
from mailbatch.domain.errors import CannotCompose, NotDelivered
from mailbatch.domain.message import Claim
from mailbatch.domain.outcome import ContentFault, Kind, RelayFault, Replied
from mailbatch.domain.reservation import Mail
from mailbatch.domain.run_notification import told

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from mailbatch.application.ports.sending import Composer, Transport
    from mailbatch.domain.outcome import Outcome


@dataclass(frozen=True, slots=True)
class ReportByMail:
    """The port ``Channel``: sends to ``recipients``, an address list, from the default sender on its own connection."""

    recipients: str = field(repr=False)
    compose: Composer
    transport: Callable[[], Transport]
    permit: Callable[[], Callable[[], bool]]
    """Returns a permit that ends when waiting for a free connection to the relay has taken too long."""

    def __call__(self, report_id: str, report: Mapping[str, Any]) -> None:
        """Send ``report`` once; a repetition has the same Message-ID. Raises ``NotDelivered``."""
        try:
            message = self.compose(self._mail(report_id, report))
        except CannotCompose as error:
            raise NotDelivered(f"cannot be composed: {error}", final=True) from None
        [outcome] = [o for o in self.transport().send([message], self.permit()) if o is not None]
        _judge(outcome)

    def _mail(self, report_id: str, report: Mapping[str, Any]) -> ClaimedMail:
        lines = told(report).splitlines()
        # Subject and bodies are templates: text that must stay as it is goes through the context.
        context = {"subject": f"[mailbatch] {lines[0]}", "text": "\n".join(lines)}
        mail = Mail(
            recipients=self.recipients,
            subject="{{ subject }}",
            body_text="{{ text }}\n",
            context=context,
            headers={"Auto-Submitted": "auto-generated"},
        )
        claim = Claim(uuid5(NAMESPACE_URL, report_id), 0)
        message_id = f"<{report_id}@report.mailbatch.invalid>"
        return ClaimedMail(claim=claim, index=1, mail=mail, message_id=message_id, attempts=0, earlier={})


def _judge(outcome: Outcome) -> None:
    match outcome:
        case Replied(_, relay, verdicts):
            refused = [v for v in verdicts.values() if v.kind is not Kind.ACCEPTED]
            if refused:
                final = all(v.kind is Kind.REJECTED for v in refused)
                raise NotDelivered(f"{relay}: {refused[0].reply}", final=final)
        case RelayFault(_, relay, reason) | ContentFault(_, relay, reason):
            raise NotDelivered(f"{relay}: {reason}")
        case _:
            raise NotDelivered("no connection to the relay was free in time")
