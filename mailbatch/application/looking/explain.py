"""Say why a reservation has not gone yet, or what became of it: one sentence first, then the facts."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from mailbatch.domain.circuit import CircuitState
from mailbatch.domain.errors import Busy, CannotCompose, NotFound
from mailbatch.domain.finding import FOREIGN_LOCK, IDLE_LOCK, NO_RUN, NO_TICK, REDIS_AWAY
from mailbatch.domain.job_name import SEND_ALL
from mailbatch.domain.reservation import Status
from mailbatch.domain.run import Pause

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime
    from uuid import UUID

    from mailbatch.application.looking.watch import Look, Watch
    from mailbatch.application.ports.reports import Queue, Reports
    from mailbatch.application.ports.sending import Composer
    from mailbatch.application.ports.stores import Reservations
    from mailbatch.domain.rows import AttemptRow, ReservationRow, RunRow

MOST_AHEAD = 10_000
"""Mails that are counted at most to tell how many go first."""


class Reason(StrEnum):
    """Why a mail is where it is, for programs; the sentence says the same to people."""

    EXPIRES = "expires"
    NOT_DUE = "not_due"
    WAITS_FOR_RETRY = "waits_for_retry"
    PAUSED = "paused"
    RELAY_AWAY = "relay_away"
    BEING_SENT = "being_sent"
    SENDER_DIED = "sender_died"
    RELAY_SILENT = "relay_silent"
    RUN_IN_PROGRESS = "run_in_progress"
    REDIS_AWAY = "redis_away"
    LOCKED = "locked"
    NO_RUN = "no_run"
    NO_TICK = "no_tick"
    WAITS_FOR_RUN = "waits_for_run"
    SENT = "sent"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    IN_DOUBT = "in_doubt"


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """What is to be said of one reservation. ``advice`` may be empty; ``facts`` are in the order of their weight."""

    reservation_id: UUID
    status: Status
    reason: Reason
    sentence: str
    advice: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Case:
    """What was looked up of one reservation."""

    row: ReservationRow
    attempts: Sequence[AttemptRow]
    look: Look

    @property
    def now(self) -> datetime:
        """By the database's clock."""
        return self.look.health.now

    @property
    def overdue(self) -> bool:
        """Whether its time has passed: nothing brings it back then."""
        expires_at = self.row.expires_at
        return expires_at is not None and bool(expires_at <= self.now)


