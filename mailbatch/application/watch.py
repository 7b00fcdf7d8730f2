"""Watch over a job from outside of its runs: what went wrong without anybody being left to say so."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

from mailbatch.domain.circuit import CircuitState
from mailbatch.domain.errors import LockUnavailable
from mailbatch.domain.run import Pause, public

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime
    from uuid import UUID

    from mailbatch.application.ports import Circuits, Driver, Runs, Switch


ALL_IS_WELL = "nothing is overdue, stuck or left behind"
"""What is said when a look finds nothing wrong."""


class Level(StrEnum):
    """How bad a finding is."""

    ERROR = "error"
    """Mail does not go, or the record is wrong: somebody must act, unless the next run mends it."""
    WARNING = "warning"
    """Something to know; it may pass by itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What is wrong, since when, and what to do about it. ``name`` is the same each time it is found."""

    name: str
    level: Level
    what: str
    since: datetime | None
    advice: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Vitals:
    """The signs of life of a job and its backlog, at ``now`` by the database's clock; ages in seconds.

    ``last_sign``: since a run began, beat or ended. ``silent``: since the newest run without an end has beaten.
    ``last_tick``: since beat has ticked; ``next_tick``: until it means to, negative when that is over.
    ``died``: since a run that nobody ended was closed, if none has begun since. ``on_wire``: for how long the oldest
    living claim has been held; ``finished``: since any mail was. ``ended``: leases over for longer than was asked for.
    """

    now: datetime
    oldest_due: float | None = None
    last_sign: float | None = None
    last_tick: float | None = None
    next_tick: float | None = None
    open_run: UUID | None = None
    silent: float | None = None
    died: float | None = None
    on_wire: float | None = None
    finished: float | None = None
    ended: int = 0
    oldest_ended: float | None = None


class Pulse(Protocol):
    """Feels for signs of life."""

    def vitals(self, job: str, ended_for: float) -> Vitals:
        """Those of ``job``; counts leases that have been over for ``ended_for`` seconds. May raise ``StoreError``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long each thing may take, in seconds, before something is said.

    ``quiet``: as long as two ticks take. ``dead_after``: silence of a run. ``stuck``: a mail on the wire.
    """

    quiet: float
    dead_after: float
    lock_ttl: float
    lease: float
    stuck: float = 900.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """Look at a job, and tell what is wrong with it; whoever calls this is not its run, and may outlive it.

    ``remaining`` counts what a run that died has left.
    """

    pulse: Pulse
    runs: Runs
    switch: Switch
    driver: Driver | None
    circuits: Circuits
    relay: str
    patience: Callable[[], Patience]
    remaining: Callable[[], int] = lambda: 0

    def __call__(self, job: str, *, close: bool = False) -> list[Finding]:
        """Answer what is wrong with ``job``, worst first. With ``close``, runs that died are closed as failed.

        Raises ``StoreError``. A Redis that cannot be asked costs the findings about the lock only.
        """
        p = self.patience()
        # Before the database: a run takes the lock first and writes its row then.
        held = self._held()
        v = self.pulse.vitals(job, ended_for=2 * p.lease)
        if close and v.silent is not None and v.silent > p.dead_after + p.lock_ttl:
            # Not sooner: it may be a database that was away. After this time its lock is gone as well.
            self.runs.close_dead(job, p.dead_after + p.lock_ttl, self.remaining)
        found = [*self._runs(job, v, p), *self._lock(job, held, v, p), *self._leases(v, p), *self._relay()]
        return sorted(found, key=lambda finding: finding.level is not Level.ERROR)

    def _runs(self, job: str, v: Vitals, p: Patience) -> Iterator[Finding]:
        if v.silent is not None and v.silent > p.dead_after:
            yield _died(v, v.silent, f"run {v.open_run} of {job} is silent: its process died, or hangs")
        elif v.died is not None:
            yield _died(v, v.died, f"a run of {job} died without an end; its row is closed")
        if nobody_runs(v, p) and self.switch.paused(job) is Pause.NONE:
            since = "ever begun" if v.last_sign is None else f"begun for {v.last_sign:.0f} s"
            yield Finding(
                name="no_run",
                level=Level.ERROR,
                what=f"mail has been due for {v.oldest_due:.0f} s, and no run of {job} has {since}",
                since=_ago(v, min(v.oldest_due or 0.0, v.last_sign or math.inf)),
                advice="is a beat running, and a worker whose clock is right? "
                "start one with `celery -A mailbatch worker -B`",
            )

    def _lock(self, job: str, held: float | None, v: Vitals, p: Patience) -> Iterator[Finding]:
        if self.driver is not None and held is not None and _longer(v.last_sign, p.dead_after + p.lock_ttl):
            never = ", and never ends" if math.isinf(held) else ""
            yield Finding(
                name="lock_without_run",
                level=Level.ERROR,
                what=f"the lock of {job} is held{never}, but no run shows a sign of life",
                since=_ago(v, v.last_sign),
                advice=f"see `mailbatch doctor` for who holds it; end that process, or delete the Redis key "
                f"{self.driver.key}",
            )
        alive = v.silent is not None and v.silent <= p.dead_after
        if alive and v.on_wire is not None and v.on_wire > p.stuck and _longer(v.finished, p.stuck):
            yield Finding(
                name="no_progress",
                level=Level.ERROR,
                what=f"run {v.open_run} of {job} lives, but its mails have been on the wire for {v.on_wire:.0f} s",
                since=_ago(v, v.on_wire),
                advice="does the relay answer? `mailbatch doctor`; kill the run's process if it hangs",
            )

    def _leases(self, v: Vitals, p: Patience) -> Iterator[Finding]:
        if v.ended:
            yield Finding(
                name="leases_ended",
                level=Level.ERROR,
                what=f"{v.ended} mails are claimed by a sender whose lease ended more than {2 * p.lease:.0f} s ago",
                since=_ago(v, v.oldest_ended),
                advice="the next run takes them back: why is there none? `mailbatch send-all` starts one",
            )

    def _relay(self) -> Iterator[Finding]:
        circuit = self.circuits.look(self.relay)
        if circuit.state is not CircuitState.CLOSED:
            ahead = "is left alone" if circuit.left > 0 else "is asked by one mail at the next run"
            yield Finding(
                name="relay_away",
                level=Level.WARNING,
                what=f"the relay {circuit.relay} failed and {ahead}: {public(circuit.reason or '')}",
                since=circuit.opened_at,
                advice="`mailbatch doctor` asks it; `mailbatch send-all` tries it at once",
            )

    def _held(self) -> float | None:
        try:
            return self.driver.peek() if self.driver is not None else None
        except LockUnavailable:
            return None


def nobody_runs(v: Vitals, p: Patience) -> bool:
    """Whether mail has been due for two intervals and no run has begun as long."""
    waits = v.oldest_due is not None and v.oldest_due > p.quiet
    # After a pause, say: a beat has planned the first tick, and has not had the time for two.
    begins = v.next_tick is not None and v.next_tick > 0 and _longer(v.last_tick, p.quiet)
    return waits and not begins and _longer(v.last_sign, p.quiet)


def _died(v: Vitals, seconds: float, what: str) -> Finding:
    return Finding(
        name="run_died",
        level=Level.ERROR,
        what=what,
        since=_ago(v, seconds),
        advice="look for a kill or an out-of-memory in the worker's and the system's log; the next run takes over",
    )


def _longer(seconds: float | None, than: float) -> bool:
    """Whether it is longer ago; what never was is."""
    return seconds is None or seconds > than


def _ago(v: Vitals, seconds: float | None) -> datetime | None:
    return None if seconds is None or math.isinf(seconds) else v.now - timedelta(seconds=seconds)
