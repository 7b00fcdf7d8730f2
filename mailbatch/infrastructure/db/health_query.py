"""Signs of life of a job and its backlog, in one statement that reads a handful of index entries."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import sqlalchemy as sa

from mailbatch.domain.health import HealthSnapshot
from mailbatch.domain.run import ITEMS_WAIT, RunOutcome
from mailbatch.domain.settlement import AWAY_FOR
from mailbatch.infrastructure.db.conditions import CLOCKS_DIFFER, OPEN_RUN, PENDING, SENDING, SENT
from mailbatch.infrastructure.db.counting import count_up_to
from mailbatch.infrastructure.db.engine import reading
from mailbatch.infrastructure.db.oldest import oldest_due
from mailbatch.infrastructure.db.runs import DIED
from mailbatch.infrastructure.db.tables import batch_lanes, batch_runs, batch_schedule, mail_attempts, mail_reservations
from mailbatch.infrastructure.db.types import now, seconds_since

if TYPE_CHECKING:
    from sqlalchemy.engine import Engine


_r = mail_reservations.c
_a = mail_attempts.c
_b = batch_runs.c
_LATELY = 5
"""Runs among which the last sign of life is looked for: one that began earlier may live longer."""
_A_RUN = 60.0
"""Seconds that the next run may take until it says again what mails wait for."""
_MOST = 10_000
"""Claims that are counted at most."""


@dataclass(frozen=True, slots=True)
class SqlHealthQuery:
    """The port ``HealthQuery`` on PostgreSQL and SQLite."""

    engine: Engine

    def health(self, job: str, ended_for: float) -> HealthSnapshot:
        """Read the signs of life; see the port."""
        newest = sa.select(batch_runs).where(_b.job == job).order_by(_b.started_at.desc())
        last, lately = newest.limit(1).cte("last"), newest.limit(_LATELY).cte("lately")
        silent = (
            sa.select(
                _b.run_id,
                seconds_since(_b.started_at).label("age"),
                seconds_since(_b.heartbeat_at).label("silent"),
            )
            .where(_b.job == job, OPEN_RUN)
            .order_by(_b.heartbeat_at.desc())
            .limit(1)
            .cte("silent")
        )
        ended = (
            sa.select(_r.lease_until)
            .where(SENDING, _r.lease_until < now(-ended_for))
            .order_by(_r.lease_until)
            .limit(_MOST)
            .cte("ended")
        )
        fault = _fault(lately)
        since = seconds_since
        slot = sa.select(batch_schedule).where(batch_schedule.c.name == job).cte("slot")
        statement = sa.select(
            now().label("now"),
            sa.select(since(oldest_due())).scalar_subquery().label("oldest_due"),
            sa.select(since(oldest_due(expired=True))).scalar_subquery().label("oldest_waiting"),
            sa.select(since(sa.func.max(lately.c.heartbeat_at))).scalar_subquery().label("last_sign"),
            sa.select(since(slot.c.last_tick_at)).scalar_subquery().label("last_tick"),
            sa.select(-since(slot.c.next_tick_at)).scalar_subquery().label("next_tick"),
            sa.select(slot.c.next_tick_at).scalar_subquery().label("next_tick_at"),
            sa.select(silent.c.run_id).scalar_subquery().label("open_run"),
            sa.select(silent.c.age).scalar_subquery().label("run_age"),
            sa.select(silent.c.silent).scalar_subquery().label("silent"),
            sa.select(since(last.c.finished_at)).where(last.c.error == DIED).scalar_subquery().label("died"),
            count_up_to(_MOST, SENDING, _r.lease_until >= now()).label("under_way"),
            sa.select(since(sa.func.max(_answers().c.at))).scalar_subquery().label("answered"),
            sa.select(sa.func.count()).select_from(ended).scalar_subquery().label("ended"),
            sa.select(since(sa.func.min(ended.c.lease_until))).scalar_subquery().label("oldest_ended"),
            sa.select(fault.c.error).scalar_subquery().label("fault"),
            sa.select(since(fault.c.finished_at)).scalar_subquery().label("fault_age"),
        )
        with reading(self.engine) as connection:
            return HealthSnapshot(**connection.execute(statement).mappings().one())


def _fault(lately: sa.CTE) -> sa.CTE:
    """Select the newest error of a run, or of its helpers, that says what mails wait for.

    The last run counts. An earlier one counts only while its mails may still wait, because the runs after it did not
    claim them. If nothing is pending, no mail waits any more.
    """
    waits = sa.exists().select_from(mail_reservations).where(PENDING)
    went = lately.c.outcome.in_([RunOutcome.COMPLETED.value, RunOutcome.FAILED.value])
    last = sa.select(sa.func.max(lately.c.started_at)).where(went).scalar_subquery()
    lane = batch_lanes.c
    of_lane = sa.select(sa.func.min(lane.error)).where(
        lane.run_id == lately.c.run_id, lane.error.startswith(ITEMS_WAIT)
    )
    own = sa.case((lately.c.error.startswith(ITEMS_WAIT), lately.c.error), else_=of_lane.scalar_subquery())
    recent = sa.select(lately.c.started_at, lately.c.finished_at, own.label("error")).where(
        went, waits, sa.or_(lately.c.started_at == last, lately.c.finished_at > now(-AWAY_FOR - _A_RUN))
    )
    found = recent.subquery()
    return sa.select(found).where(found.c.error.is_not(None)).order_by(found.c.started_at.desc()).limit(1).cte("fault")


def _answers() -> sa.Subquery:
    """Select the time of the newest reply of each kind, which an index has at the end of a range.

    Mails that were cancelled, expired or left without a verdict have no reply. A time in the future is not from us, and
    does not count.
    """
    sent = sa.select(sa.func.max(_r.finished_at).label("at")).where(
        SENT, _r.finished_at.is_not(None), _r.finished_at <= now(CLOCKS_DIFFER)
    )
    refused = [
        sa.select(sa.func.max(_a.ended_at)).where(_a.outcome == outcome, _a.ended_at <= now(CLOCKS_DIFFER))
        for outcome in ("failed", "deferred")
    ]
    return sa.union_all(sent, *refused).subquery()
