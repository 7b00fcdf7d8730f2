"""Explain a reservation that no run will touch by itself: how it ended, and what an operator can do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mailbatch.application.looking.explanation import Cause, Reason, at, at_if_known
from mailbatch.domain.reservation import Status

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from mailbatch.application.looking.explanation import Case
    from mailbatch.domain.rows import ReservationRow

_AGAIN = "reserve it again if it is still needed"


def explain_finished(case: Case) -> Cause:
    """Return how a reservation ended that is neither pending nor being sent."""
    return _BY_STATUS[case.row.status](case)


def _sent(case: Case) -> Cause:
    row = case.row
    reply = f"{row.reply_code or ''} {row.reply_text or ''}".strip()
    if row.reply_code is None or row.relay is None:
        sentence = f"It counts as sent{at_if_known(row.sent_at)}: an operator has resolved a doubt so."
        return Cause(Reason.SENT, sentence, facts={"sent_at": row.sent_at})
    sentence = f"It was taken{at_if_known(row.sent_at)} by {row.relay}, which said: {reply}."
    advice = f"what the relay did with it is in its log, under {_in_a_log(row)}"
    facts = {"sent_at": row.sent_at, "relay": row.relay, "reply": reply, "run_id": row.run_id}
    return Cause(Reason.SENT, sentence, advice, facts)


def _failed(case: Case) -> Cause:
    row = case.row
    sentence = f"It failed for good{at_if_known(row.finished_at)}: {row.last_error or 'no reason was noted'}."
    again = _too_late(case) if case.has_expired else f"then `mailbatch requeue {row.id}`"
    return Cause(Reason.FAILED, sentence, f"mend the cause{';' if case.has_expired else ','} {again}")


def _cancelled(case: Case) -> Cause:
    row = case.row
    restore = f"`mailbatch restore {row.id}` takes that back"
    sentence = f"It was cancelled{at_if_known(row.finished_at)}."
    return Cause(Reason.CANCELLED, sentence, _too_late(case) if case.has_expired else restore)


def _expired(case: Case) -> Cause:
    row = case.row
    why = row.last_error or "its time had passed"
    sentence = f"It expired{at_if_known(row.finished_at)} and was not sent: {why}."
    return Cause(Reason.EXPIRED, sentence, _AGAIN, {"expires_at": row.expires_at})


def _in_doubt(case: Case) -> Cause:
    row = case.row
    since = row.wire_at or (case.attempts[-1].ended_at if case.attempts else None)
    sentence = f"It is in doubt{' since ' + at(since) if since else ''}: it went out, and no verdict came back."
    again = _too_late(case) if case.has_expired else f"`mailbatch requeue {row.id}`"
    advice = (
        f"look for {_in_a_log(row)} in the relay's log; there: `mailbatch resolve {row.id} --sent`, not there: {again}"
    )
    facts = {"in_doubt_since": since, "message_id": row.message_id, "run_id": row.run_id, "relay": row.relay}
    return Cause(Reason.IN_DOUBT, sentence, advice, facts)


def _in_a_log(row: ReservationRow) -> str:
    """Return what to look for in the relay's log. A row that another program wrote may have no Message-ID."""
    return row.message_id or "its recipients"


def _too_late(case: Case) -> str:
    return f"it cannot go again, because its time passed{at_if_known(case.row.expires_at)}: {_AGAIN}"


_BY_STATUS: Mapping[Status, Callable[[Case], Cause]] = {
    Status.SENT: _sent,
    Status.FAILED: _failed,
    Status.CANCELLED: _cancelled,
    Status.EXPIRED: _expired,
    Status.IN_DOUBT: _in_doubt,
}
