"""Explain a reservation that has not been sent yet: what it waits for."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from mailbatch.application.looking.explanation import ASK_RELAY, Cause, Reason, at, at_if_known, no_answer_for
from mailbatch.application.looking.outlook import likely_end
from mailbatch.application.sending.gates.gates import first_that_holds
from mailbatch.domain.circuit import CircuitState
from mailbatch.domain.errors import Busy, CannotCompose, ResourceAway
from mailbatch.domain.finding import FOREIGN_LOCK, IDLE_LOCK, NO_RUN, NO_TICK, REDIS_AWAY
from mailbatch.domain.gate import NEVER
from mailbatch.domain.run import Pause

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mailbatch.application.looking.explanation import Case
    from mailbatch.application.looking.job_snapshot import JobSnapshot
    from mailbatch.application.ports.gating import Gate
    from mailbatch.application.ports.reports import Reports, Upcoming
    from mailbatch.application.ports.sending import Composer
    from mailbatch.domain.rows import ReservationRow

MOST_AHEAD = 10_000
"""Mails that are counted at most to say how many are sent before this one."""
_OBSTACLES = {REDIS_AWAY: Reason.REDIS_AWAY, FOREIGN_LOCK: Reason.LOCKED, IDLE_LOCK: Reason.LOCKED}
"""The findings that keep every run from beginning, and the reason that each is."""
_GOES_IN_TURN = frozenset({Reason.RUN_IN_PROGRESS, Reason.WAITS_FOR_RUN})
_WHAT_PAUSED = {Pause.ALL: "all sending", Pause.TICKS: "the ticks"}
_RESUME = "`mailbatch resume` ends that"
_SEND_NOW = "`mailbatch send-all` sends now"
_STATUS = "`mailbatch status` shows how far it is"


@dataclass(frozen=True, slots=True)
class ExplainPending:
    """Explain a reservation that is pending. ``urgent_from``: the priority from which on mail starts a run."""

    reports: Reports
    upcoming: Upcoming
    compose: Composer
    gates: Sequence[Gate]
    job: str
    urgent_from: int | None = None

    def __call__(self, case: Case) -> Cause:
        """Return why it has not been sent."""
        row = case.row
        problems = self._problems(row)
        cause = self._cause(case, problems)
        facts: dict[str, Any] = {"due_at": row.due_at, "expires_at": row.expires_at}
        if problems:
            facts["would_fail"] = problems
        return replace(cause, facts=facts | dict(cause.facts))

    def _cause(self, case: Case, problems: list[str]) -> Cause:
        row = case.row
        if case.has_expired:
            sentence = f"Its time passed{at_if_known(row.expires_at)}: the next run marks it as expired."
            return Cause(Reason.EXPIRES, sentence)
        if (held_back := self._held_back(case)) is not None:
            return held_back
        if row.due_at > case.now:
            return _not_due(case)
        due: dict[str, Any] = {
            "due_for_seconds": round((case.now - row.due_at).total_seconds()),
            "next_run_at": case.snapshot.next_run.planned,
        }
        cause = self._due(case)
        will_fail = f" As it stands it will fail then: {problems[0]}." if problems else ""
        return replace(cause, sentence=cause.sentence + will_fail, facts=due | dict(cause.facts))

    def _held_back(self, case: Case) -> Cause | None:
        """Return why a gate keeps a mail whose own time has come; None if none does."""
        row = case.row
        if row.due_at > case.now and row.waits_for is None:
            return None
        answer = first_that_holds(self.gates, row.as_claimed(0, {}), case.now)
        if answer is None and row.due_at <= case.now:
            return None
        if answer is None and row.due_at >= NEVER:
            sentence = f"It was held back because {row.waits_for}, which is over: the next run sends it."
            return Cause(Reason.WAITS_FOR_RUN, sentence, _SEND_NOW)
        until = answer.at if answer is not None else row.due_at
        why = answer.reason if answer is not None else row.waits_for
        if until is None:
            sentence = f"It is held back: {why}."
            advice = f"`mailbatch unblock {row.tag}` lets it go"
            return Cause(Reason.HELD_BACK, sentence, advice, {"waits_for": why})
        sentence = f"It is held back until {at(until)}: {why}."
        return Cause(Reason.HELD_BACK, sentence, "wait, it goes by itself", {"waits_for": why})

    def _due(self, case: Case) -> Cause:
        """Return why a mail that is due has not been sent, the strongest reason first."""
        snapshot = case.snapshot
        if snapshot.pause is Pause.ALL or (snapshot.pause is Pause.TICKS and not snapshot.running):
            return Cause(
                Reason.PAUSED, f"It is due, but an operator has paused {_WHAT_PAUSED[snapshot.pause]}.", _RESUME
            )
        relay = {"relay_reason": snapshot.circuit.reason}
        if snapshot.circuit.seconds_left > 0:
            sentence = f"It is due, but {snapshot.circuit.told()}."
            return Cause(Reason.RELAY_AWAY, sentence, "`mailbatch send-all` tries it at once", relay)
        ahead = self.upcoming.ahead(case.row, MOST_AHEAD)
        facts: dict[str, Any] = {"ahead": ahead}
        if snapshot.running:
            cause = _in_a_run(snapshot, _mails_ahead(ahead))
        else:
            facts["last_run"] = self._last_run()
            if snapshot.circuit.state is not CircuitState.CLOSED:
                facts |= relay
            cause = _without_a_run(snapshot, _mails_ahead(ahead), urgent=self._is_urgent(case.row))
        return self._with_its_turn(replace(cause, facts=facts | dict(cause.facts)), snapshot, ahead)

    def _is_urgent(self, row: ReservationRow) -> bool:
        return self.urgent_from is not None and row.priority >= self.urgent_from and not row.claim_no

    def _with_its_turn(self, cause: Cause, snapshot: JobSnapshot, ahead: int) -> Cause:
        """Add when its turn is likely to come, if nothing else holds it back and the rate is known."""
        if cause.reason not in _GOES_IN_TURN or "goes_at_once" in cause.facts:
            return cause
        if (turn := likely_end(self.reports, self.job, snapshot, ahead)) is None:
            return cause
        about = "not before about" if ahead >= MOST_AHEAD else "at about"
        whose = "of this run" if snapshot.running else "of the last runs"
        sentence = f"{cause.sentence} At the rate {whose} it goes {about} {at(turn)}."
        return replace(cause, sentence=sentence, facts=dict(cause.facts) | {"likely_at": turn})

    def _last_run(self) -> str | None:
        last = next((run for run in self.reports.runs(self.job, 2) if run.outcome is not None), None)
        return f"{last.outcome}{at_if_known(last.finished_at)}: {last.error or 'no error'}" if last else None

    def _problems(self, row: ReservationRow) -> list[str]:
        """Return why it cannot be composed; nothing if it can."""
        try:
            self.compose(row.as_claimed(0, {}))
        except ResourceAway:
            return []  # it will not fail: it waits
        except CannotCompose as error:
            return list(error.errors)
        except Busy:
            return []  # This is not known now. All else that is said of the mail is true.
        return []


def _not_due(case: Case) -> Cause:
    row, pause = case.row, case.snapshot.pause
    paused = f"an operator has paused {_WHAT_PAUSED[pause]}; {_RESUME}" if pause is not Pause.NONE else ""
    if row.attempts and row.retry_at is not None:
        why = row.last_error or "it was put off"
        sentence = f"It waits for its next try{at_if_known(row.due_at)}, after {row.attempts} that failed: {why}."
        return Cause(Reason.WAITS_FOR_RETRY, sentence, paused or "wait, it goes by itself")
    if row.retry_at is not None and row.retry_at == row.due_at and row.last_error:
        sentence = f"It was put back and waits for its next try{at_if_known(row.due_at)}: {row.last_error}."
        return Cause(Reason.WAITS_FOR_RETRY, sentence, paused or "wait, it goes by itself")
    return Cause(Reason.NOT_DUE, f"It is not due before {at(row.due_at)}.", paused)


def _in_a_run(snapshot: JobSnapshot, before: str) -> Cause:
    """Return why a mail waits while a run goes on. ``before``: how many mails go first."""
    if snapshot.run_id is None:
        sentence = f"It is due, and a run is about to begin; {before} before it."
        return Cause(Reason.RUN_IN_PROGRESS, sentence, _STATUS)
    facts: dict[str, Any] = {"run_id": snapshot.run_id}
    if (seconds := snapshot.silence) is not None:
        facts["unanswered_seconds"] = round(seconds)
        silent = f"the relay is silent: {no_answer_for(seconds)} in run {snapshot.run_id}"
        return Cause(Reason.RELAY_SILENT, f"It is due, but {silent}; {before} before it.", ASK_RELAY, facts)
    sentence = f"It is due, and run {snapshot.run_id} is sending; {before} before it."
    return Cause(Reason.RUN_IN_PROGRESS, sentence, _STATUS, facts)


def _without_a_run(snapshot: JobSnapshot, before: str, *, urgent: bool) -> Cause:
    """Return why a mail waits while no run goes on. ``before``: how many mails go first."""
    for name, reason in _OBSTACLES.items():
        if (found := snapshot.finding(name)) is not None:
            return Cause(reason, f"It is due, but {found.what}.", found.advice)
    next_run, last_sign = snapshot.next_run, snapshot.health.last_sign
    if snapshot.finding(NO_RUN) is not None:
        since = "ever begun" if last_sign is None else f"begun for {last_sign:.0f} s"
        sentence = f"It is due, but no run has {since}: beat or worker is not there."
        advice = "start one with `celery -A mailbatch worker -B`; `mailbatch doctor` looks at all"
        return Cause(Reason.NO_RUN, sentence, advice)
    if urgent:
        sentence = f"It is due and urgent: a worker starts a run for it at once; {before} before it."
        advice = "if it still waits after some seconds, is a worker running?"
        return Cause(Reason.WAITS_FOR_RUN, sentence, advice, {"goes_at_once": True})
    if (late := snapshot.finding(NO_TICK)) is not None:
        sentence = f"It is due, but {late.what}; it was to be{at_if_known(next_run.at)}."
        return Cause(Reason.NO_TICK, sentence, f"{late.advice}; {_SEND_NOW}")
    sentence = f"It is due and waits for {_next_run(snapshot)}; {before} before it."
    return Cause(Reason.WAITS_FOR_RUN, sentence, _SEND_NOW)


def _next_run(snapshot: JobSnapshot) -> str:
    next_run = snapshot.next_run
    if next_run.at is None:
        return "a run; no beat has planned one yet"
    if next_run.due_now:
        return f"the next run, which is due now{at_if_known(next_run.at)}"
    return f"the next run{at_if_known(next_run.at)}"


def _mails_ahead(count: int) -> str:
    if count >= MOST_AHEAD:
        return f"{MOST_AHEAD} or more mails go"
    return "no mail goes" if not count else "1 mail goes" if count == 1 else f"{count} mails go"