@dataclass(frozen=True, slots=True, kw_only=True)
class Explain:
    """Explain reservations of ``job``. What goes on is what the watch says, as on every other screen."""

    reservations: Reservations
    reports: Reports
    queue: Queue
    watch: Watch
    compose: Composer
    job: str = SEND_ALL

    def __call__(self, reservation_id: UUID) -> Explanation:
        """Explain one. Raises ``NotFound``."""
        row = self.reservations.get(reservation_id)
        if row is None:
            raise NotFound(f"no reservation {reservation_id}")
        status = row.status
        case = _Case(
            row=row,
            attempts=self.reservations.attempts(reservation_id),
            # The lock holds up only what waits, and a Redis that hangs costs seconds.
            look=self.watch.look(self.job, lock=status is Status.PENDING),
        )
        reason, sentence, advice, facts = self._told(status, case)
        return Explanation(
            reservation_id=reservation_id,
            status=status,
            reason=reason,
            sentence=sentence,
            advice=advice,
            facts={name: value for name, value in {**facts, **_history(case)}.items() if value not in (None, "", [])},
        )

    def _told(self, status: Status, case: _Case) -> _Told:
        if status is Status.PENDING:
            return self._pending(case)
        return self._sending(case) if status is Status.SENDING else _ENDED[status](case)

    # --- it has not gone yet ---

    def _pending(self, case: _Case) -> _Told:
        row = case.row
        facts: dict[str, Any] = {"due_at": row.due_at, "expires_at": row.expires_at}
        problems = self._problems(row)
        if problems:
            facts["would_fail"] = problems
        if case.overdue:
            said = f"Its time passed{_on(row.expires_at)}: the next run marks it as expired."
            return Reason.EXPIRES, said, "", facts
        if row.due_at > case.now:
            return self._waiting(case, facts)
        facts |= {
            "due_for_seconds": round((case.now - row.due_at).total_seconds()),
            "next_run_at": case.look.next_run.planned,
        }
        reason, sentence, advice = self._held_up(case, facts)
        if problems:
            sentence += f" As it stands it will fail then: {problems[0]}."
        return reason, sentence, advice, facts

    def _waiting(self, case: _Case, facts: dict[str, Any]) -> _Told:
        row, pause = case.row, case.look.pause
        paused = f"an operator has paused {_WHAT_PAUSED[pause]}; {_RESUME}" if pause is not Pause.NONE else ""
        if row.attempts and row.retry_at is not None:
            why = row.last_error or "it was put off"
            said = f"It waits for its next try{_on(row.due_at)}, after {row.attempts} that failed: {why}."
            return Reason.WAITS_FOR_RETRY, said, paused or "wait, it goes by itself", facts
        return Reason.NOT_DUE, f"It is not due before {_at(row.due_at)}.", paused, facts

    def _held_up(self, case: _Case, facts: dict[str, Any]) -> tuple[Reason, str, str]:
        """Why a mail that is due has not gone, the strongest reason first."""
        look = case.look
        if look.pause is Pause.ALL or (look.pause is Pause.TICKS and not look.running):
            return Reason.PAUSED, f"It is due, but an operator has paused {_WHAT_PAUSED[look.pause]}.", _RESUME
        if look.circuit.left > 0:
            facts["relay_reason"] = look.circuit.reason
            return Reason.RELAY_AWAY, f"It is due, but {look.circuit.told()}.", "`mailbatch send-all` tries it at once"
        facts["ahead"] = ahead = self.queue.ahead(case.row, MOST_AHEAD)
        before = f"{MOST_AHEAD} or more mails go" if ahead >= MOST_AHEAD else f"{_mails(ahead)}"
        if look.running:
            return _in_a_run(look, before, facts)
        facts["last_run"] = self._last_run()
        if look.circuit.state is not CircuitState.CLOSED:
            facts["relay_reason"] = look.circuit.reason
        return _without_a_run(look, before)

    def _last_run(self) -> str | None:
        last = next((run for run in self.reports.runs(self.job, 2) if run.outcome is not None), None)
        return f"{last.outcome}{_on(last.finished_at)}: {last.error or 'no error'}" if last else None

    def _problems(self, row: ReservationRow) -> list[str]:
        """Why it could not be composed, if it could not."""
        try:
            self.compose(row.as_claimed(0, {}))
        except CannotCompose as error:
            return list(error.errors)
        except Busy:
            return []  # It is not known now; all else that is said of the mail is true.
        return []

    # --- it is being sent ---

    def _sending(self, case: _Case) -> _Told:
        row, look = case.row, case.look
        run = self.reports.run(row.run_id) if row.run_id else None
        facts = {
            "run_id": row.run_id,
            "lane": row.lane,
            "on_wire_since": row.wire_at,
            "lease_until": row.lease_until,
            "host": run.host if run else None,
            "pid": run.pid if run else None,
        }
        who = f"lane {row.lane} of run {row.run_id}"
        lease = _at(row.lease_until)
        if row.lease_until is None or row.lease_until <= case.now:
            said = f"It was claimed by {who}, whose lease ended {lease}: its sender died or hangs."
            return Reason.SENDER_DIED, said, _TAKEN_BACK, facts
        if died := self._died(case, run):
            said = f"It was claimed by {who}, {died}."
            return Reason.SENDER_DIED, said, f"when its lease has ended {lease}, {_TAKEN_BACK}", facts
        since = f" since {_at(row.wire_at)}" if row.wire_at else ""
        if (seconds := look.silence) is not None and row.run_id == look.run_id:
            facts["unanswered_seconds"] = round(seconds)
            said = f"It is being sent by {who}{since}, but the relay is silent: {_nobody(seconds)}."
            return Reason.RELAY_SILENT, said, _ASK_RELAY, facts
        said = f"It is being sent by {who}{since}; its lease ends {lease} unless it is renewed."
        return Reason.BEING_SENT, said, "", facts

    def _died(self, case: _Case, run: RunRow | None) -> str:
        """How the sender of a mail ended whose lease still lasts; nothing if it lives, or nothing is known of it."""
        if run is None:
            return ""
        # A helper has its own signs of life, and its own end.
        lane = self.reports.lane(run.run_id, case.row.lane) if case.row.lane else None
        ended_at = lane.left_at if lane else run.finished_at
        if ended_at is not None or (lane is None and run.outcome is not None):
            return f"which has ended{_on(ended_at)} without it"
        beat = (lane or run).heartbeat_at
        silent = (case.now - beat).total_seconds() if beat is not None else 0.0
        if silent > case.look.patience.dead_after:
            return f"which has given no sign of life for {silent:.0f} s: its process died, or hangs"
        return ""


