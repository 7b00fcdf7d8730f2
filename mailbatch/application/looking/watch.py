"""Watch over a job from outside of its runs: what went wrong without anybody being left to say so."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from mailbatch.application.looking.next_run import NextRun
from mailbatch.domain.circuit import CircuitState
from mailbatch.domain.errors import LockUnavailable
from mailbatch.domain.finding import (
    FOREIGN_LOCK,
    IDLE_LOCK,
    LEASES_ENDED,
    NO_PROGRESS,
    NO_RUN,
    NO_TICK,
    REDIS_AWAY,
    RELAY_AWAY,
    RELAY_REFUSES,
    RUN_DIED,
    Finding,
    Level,
)
from mailbatch.domain.health import is_alive, longer, nobody_runs, unanswered
from mailbatch.domain.redaction.addresses import public
from mailbatch.domain.reply_kinds import Concern
from mailbatch.domain.reservation import EARLIEST
from mailbatch.domain.run import Pause

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime
    from uuid import UUID

    from mailbatch.application.ports.reports import HealthQuery
    from mailbatch.application.ports.runs import Driver, PauseStore, Runs
    from mailbatch.application.ports.sending import Circuits
    from mailbatch.domain.circuit import Circuit
    from mailbatch.domain.health import HealthSnapshot, Patience
    from mailbatch.domain.lock import Holder


_TO_DO = {
    Concern.QUOTA: "wait until it counts anew, or ask the relay's provider for more",
    Concern.ACCOUNT: "log in at the relay's provider and look why, and check user and password in MAILBATCH_SMTP_URL",
    Concern.SYSTEM: "tell whoever runs the relay",
}
"""What helps where a relay takes no mail until somebody acts or a time is over, by what its refusal speaks of."""
BEGINNING = 5.0
"""Seconds within which a run that has taken the lock writes its row."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What goes on with a job at one moment: every screen reads it here, so that no two of them differ.

    ``findings``: what is wrong, worst first. ``begins``: a run has just taken the lock and has no row yet.
    ``redis_error``: why Redis cannot be asked, None if it can, or was not asked. ``sends``: the job sends mail.
    ``held``: for how many seconds the lock is held, None if it is free.
    """

    health: HealthSnapshot
    patience: Patience
    pause: Pause
    circuit: Circuit
    findings: list[Finding]
    begins: bool = False
    redis_error: str | None = None
    sends: bool = True
    held: float | None = None

    @property
    def alive(self) -> bool:
        """Whether a run shows signs of life."""
        return is_alive(self.health, self.patience)

    @property
    def running(self) -> bool:
        """Whether a run goes on: one shows signs of life, or has just taken the lock.

        The lock alone does not say so: a process that was killed holds it until its time to live is over, and a run
        without the lock (``send-all --here --no-lock``) goes on as well.
        """
        return self.alive or self.begins

    @property
    def run_id(self) -> UUID | None:
        """The run that goes on; None if there is none, or it has no row yet."""
        return self.health.open_run if self.alive else None

    @property
    def unanswered(self) -> float | None:
        """See the function of that name."""
        return unanswered(self.health, self.patience) if self.sends else None

    @property
    def silence(self) -> float | None:
        """Seconds for which nobody was answered, if that is too long."""
        seconds = self.unanswered
        return seconds if seconds is not None and seconds > self.patience.unanswered else None

    @property
    def next_run(self) -> NextRun:
        """When the next run begins."""
        v = self.health
        return NextRun(at=v.next_tick_at, left=v.next_tick, paused=self.pause is not Pause.NONE)

    @property
    def blocked(self) -> str | None:
        """Why none can begin although none goes on: a process that was killed holds the lock; None if none does."""
        if self.running or self.held is None:
            return None
        if (found := self.finding(FOREIGN_LOCK, IDLE_LOCK)) is not None:
            return f"{found.what}; {found.advice}"
        return f"no run shows a sign of life, but the lock is held for {self.held:.0f} s more; then one can begin"

    @property
    def down(self) -> list[str]:
        """What could not be asked."""
        return [] if self.redis_error is None else ["redis"]

    def finding(self, *names: str) -> Finding | None:
        """The first finding that has one of ``names``."""
        return next((found for found in self.findings if found.name in names), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """Look at a job, and tell what is wrong with it; whoever calls this is not its run, and may outlive it.

    ``remaining`` counts what a run that died has left. ``sends``: the job sends mail; the backlog and the relay say
    nothing of another one.
    """

    health_query: HealthQuery
    runs: Runs
    pause_store: PauseStore
    driver: Driver | None
    circuits: Circuits
    relay: str
    patience: Callable[[], Patience]
    remaining: Callable[[], int] = lambda: 0
    sends: bool = True

    def __call__(self, job: str, *, close: bool = False) -> list[Finding]:
        """Return what is wrong with ``job``, worst first; see ``look``."""
        return self.look(job, close=close).findings

    def unanswered(self, job: str) -> float | None:
        """Seconds for which nobody was answered; see the function of that name. Raises ``StoreError``."""
        return unanswered(self.health_query.health(job, 0.0), self.patience())

    def look(self, job: str, *, close: bool = False, lock: bool = True) -> Look:
        """Return what goes on with ``job``. With ``close``, runs that died are closed as failed.

        Without ``lock`` Redis is not asked.

        Raises ``StoreError``. A Redis that cannot be asked is a finding, and costs those about the lock.
        """
        p = self.patience()
        # Before the database: a run takes the lock first and writes its row then.
        holder, redis_error = self._holder() if lock else (None, None)
        v = self.health_query.health(job, ended_for=2 * p.lease)
        if close and v.silent is not None and v.silent > p.dead_after + p.lock_ttl:
            # Not sooner: it may be a database that was away. After this time its lock is gone as well.
            self.runs.close_dead(job, p.dead_after + p.lock_ttl, self.remaining)
        look = Look(
            health=v,
            patience=p,
            pause=self.pause_store.paused(job),
            circuit=self.circuits.look(self.relay),
            findings=[],
            begins=_begins(v, p, holder),
            redis_error=redis_error,
            sends=self.sends,
            held=holder.left if holder is not None else None,
        )
        look.findings.extend(
            [
                *self._runs(job, look),
                *_redis(look),
                *self._lock(job, holder, look),
                *_beat(look),
                *(self._mail(job, look) if self.sends else ()),
            ]
        )
        look.findings.sort(key=lambda finding: finding.level is not Level.ERROR)
        return look

    def _runs(self, job: str, look: Look) -> Iterator[Finding]:
        v, p = look.health, look.patience
        if v.silent is not None and v.silent > p.dead_after:
            yield _died(v, v.silent, f"run {v.open_run} of {job} is silent: its process died, or hangs")
        elif v.died is not None and not look.begins:
            yield _died(v, v.died, f"a run of {job} died without an end; its row is closed")
        if self.sends and nobody_runs(v, p) and look.pause is Pause.NONE:
            since = "ever begun" if v.last_sign is None else f"begun for {v.last_sign:.0f} s"
            waits = v.oldest_waiting or 0.0
            # What has expired is due no more, and counts as waiting all the same: nobody has come for it.
            due = f"been due for {v.oldest_due:.0f} s" if v.oldest_due else f"waited for {waits:.0f} s and expired"
            yield Finding(
                name=NO_RUN,
                level=Level.ERROR,
                what=f"mail has {due}, and no run of {job} has {since}",
                since=_ago(v, min(waits, v.last_sign or math.inf)),
                advice="is a beat running, and a worker whose clock is right? "
                "start one with `celery -A mailbatch worker -B`",
            )

    def _mail(self, job: str, look: Look) -> Iterator[Finding]:
        yield from self._answers(job, look.health, look.patience)
        yield from _leases(look)
        yield from _relay(look)

    def _lock(self, job: str, holder: Holder | None, look: Look) -> Iterator[Finding]:
        v, p = look.health, look.patience
        if self.driver is None or holder is None:
            pass
        elif holder.other_database is not None:
            yield Finding(
                name=FOREIGN_LOCK,
                level=Level.ERROR,
                what=f"{holder.owner} runs {job} on another database, {holder.other_database}, under our lock "
                f"{self.driver.key}: meanwhile no run can begin here",
                since=None,
                advice="two installations share this Redis: give each a MAILBATCH_NAMESPACE of its own",
            )
        elif not look.begins and longer(v.last_sign, p.dead_after + p.lock_ttl):
            never = ", and never ends" if math.isinf(holder.left) else ""
            yield Finding(
                name=IDLE_LOCK,
                level=Level.ERROR,
                what=f"the lock of {job} is held{never}, but no run shows a sign of life",
                since=_ago(v, v.last_sign),
                advice=f"see `mailbatch doctor` for who holds it; end that process, or delete the Redis key "
                f"{self.driver.key}",
            )

    def _answers(self, job: str, v: HealthSnapshot, p: Patience) -> Iterator[Finding]:
        seconds = unanswered(v, p)
        if seconds is not None and seconds > p.unanswered:
            mails = "1 mail is under way" if v.under_way == 1 else f"{v.under_way} mails are under way"
            yield Finding(
                name=NO_PROGRESS,
                level=Level.ERROR if seconds > p.stuck else Level.WARNING,
                what=f"nobody was answered for {seconds:.0f} s: {mails} to the relay {self.relay} in run "
                f"{v.open_run} of {job}",
                since=_ago(v, seconds),
                advice="does the relay answer? `mailbatch doctor` asks it; the run gives up by itself when the relay's "
                "time limits are over",
            )

    def _holder(self) -> tuple[Holder | None, str | None]:
        """Who holds the lock; or why Redis cannot say that."""
        try:
            return (self.driver.holder() if self.driver is not None else None), None
        except LockUnavailable as error:
            return None, str(error)


def _redis(look: Look) -> Iterator[Finding]:
    if look.redis_error is not None:
        yield Finding(
            name=REDIS_AWAY,
            level=Level.ERROR,
            what=f"no run can begin: {public(look.redis_error)}",
            since=None,
            advice="check MAILBATCH_REDIS_URL and that the server runs, `mailbatch doctor` asks it; meanwhile "
            "`mailbatch send-all --here --no-lock` sends without it",
        )


def _beat(look: Look) -> Iterator[Finding]:
    late, v, p = look.next_run.late, look.health, look.patience
    if late is not None:
        # Runs that somebody else starts, a cron job say, need no beat.
        stuck = late > p.stuck and longer(v.last_sign, p.quiet)
        yield Finding(
            name=NO_TICK,
            level=Level.ERROR if stuck else Level.WARNING,
            what=f"beat's tick is {late:.0f} s late",
            since=_ago(v, late),
            advice="is a beat running? start one with `celery -A mailbatch worker -B`",
        )


def _leases(look: Look) -> Iterator[Finding]:
    v, p = look.health, look.patience
    if v.ended:
        paused = look.pause is not Pause.NONE
        why = "it is paused, `mailbatch resume` ends that" if paused else "why is there none?"
        yield Finding(
            name=LEASES_ENDED,
            level=Level.WARNING if paused else Level.ERROR,
            what=f"{v.ended} mails are claimed by a sender whose lease ended more than {2 * p.lease:.0f} s ago",
            since=_ago(v, v.oldest_ended),
            advice=f"the next run takes them back: {why} {_start(look)} starts one",
        )


def _relay(look: Look) -> Iterator[Finding]:
    circuit = look.circuit
    if circuit.state is CircuitState.CLOSED:
        return
    reason = public(circuit.reason or "")
    if circuit.concern in _TO_DO:
        until = f"until {circuit.open_until:%Y-%m-%d %H:%M:%S} UTC" if circuit.left > 0 else "until the next run"
        yield Finding(
            name=RELAY_REFUSES,
            level=Level.ERROR,
            what=f"the relay {circuit.relay} takes no mail and is left alone {until}: {reason}",
            since=circuit.opened_at,
            advice=f"{_TO_DO[circuit.concern]}; no mail loses an attempt; {_start(look)} tries it at once",
        )
    else:
        ahead = "is left alone" if circuit.left > 0 else "is asked by one mail at the next run"
        yield Finding(
            name=RELAY_AWAY,
            level=Level.WARNING,
            what=f"the relay {circuit.relay} failed and {ahead}: {reason}",
            since=circuit.opened_at,
            advice=f"`mailbatch doctor` asks it; {_start(look)} tries it at once",
        )


def _start(look: Look) -> str:
    """The command that starts a run now."""
    return "after `mailbatch resume` `mailbatch send-all`" if look.pause is Pause.ALL else "`mailbatch send-all`"


def _begins(v: HealthSnapshot, p: Patience, holder: Holder | None) -> bool:
    """Whether a run has just taken the lock and has no row yet.

    Whoever holds the lock for longer without one has ended, was killed, or is no run of ours. An open row is that of
    the holder, dead or alive.
    """
    if holder is None or holder.other_database is not None or math.isinf(holder.left) or v.silent is not None:
        return False
    held = p.lock_ttl - holder.left
    # A sign of life since then is that of a run which ends just now.
    return held < min(BEGINNING, p.lock_ttl / 3) and (v.last_sign is None or v.last_sign > held)


def _died(v: HealthSnapshot, seconds: float, what: str) -> Finding:
    return Finding(
        name=RUN_DIED,
        level=Level.ERROR,
        what=what,
        since=_ago(v, seconds),
        advice="look for a kill or an out-of-memory in the worker's and the system's log; the next run takes over",
    )


def _ago(v: HealthSnapshot, seconds: float | None) -> datetime | None:
    if seconds is None or math.isinf(seconds):
        return None
    # A row may say that it is older than time itself.
    return v.now - timedelta(seconds=min(seconds, (v.now - EARLIEST).total_seconds()))
