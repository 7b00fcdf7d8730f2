"""Say why a reservation has not gone yet, or what became of it: one sentence first, then the facts."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol

from mailbatch.application.ports import ClaimedMail
from mailbatch.application.watch import is_alive, nobody_runs, unanswered
from mailbatch.domain.circuit import CircuitState
from mailbatch.domain.errors import Busy, CannotCompose, NotFound
from mailbatch.domain.message import Claim
from mailbatch.domain.reservation import MAIL_FIELDS, Mail, Status
from mailbatch.domain.run import Pause

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime
    from uuid import UUID

    from mailbatch.application.operating_ports import Reports, Reservations, Row
    from mailbatch.application.ports import Composer, Switch
    from mailbatch.application.watch import Vitals, Watch
    from mailbatch.domain.circuit import Circuit

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
    NO_RUN = "no_run"
    WAITS_FOR_RUN = "waits_for_run"
    SENT = "sent"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    IN_DOUBT = "in_doubt"


class Queue(Protocol):
    """Knows who goes first."""

    def ahead(self, row: Row, most: int) -> int:
        """How many due reservations go before ``row``, counted up to ``most``."""


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

    row: Row
    attempts: Sequence[Row]
    vitals: Vitals
    pause: Pause
    circuit: Circuit
    next_run_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Explain:
    """Explain reservations of ``job``. The watch lends its eyes and its patience."""

    reservations: Reservations
    reports: Reports
    queue: Queue
    switch: Switch
    watch: Watch
    compose: Composer
    job: str = "send-all"

    def __call__(self, reservation_id: UUID) -> Explanation:
        """Explain one. Raises ``NotFound``."""
        row = self.reservations.get(reservation_id)
        if row is None:
            raise NotFound(f"no reservation {reservation_id}")
        case = _Case(
            row=row,
            attempts=self.reservations.attempts(reservation_id),
            vitals=self.watch.pulse.vitals(self.job, 0.0),
            pause=self.switch.paused(self.job),
            circuit=self.watch.circuits.look(self.watch.relay),
            next_run_at=self.reports.next_tick_at(self.job),
        )
        status = Status(row["status"])
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
        row, v = case.row, case.vitals
        facts: dict[str, Any] = {"due_at": row["due_at"], "expires_at": row["expires_at"]}
        problems = self._problems(row)
        if problems:
            facts["would_fail"] = problems
        if row["expires_at"] is not None and row["expires_at"] <= v.now:
            said = f"Its time passed{_on(row['expires_at'])}: the next run marks it as expired."
            return Reason.EXPIRES, said, "", facts
        if row["due_at"] > v.now:
            return self._waiting(case, facts)
        facts |= {"due_for_seconds": round((v.now - row["due_at"]).total_seconds()), "next_run_at": case.next_run_at}
        reason, sentence, advice = self._held_up(case, facts)
        if problems:
            sentence += f" As it stands it will fail then: {problems[0]}."
        return reason, sentence, advice, facts

    def _waiting(self, case: _Case, facts: dict[str, Any]) -> _Told:
        row = case.row
        if row["attempts"] and row["retry_at"] is not None:
            why = row["last_error"] or "it was put off"
            said = f"It waits for its next try{_on(row['due_at'])}, after {row['attempts']} that failed: {why}."
            return Reason.WAITS_FOR_RETRY, said, "wait, it goes by itself", facts
        return Reason.NOT_DUE, f"It is not due before {_at(row['due_at'])}.", "", facts

    def _held_up(self, case: _Case, facts: dict[str, Any]) -> tuple[Reason, str, str]:
        """Why a mail that is due has not gone, the strongest reason first."""
        v, p = case.vitals, self.watch.patience()
        alive = is_alive(v, p)
        if case.pause is Pause.ALL or (case.pause is Pause.TICKS and not alive):
            what = "all sending" if case.pause is Pause.ALL else "the ticks"
            return Reason.PAUSED, f"It is due, but an operator has paused {what}.", "`mailbatch resume` ends that"
        if case.circuit.left > 0:
            facts["relay_reason"] = case.circuit.reason
            return Reason.RELAY_AWAY, f"It is due, but {case.circuit.told()}.", "`mailbatch send-all` tries it at once"
        ahead = self.queue.ahead(case.row, MOST_AHEAD)
        facts["ahead"] = ahead
        before = f"{MOST_AHEAD} or more mails go" if ahead >= MOST_AHEAD else f"{_mails(ahead)}"
        if alive:
            facts["run_id"] = v.open_run
            if (seconds := self._silence(v)) is not None:
                facts["unanswered_seconds"] = round(seconds)
                said = (
                    f"It is due, but the relay is silent: {_nobody(seconds)} in run {v.open_run}; {before} before it."
                )
                return Reason.RELAY_SILENT, said, _ASK_RELAY
            said = f"It is due, and run {v.open_run} is sending; {before} before it."
            return Reason.RUN_IN_PROGRESS, said, "`mailbatch status` shows how far it is"
        if nobody_runs(v, p):
            since = "ever begun" if v.last_sign is None else f"begun for {v.last_sign:.0f} s"
            said = f"It is due, but no run has {since}: beat or worker is not there."
            return (
                Reason.NO_RUN,
                said,
                "start one with `celery -A mailbatch worker -B`; `mailbatch doctor` looks at all",
            )
        facts["last_run"] = self._last_run()
        if case.circuit.state is not CircuitState.CLOSED:
            facts["relay_reason"] = case.circuit.reason
        when = f"the next run{_on(case.next_run_at)}" if case.next_run_at else "a run; no beat has planned one yet"
        return (
            Reason.WAITS_FOR_RUN,
            f"It is due and waits for {when}; {before} before it.",
            "`mailbatch send-all` sends now",
        )

    def _silence(self, v: Vitals) -> float | None:
        """For how long nobody was answered, if that is too long."""
        p = self.watch.patience()
        seconds = unanswered(v, p)
        return seconds if seconds is not None and seconds > p.unanswered else None

    def _last_run(self) -> str | None:
        last = next((run for run in self.reports.runs(self.job, 2) if run["outcome"] is not None), None)
        return f"{last['outcome']}{_on(last['finished_at'])}: {last['error'] or 'no error'}" if last else None

    def _problems(self, row: Row) -> list[str]:
        """Why it could not be composed, if it could not."""
        mail = ClaimedMail(
            claim=Claim(row["id"], row["claim_no"]),
            index=0,
            mail=Mail(**{name: row[name] for name in MAIL_FIELDS}),
            message_id=row["message_id"] or f"<{row['id']}@mailbatch.invalid>",
            attempts=row["attempts"],
            earlier={},
        )
        try:
            self.compose(mail)
        except CannotCompose as error:
            return list(error.errors)
        except Busy:
            return []  # It is not known now; all else that is said of the mail is true.
        return []

    # --- it is being sent ---

    def _sending(self, case: _Case) -> _Told:
        row, v = case.row, case.vitals
        run = self.reports.run(row["run_id"]) if row["run_id"] else None
        facts = {
            "run_id": row["run_id"],
            "lane": row["lane"],
            "on_wire_since": row["wire_at"],
            "lease_until": row["lease_until"],
            "host": run["host"] if run else None,
            "pid": run["pid"] if run else None,
        }
        who = f"lane {row['lane']} of run {row['run_id']}"
        if row["lease_until"] > v.now:
            since = f" since {_at(row['wire_at'])}" if row["wire_at"] else ""
            if (seconds := self._silence(v)) is not None:
                facts["unanswered_seconds"] = round(seconds)
                said = f"It is being sent by {who}{since}, but the relay is silent: {_nobody(seconds)}."
                return Reason.RELAY_SILENT, said, _ASK_RELAY, facts
            said = f"It is being sent by {who}{since}; its lease ends {_at(row['lease_until'])} unless it is renewed."
            return Reason.BEING_SENT, said, "", facts
        said = f"It was claimed by {who}, whose lease ended {_at(row['lease_until'])}: its sender died or hangs."
        advice = "the next run takes it back, by ON_DOUBT if it may have been on the wire"
        return Reason.SENDER_DIED, said, advice, facts


_Told = tuple[Reason, str, str, dict[str, Any]]


def _sent(case: _Case) -> _Told:
    row = case.row
    reply = f"{row['reply_code'] or ''} {row['reply_text'] or ''}".strip()
    if row["reply_code"] is None or row["relay"] is None:
        said = f"It counts as sent{_on(row['sent_at'])}: an operator has resolved a doubt so."
        return Reason.SENT, said, "", {"sent_at": row["sent_at"]}
    said = f"It was taken{_on(row['sent_at'])} by {row['relay']}, which said: {reply}."
    facts = {"sent_at": row["sent_at"], "relay": row["relay"], "reply": reply, "run_id": row["run_id"]}
    advice = f"what the relay did with it is in its log, under {row['message_id']}"
    return Reason.SENT, said, advice, facts


def _failed(case: _Case) -> _Told:
    row = case.row
    said = f"It failed for good{_on(row['finished_at'])}: {row['last_error'] or 'no reason was noted'}."
    return Reason.FAILED, said, f"mend the cause, then `mailbatch requeue {row['id']}`", {}


def _cancelled(case: _Case) -> _Told:
    row = case.row
    said = f"It was cancelled{_on(row['finished_at'])}."
    return Reason.CANCELLED, said, f"`mailbatch requeue {row['id']}` takes that back", {}


def _expired(case: _Case) -> _Told:
    row = case.row
    said = f"It expired{_on(row['finished_at'])} and was not sent: {row['last_error'] or 'its time had passed'}."
    return Reason.EXPIRED, said, "reserve it anew if it still matters", {"expires_at": row["expires_at"]}


def _in_doubt(case: _Case) -> _Told:
    row = case.row
    since = row["wire_at"] or (case.attempts[-1]["ended_at"] if case.attempts else None)
    said = f"It is in doubt{' since ' + _at(since) if since else ''}: it went out, and no verdict came back."
    advice = (
        f"look for {row['message_id']} in the relay's log; there: `mailbatch resolve {row['id']} --sent`, "
        f"not there: `mailbatch requeue {row['id']}`"
    )
    facts = {"in_doubt_since": since, "message_id": row["message_id"], "run_id": row["run_id"], "relay": row["relay"]}
    return Reason.IN_DOUBT, said, advice, facts


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
        said = " ".join(str(part) for part in (last["reply_code"] or "", last["reply_text"] or "") if part)
        tried = f"{last['outcome']} at {_at(last['ended_at'])}: {said}"
    return {
        "attempts": row["attempts"],
        "last_try": tried,
        "last_error": row["last_error"],
        "accepted_by": sorted(to for to, v in (row["verdicts"] or {}).items() if v["kind"] == "accepted"),
        "message_id": row["message_id"],
        "priority": row["priority"],
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
