"""The signs of life of a job and its backlog, and what they say."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime
    from uuid import UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthSnapshot:
    """The signs of life of a job and its backlog, at ``now`` by the database's clock; ages in seconds.

    ``last_sign``: since a run began, beat or ended. ``silent``: since the newest run without an end has beaten.
    ``last_tick``: since beat has ticked; ``next_tick``: until it means to, negative when that is over;
    ``next_tick_at`` is the same as a point in time.
    ``oldest_waiting``: as ``oldest_due``, mails included whose time has passed and which no run has marked yet.
    ``run_age``: since the begin of the run without an end that has beaten last. ``died``: since a run that died was
    closed, if none has begun since. ``under_way``: mails in claims whose lease lasts, up to 10,000; ``answered``: since
    an answer to any mail was written. ``ended``: leases over for longer than was asked for. ``fault``: what mails of a
    recent run wait for, because all of them share it, as the run's error says; ``fault_age``: since that run ended.
    """

    now: datetime
    oldest_due: float | None = None
    oldest_waiting: float | None = None
    last_sign: float | None = None
    last_tick: float | None = None
    next_tick: float | None = None
    next_tick_at: datetime | None = None
    open_run: UUID | None = None
    run_age: float | None = None
    silent: float | None = None
    died: float | None = None
    under_way: int = 0
    answered: float | None = None
    ended: int = 0
    oldest_ended: float | None = None
    fault: str | None = None
    fault_age: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long each thing may take, in seconds, before something is said.

    ``quiet``: as long as two ticks take. ``dead_after``: silence of a run. ``unanswered``: a run that has mails under
    way and gets no answer to any; from ``stuck`` on that is an error.
    """

    quiet: float
    dead_after: float
    lock_ttl: float
    lease: float
    unanswered: float = 25.0
    stuck: float = 300.0


def is_alive(v: HealthSnapshot, p: Patience) -> bool:
    """Whether a run goes on, by its heartbeat."""
    return v.silent is not None and v.silent <= p.dead_after


def unanswered(v: HealthSnapshot, p: Patience) -> float | None:
    """Seconds for which a run that goes on has had mails to send and got no answer to any; None if that is not so.

    Mails that are due count like those under way: between two tries all of them may be given back. An answer is what
    was written of a mail: sent, failed or put off. Where the relay is silent (it hangs, it never greets, its name is
    not resolved), refuses each connection, or says 421 to each, there is none. Counted from the begin of the run at
    the earliest.
    """
    if not is_alive(v, p) or not (v.under_way or v.oldest_due is not None):
        return None
    return min(v.run_age or 0.0, math.inf if v.answered is None else v.answered)


def nobody_runs(v: HealthSnapshot, p: Patience) -> bool:
    """Whether mail has been waiting for two intervals and no run has begun as long."""
    waits = v.oldest_waiting is not None and v.oldest_waiting > p.quiet
    # After a pause, say: a beat has planned the first tick, and has not had the time for two.
    begins = v.next_tick is not None and v.next_tick > 0 and longer(v.last_tick, p.quiet)
    return waits and not begins and longer(v.last_sign, p.quiet)


def longer(seconds: float | None, than: float) -> bool:
    """Return whether ``seconds`` have passed; None stands for a time that never was, which is longer than any."""
    return seconds is None or seconds > than