def _in_a_run(look: Look, before: str, facts: dict[str, Any]) -> tuple[Reason, str, str]:
    """What is said of a mail that is due while a run goes on."""
    if look.run_id is None:
        return Reason.RUN_IN_PROGRESS, f"It is due, and a run is about to begin; {before} before it.", _WATCH
    facts["run_id"] = look.run_id
    if (seconds := look.silence) is not None:
        facts["unanswered_seconds"] = round(seconds)
        said = f"It is due, but the relay is silent: {_nobody(seconds)} in run {look.run_id}; {before} before it."
        return Reason.RELAY_SILENT, said, _ASK_RELAY
    return Reason.RUN_IN_PROGRESS, f"It is due, and run {look.run_id} is sending; {before} before it.", _WATCH


def _without_a_run(look: Look, before: str) -> tuple[Reason, str, str]:
    """What is said of a mail that is due while none goes on."""
    for name, reason in _HINDRANCES.items():
        if (found := look.finding(name)) is not None:
            return reason, f"It is due, but {found.what}.", found.advice
    v, next_run = look.health, look.next_run
    if look.finding(NO_RUN) is not None:
        since = "ever begun" if v.last_sign is None else f"begun for {v.last_sign:.0f} s"
        said = f"It is due, but no run has {since}: beat or worker is not there."
        return Reason.NO_RUN, said, "start one with `celery -A mailbatch worker -B`; `mailbatch doctor` looks at all"
    if (late := look.finding(NO_TICK)) is not None:
        said = f"It is due, but {late.what}; it was to be{_on(next_run.at)}."
        return Reason.NO_TICK, said, f"{late.advice}; {_SEND_NOW}"
    when = "a run; no beat has planned one yet"
    if next_run.at is not None:
        when = (
            f"the next run, which is due now{_on(next_run.at)}"
            if next_run.due_now
            else f"the next run{_on(next_run.at)}"
        )
    return Reason.WAITS_FOR_RUN, f"It is due and waits for {when}; {before} before it.", _SEND_NOW


_HINDRANCES = {REDIS_AWAY: Reason.REDIS_AWAY, FOREIGN_LOCK: Reason.LOCKED, IDLE_LOCK: Reason.LOCKED}
"""Findings that keep every run from beginning, and the reason that each is."""
_WHAT_PAUSED = {Pause.ALL: "all sending", Pause.TICKS: "the ticks"}
_RESUME = "`mailbatch resume` ends that"
_SEND_NOW = "`mailbatch send-all` sends now"
_WATCH = "`mailbatch status` shows how far it is"
_TAKEN_BACK = "the next run takes it back, by ON_DOUBT if it may have been on the wire"
_ANEW = "reserve it anew if it still matters"
_Told = tuple[Reason, str, str, dict[str, Any]]


