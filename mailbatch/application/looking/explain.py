"""Explain why a reservation has not been sent yet, or what became of it: one sentence first, then the facts."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mailbatch.application.looking.explain_finished import explain_finished
from mailbatch.application.looking.explain_pending import ExplainPending
from mailbatch.application.looking.explain_sending import ExplainSending
from mailbatch.application.looking.explanation import Case, Explanation, at
from mailbatch.domain.errors import NotFound
from mailbatch.domain.job_name import SEND_ALL
from mailbatch.domain.reservation import Status

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from uuid import UUID

    from mailbatch.application.looking.explanation import Cause
    from mailbatch.application.looking.watch import Watch
    from mailbatch.application.ports.gating import Gate
    from mailbatch.application.ports.reports import Reports, Upcoming
    from mailbatch.application.ports.sending import Composer
    from mailbatch.application.ports.stores import Reservations
    from mailbatch.domain.rows import ReservationRow

_ENDED_TWICE = re.compile(r"([.!?])\.(?= |$)")
"""A sentence that quotes one: the reply of a relay often ends with a full stop."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Explain:
    """Explain reservations of ``job``. The watch says what the job does, as on every other screen.

    ``carried`` returns facts of what a mail has beside its text. ``urgent_from``: the priority from which on a mail
    starts a run; None if none does.
    """

    reservations: Reservations
    reports: Reports
    upcoming: Upcoming
    watch: Watch
    compose: Composer
    carried: Callable[[ReservationRow], Mapping[str, Any]]
    gates: Sequence[Gate] = ()
    job: str = SEND_ALL
    urgent_from: int | None = None

    def __call__(self, reservation_id: UUID) -> Explanation:
        """Return the explanation of one reservation. Raises ``NotFound`` and ``StoreError``."""
        row = self.reservations.get(reservation_id)
        if row is None:
            raise NotFound(f"no reservation {reservation_id}")
        # The lock matters only to what waits, and asking a Redis that hangs takes seconds.
        snapshot = self.watch.look(self.job, lock=row.status is Status.PENDING)
        case = Case(row, self.reservations.attempts(reservation_id), snapshot)
        cause = self._cause(case)
        facts = {**cause.facts, **_history(case), **self.carried(row)}
        return Explanation(
            reservation_id=reservation_id,
            status=row.status,
            reason=cause.reason,
            sentence=_ENDED_TWICE.sub(r"\1", cause.sentence),
            advice=cause.advice,
            facts={name: value for name, value in facts.items() if value not in (None, "", [])},
        )

    def _cause(self, case: Case) -> Cause:
        match case.row.status:
            case Status.PENDING:
                explain = ExplainPending(
                    self.reports, self.upcoming, self.compose, self.gates, self.job, self.urgent_from
                )
                return explain(case)
            case Status.SENDING:
                return ExplainSending(self.reports)(case)
            case _:
                return explain_finished(case)


def _history(case: Case) -> dict[str, Any]:
    """Return the facts with which every explanation ends."""
    row = case.row
    return {
        "attempts": row.attempts,
        "last_try": _last_attempt(case),
        "last_error": row.last_error,
        "accepted_by": sorted(to for to, verdict in (row.verdicts or {}).items() if verdict["kind"] == "accepted"),
        "message_id": row.message_id,
        "priority": row.priority,
    }


def _last_attempt(case: Case) -> str | None:
    if not case.attempts:
        return None
    last = case.attempts[-1]
    reply = " ".join(str(part) for part in (last.reply_code or "", last.reply_text or "") if part)
    return f"{last.outcome} at {at(last.ended_at)}: {reply}"
