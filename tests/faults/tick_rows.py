"""Ticks that come late (row 6); what else may befall a clock or a beat is tried by tests, as the matrix says."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING

import sqlalchemy as sa
from faults.fault import Fault
from support.waiting import wait_until

from mailbatch.infrastructure.db.tables import batch_runs, batch_schedule
from mailbatch.infrastructure.db.types import now

if TYPE_CHECKING:
    from faults.house import House

LATE = timedelta(hours=3)
DUE = 100_000
STUCK = 60.0
"""Seconds without a mail after which the run is stuck. How long all of them take depends on the machine."""


def nobody_ticks(house: House) -> None:
    """Worker and beat have ticked, and are gone."""
    worker = house.worker
    assert worker is not None
    house.wait(lambda: "job finished" in house.log(), 30, "a first tick")
    house.kill("group")
    wait_until(lambda: not worker.running, 10, "the worker is gone")


def back_after_hours(house: House) -> None:
    """They come back, hours after the tick that was next; one run must do."""
    schedule, runs = batch_schedule.c, batch_runs.c
    with house.database() as connection:
        late = {"next_tick_at": now(-LATE.total_seconds()), "last_tick_at": now(-LATE.total_seconds() - 300)}
        connection.execute(sa.update(batch_schedule).where(schedule.name == "send-all").values(late))
        before = connection.execute(sa.select(sa.func.count()).select_from(batch_runs)).scalar_one()

    def newest() -> tuple[int, int] | None:
        with house.database() as connection:
            count = connection.execute(sa.select(sa.func.count()).select_from(batch_runs)).scalar_one() - before
            latest = sa.select(runs.sent, runs.finished_at).order_by(runs.started_at.desc()).limit(1)
            newest = connection.execute(latest).one()
        return (count, newest.sent) if count and newest.finished_at else None

    begun = taken = len(house.relay.accepted())
    while taken < begun + DUE and newest() is None:
        house.wait(partial(_moves, house, taken), STUCK, f"more than {taken - begun} mails of the late run")
        taken = len(house.relay.accepted())
    house.wait(newest, STUCK, "the late run to end")
    assert newest() == (1, DUE), f"runs, and mails of the newest: {newest()}"


def _moves(house: House, taken: int) -> bool:
    """Whether the relay has taken more than ``taken`` mails."""
    return len(house.relay.accepted()) > taken


TICKS = [
    Fault(
        row="6a",
        name="worker and beat are away for three hours, 100,000 mails are due then, and one tick sends them",
        prepare=nobody_ticks,
        injure=back_after_hours,
        mails=DUE,
        columns={"scheduled_at": lambda _: datetime.now(UTC) - LATE},
        settings={"SCHEDULE": 300, "CONNECTIONS": 4, "WINDOW": 32, "LEASE": 60, "LOCK_TTL": 30},
        lasts=STUCK,
        short=False,
    )
]
