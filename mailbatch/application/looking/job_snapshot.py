"""What goes on with a job at one moment. Every screen reads it here, so no two screens contradict each other."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mailbatch.application.looking.next_run import NextRun
from mailbatch.domain.finding import FOREIGN_LOCK, IDLE_LOCK
from mailbatch.domain.health import is_alive, unanswered
from mailbatch.domain.run import Pause

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from mailbatch.domain.circuit import Circuit
    from mailbatch.domain.finding import Finding
    from mailbatch.domain.health import HealthSnapshot, Patience
    from mailbatch.domain.lock import Holder

BEGINNING = 5.0
"""Seconds within which a run that has taken the lock writes its row."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSnapshot:
    """The state of ``job``, as the watch has read it.

    ``circuit``: that of the relay; of several relays that of one that is away, if any is. ``findings``: what is wrong,
    the worst first. ``holder``: who holds the lock; None if it is free, or if Redis was
    not asked. ``redis_error``: why Redis did not answer; None if it did, or was not asked. ``lock_key``: the Redis key
    of the lock. ``sends``: the job sends mail; of another job the backlog and the relay say nothing.
    """

    job: str
    health: HealthSnapshot
    patience: Patience
    pause: Pause
    circuit: Circuit
    other_circuits: Sequence[Circuit] = ()
    findings: Sequence[Finding] = ()
    holder: Holder | None = None
    redis_error: str | None = None
    lock_key: str = ""
    sends: bool = True

    @property
    def alive(self) -> bool:
        """Whether a run shows signs of life."""
        return is_alive(self.health, self.patience)

    @property
    def begins(self) -> bool:
        """Whether a run has just taken the lock and has no row yet.

        A process that holds the lock for longer without a row has ended, was killed, or is no run of ours. A row
        without an end belongs to the holder, dead or alive.
        """
        holder, health = self.holder, self.health
        if holder is None or holder.other_database is not None or health.silent is not None:
            return False
        if math.isinf(holder.expires_in):
            return False
        held_for = self.patience.lock_ttl - holder.expires_in
        # A later sign of life comes from a run that ends just now.
        is_new = held_for < min(BEGINNING, self.patience.lock_ttl / 3)
        return is_new and (health.last_sign is None or health.last_sign > held_for)

    @property
    def running(self) -> bool:
        """Whether a run goes on: one shows signs of life, or has just taken the lock.

        The lock alone does not prove it. A process that was killed holds the lock until its time to live is over, and a
        run without the lock (``send-all --here --no-lock``) goes on as well.
        """
        return self.alive or self.begins

    @property
    def run_id(self) -> UUID | None:
        """The run that goes on; None if there is none, or if it has no row yet."""
        return self.health.open_run if self.alive else None

    @property
    def unanswered(self) -> float | None:
        """Seconds for which the relay has answered to no mail; see ``health.unanswered``."""
        return unanswered(self.health, self.patience) if self.sends else None

    @property
    def silence(self) -> float | None:
        """Seconds for which the relay has answered to no mail, if that is too long."""
        seconds = self.unanswered
        return seconds if seconds is not None and seconds > self.patience.unanswered else None

    @property
    def next_run(self) -> NextRun:
        """When the next run begins."""
        health = self.health
        return NextRun(at=health.next_tick_at, due_in=health.next_tick, paused=self.pause is not Pause.NONE)

    @property
    def blocked(self) -> str | None:
        """Why no run can begin although none goes on, for example because a killed process holds the lock."""
        if self.running or self.holder is None:
            return None
        if (found := self.finding(FOREIGN_LOCK, IDLE_LOCK)) is not None:
            return f"{found.what}; {found.advice}"
        seconds = f"{self.holder.expires_in:.0f}"
        return f"no run shows a sign of life, but the lock is held for {seconds} s more; then one can begin"

    @property
    def down(self) -> list[str]:
        """The servers that did not answer."""
        return [] if self.redis_error is None else ["redis"]

    def finding(self, *names: str) -> Finding | None:
        """Return the first finding that has one of ``names``."""
        return next((found for found in self.findings if found.name in names), None)