def _sent(case: _Case) -> _Told:
    row = case.row
    reply = f"{row.reply_code or ''} {row.reply_text or ''}".strip()
    if row.reply_code is None or row.relay is None:
        said = f"It counts as sent{_on(row.sent_at)}: an operator has resolved a doubt so."
        return Reason.SENT, said, "", {"sent_at": row.sent_at}
    said = f"It was taken{_on(row.sent_at)} by {row.relay}, which said: {reply}."
    facts = {"sent_at": row.sent_at, "relay": row.relay, "reply": reply, "run_id": row.run_id}
    advice = f"what the relay did with it is in its log, under {_in_a_log(row)}"
    return Reason.SENT, said, advice, facts


def _failed(case: _Case) -> _Told:
    row = case.row
    said = f"It failed for good{_on(row.finished_at)}: {row.last_error or 'no reason was noted'}."
    again = f"mend the cause, then `mailbatch requeue {row.id}`"
    return Reason.FAILED, said, f"mend the cause; {_too_late(case)}" if case.overdue else again, {}


def _cancelled(case: _Case) -> _Told:
    row = case.row
    said = f"It was cancelled{_on(row.finished_at)}."
    back = f"`mailbatch restore {row.id}` takes that back"
    return Reason.CANCELLED, said, _too_late(case) if case.overdue else back, {}


def _expired(case: _Case) -> _Told:
    row = case.row
    said = f"It expired{_on(row.finished_at)} and was not sent: {row.last_error or 'its time had passed'}."
    return Reason.EXPIRED, said, _ANEW, {"expires_at": row.expires_at}


def _in_doubt(case: _Case) -> _Told:
    row = case.row
    since = row.wire_at or (case.attempts[-1].ended_at if case.attempts else None)
    said = f"It is in doubt{' since ' + _at(since) if since else ''}: it went out, and no verdict came back."
    again = _too_late(case) if case.overdue else f"`mailbatch requeue {row.id}`"
    advice = (
        f"look for {_in_a_log(row)} in the relay's log; there: `mailbatch resolve {row.id} --sent`, not there: {again}"
    )
    facts = {"in_doubt_since": since, "message_id": row.message_id, "run_id": row.run_id, "relay": row.relay}
    return Reason.IN_DOUBT, said, advice, facts


def _in_a_log(row: ReservationRow) -> str:
    """What to look for in the relay's log: a row that somebody wrote as sent or in doubt may have no Message-ID."""
    return str(row.message_id or "its recipients")


def _too_late(case: _Case) -> str:
    return f"it cannot go again, because its time passed{_on(case.row.expires_at)}: {_ANEW}"


_ENDED: dict[Status, Callable[[_Case], _Told]] = {
    Status.SENT: _sent,
    Status.FAILED: _failed,
    Status.CANCELLED: _cancelled,
    Status.EXPIRED: _expired,
    Status.IN_DOUBT: _in_doubt,
}


def _history(case: _Case) -> dict[str, Any]:
    """What every explanation ends with."""
    row = case.row
    last = case.attempts[-1] if case.attempts else None
    tried = None
    if last is not None:
        said = " ".join(str(part) for part in (last.reply_code or "", last.reply_text or "") if part)
        tried = f"{last.outcome} at {_at(last.ended_at)}: {said}"
    return {
        "attempts": row.attempts,
        "last_try": tried,
        "last_error": row.last_error,
        "accepted_by": sorted(to for to, v in (row.verdicts or {}).items() if v["kind"] == "accepted"),
        "message_id": row.message_id,
        "priority": row.priority,
    }


_ASK_RELAY = "does the relay answer? `mailbatch doctor` asks it"


def _nobody(seconds: float) -> str:
    return f"nobody was answered for {seconds:.0f} s"


def _mails(count: int) -> str:
    return "no mail goes" if not count else "1 mail goes" if count == 1 else f"{count} mails go"


def _at(when: datetime | None) -> str:
    return f"{when:%Y-%m-%d %H:%M:%S} UTC" if when is not None else "an unknown time"


def _on(when: datetime | None) -> str:
    return f" at {_at(when)}" if when is not None else ""
