"""What the demo expects of its mails, and the comparison with what came."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mailbatch.domain.job_name import SEND_ALL
from mailbatch.domain.reservation import Status
from mailbatch.interfaces.cli.inbox import read_journal

if TYPE_CHECKING:
    from pathlib import Path

    from mailbatch.application.looking.inquire import ListReservations
    from mailbatch.application.ports.reports import Reports


@dataclass(frozen=True, slots=True)
class Expected:
    """The numbers that examples/README.md gives. ``shared``: refused mails that another recipient accepts."""

    reserved: int = 1000
    unreadable: int = 8
    refused: int = 12
    shared: int = 4
    deferred: int = 8

    @property
    def sent(self) -> int:
        """Return how many end in the state sent."""
        return self.reserved - self.refused


def find_faults(
    reports: Reports, list_reservations: ListReservations, inbox: Path, expected: Expected, unreadable: int
) -> list[str]:
    """Compare the reservations and the mails in ``inbox`` with what is expected; return a line for each difference."""
    from mailbatch.domain.rows import ReservationRow
    from mailbatch.domain.selection import Selection

    counts = reports.census().counts
    mails = list(read_journal(inbox))
    deliveries = [(mail.message_id, recipient) for mail in mails for recipient in mail.recipients]
    ids = {mail.message_id for mail in mails}
    sent = list_reservations(Selection(status=Status.SENT), expected.reserved, ReservationRow)
    lost = sum(row.message_id not in ids for row in sent)
    deferred = sum(run.deferred for run in reports.runs(SEND_ALL, 100))
    compared = [
        ("reserved", sum(counts.values()), expected.reserved),
        ("lines left out", unreadable, expected.unreadable),
        ("sent", counts.get(Status.SENT, 0), expected.sent),
        ("failed", counts.get(Status.FAILED, 0), expected.refused),
        ("deferred at first", deferred, expected.deferred),
        ("mails in the inbox", len(mails), expected.sent + expected.shared),
        ("delivered twice", len(deliveries) - len(set(deliveries)), 0),
        ("sent but lost", lost, 0),
    ]
    return [f"{what}: {found}, not {wanted}" for what, found, wanted in compared if found != wanted]
