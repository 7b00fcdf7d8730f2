"""The watch over a job: each finding appears, and disappears when its cause is gone, on SQLite and PostgreSQL."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa

from mailbatch.application.looking.watch import Watch
from mailbatch.domain.errors import LockUnavailable
from mailbatch.domain.finding import Level
from mailbatch.domain.health import Patience
from mailbatch.domain.lock import Holder
from mailbatch.domain.reply_kinds import Concern
from mailbatch.domain.run import Pause
from mailbatch.infrastructure.db.circuits import SqlCircuits
from mailbatch.infrastructure.db.engine import connect
from mailbatch.infrastructure.db.health_query import SqlHealthQuery
from mailbatch.infrastructure.db.reports import SqlReports
from mailbatch.infrastructure.db.runs import SqlPauseStore, SqlRuns
from mailbatch.infrastructure.db.tables import batch_runs, batch_schedule, mail_attempts, mail_reservations
from mailbatch.infrastructure.db.types import now

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy.engine import Engine

JOB, RELAY = "send-all", "relay.example:25"
PATIENCE = Patience(quiet=600, dead_after=10, lock_ttl=30, lease=60, unanswered=25, stuck=300)


@dataclass
class FakeDriver:
    held: float | None = None
    away: bool = False
    other_database: str | None = None
    key: str = "shop:job:lock:send-all"

    def holder(self) -> Holder | None:
        if self.away:
            raise LockUnavailable("Redis is away")
        if self.held is None:
            return None
        return Holder(owner="here:1", expires_in=self.held, other_database=self.other_database)


@dataclass
class World:
    engine: Engine
    driver: FakeDriver = field(default_factory=FakeDriver)

    @property
    def watch(self) -> Watch:
        return Watch(
            health_query=SqlHealthQuery(self.engine),
            runs=SqlRuns(self.engine),
            pause_store=SqlPauseStore(self.engine),
            lock_observer=self.driver,
            circuits=SqlCircuits(self.engine),
            relay=RELAY,
            patience=lambda: PATIENCE,
        )

    def names(self, *, close: bool = False) -> list[str]:
        return [finding.name for finding in self.watch(JOB, close=close)]

    def mail(self, due: float, **columns: Any) -> UUID:
        """A reservation due ``due`` seconds ago."""
        row = {"id": uuid4(), "recipients": "a@example.org", "subject": "s", "body_text": "t", **columns}
        with self.engine.begin() as connection:
            connection.execute(sa.insert(mail_reservations).values(scheduled_at=now(-due), **row))
        return row["id"]

    def run(self, beat: float, **columns: Any) -> UUID:
        """A run that began and beat ``beat`` seconds ago."""
        row = {"run_id": uuid4(), "job": JOB, "trigger": "beat", **columns}
        with self.engine.begin() as connection:
            times = {"started_at": now(-beat), "heartbeat_at": now(-beat)}
            connection.execute(sa.insert(batch_runs).values(**times, **row))
        return row["run_id"]

    def change(self, table: sa.Table, **values: Any) -> None:
        with self.engine.begin() as connection:
            connection.execute(sa.update(table).values(**values))


@pytest.fixture
def world(database_url: str) -> Iterator[World]:
    engine = connect(database_url)
    yield World(engine)
    engine.dispose()


def test_nothing_is_wrong_with_an_idle_job_and_with_one_that_works(world):
    assert world.names() == []
    world.mail(due=-3600)
    world.run(beat=0, outcome="completed")
    world.mail(due=30)
    world.run(beat=2)
    world.driver.held = 25.0
    assert world.names() == []


def test_a_backlog_with_no_run_for_two_intervals_is_seen_until_one_runs(world):
    world.mail(due=700, priority=3)
    world.mail(due=-50, priority=9)
    [found] = world.watch(JOB)
    assert (found.name, found.level) == ("no_run", Level.ERROR)
    assert "no run of send-all has ever begun" in found.what
    world.run(beat=650, outcome="completed", finished_at=now(-650))
    [found] = world.watch(JOB)
    assert "has begun for 65" in found.what
    assert found.since is not None
    world.run(beat=3, outcome="failed", finished_at=now())
    assert world.names() == []


def test_mail_that_is_late_for_less_than_two_intervals_is_no_finding(world):
    world.mail(due=500)
    assert world.names() == []


@pytest.mark.parametrize("pause", [Pause.TICKS, Pause.ALL])
def test_a_pause_is_no_missing_run(world, pause):
    world.mail(due=700)
    SqlPauseStore(world.engine).set(JOB, pause)
    assert world.names() == []


@pytest.mark.parametrize(
    ("last_tick", "next_tick", "found"),
    [
        (-5000, 200, []),  # resumed after a pause: the first tick is still to come
        (None, 200, []),  # a beat that began just now
        (-100, 200, ["no_run"]),  # it ticks, and no worker is there
        (-5000, -4700, ["no_run", "no_tick"]),  # no beat is there
    ],
)
def test_a_beat_that_has_only_begun_to_tick_is_given_its_time(world, last_tick, next_tick, found):
    world.mail(due=5000)
    with world.engine.begin() as connection:
        ticks = {"last_tick_at": now(last_tick) if last_tick else None, "next_tick_at": now(next_tick)}
        connection.execute(sa.insert(batch_schedule).values(name=JOB, **ticks))
    assert world.names() == found


def test_a_run_that_fell_silent_is_seen_then_closed_and_named_until_the_next_one(world):
    run = world.run(beat=20)
    [found] = world.watch(JOB, close=True)
    assert (found.name, str(run) in found.what) == ("run_died", True)
    assert SqlRuns(world.engine).outcome_of(run) is None  # it may be the database that was away
    world.change(batch_runs, heartbeat_at=now(-41))
    assert world.names(close=True) == ["run_died"]
    assert SqlRuns(world.engine).outcome_of(run) == "failed"
    assert world.names() == ["run_died"]
    world.run(beat=0, outcome="completed")
    assert world.names() == []


def test_looking_alone_closes_nothing(world):
    run = world.run(beat=100)
    assert world.names() == ["run_died"]
    assert SqlRuns(world.engine).outcome_of(run) is None


def test_a_lock_that_nobody_uses_is_seen_until_it_is_gone(world):
    world.run(beat=100, outcome="completed")
    world.driver.held = math.inf
    [found] = world.watch(JOB)
    assert found.name == "lock_without_run"
    assert "never ends" in found.what
    world.driver.held = None
    assert world.names() == []
    world.driver.away = True
    [found] = world.watch(JOB)
    assert (found.name, found.level, found.what) == ("redis_away", Level.ERROR, "no run can begin: Redis is away")


@pytest.mark.parametrize(("left", "begins"), [(29.0, True), (20.0, False), (math.inf, False)])
def test_a_lock_says_that_a_run_begins_only_while_it_is_new(world, left, begins):
    world.run(beat=100, outcome="completed", finished_at=now(-90))
    world.driver.held = left
    look = world.watch.look(JOB)
    assert (look.running, [found.name for found in look.findings]) == (begins, [] if begins else ["lock_without_run"])


def test_a_run_that_ends_just_now_begins_no_other(world):
    # In a minute, so that its end stays newer than the lock however long the test takes.
    world.run(beat=100, outcome="completed", finished_at=now(60))
    world.change(batch_runs, heartbeat_at=now(60))
    world.driver.held = 29.0
    assert not world.watch.look(JOB).running


@pytest.mark.parametrize(
    ("late", "run", "level"), [(20, None, Level.WARNING), (400, None, Level.ERROR), (400, 100, Level.WARNING)]
)
def test_a_tick_that_is_late_is_an_error_only_where_nobody_else_starts_runs(world, late, run, level):
    with world.engine.begin() as connection:
        connection.execute(sa.insert(batch_schedule).values(name=JOB, next_tick_at=now(-late)))
    if run is not None:
        world.run(beat=run, outcome="completed", finished_at=now(-run))
    [found] = world.watch(JOB)
    assert (found.name, found.level) == ("no_tick", level)
    SqlPauseStore(world.engine).set(JOB, Pause.TICKS)
    assert world.names() == []
    SqlPauseStore(world.engine).set(JOB, Pause.NONE)
    assert world.names() == [], "a pause has ended, and beat is only about to see it"


def test_another_databases_run_under_our_lock_is_named_and_nobody_is_told_to_delete_its_lock(world):
    world.run(beat=100, outcome="completed")
    world.driver.held, world.driver.other_database = 20.0, "shop (PostgreSQL)"
    [found] = world.watch(JOB)
    assert found.name == "lock_of_another_database"
    assert "shop (PostgreSQL)" in found.what
    assert "delete" not in found.what + found.advice
    assert "MAILBATCH_NAMESPACE" in found.advice


@pytest.fixture
def waiting(world) -> World:
    """A run that began 100 s ago, lives, and has two mails under way."""
    world.run(beat=100)
    world.change(batch_runs, heartbeat_at=now(-1))
    for _ in range(2):
        # As in strict mode: the claim does not say when its mail went on the wire.
        world.mail(due=105, status="sending", lease_until=now(50))
    return world


def test_a_run_that_nobody_answers_is_seen_until_somebody_does(waiting):
    [found] = waiting.watch(JOB)
    assert (found.name, found.level) == ("no_progress", Level.WARNING)
    assert found.what.startswith("nobody was answered for 10")
    assert f"2 mails are under way to the relay {RELAY}" in found.what
    assert 99 < waiting.watch.unanswered(JOB) < 110
    waiting.mail(due=5, status="sent", finished_at=now(-10))
    assert waiting.names() == []
    assert 9 < waiting.watch.unanswered(JOB) < 20
    waiting.change(batch_runs, outcome="completed", finished_at=now(0))
    assert waiting.watch.unanswered(JOB) is None


@pytest.mark.parametrize(
    ("concern", "advice"),
    [
        (Concern.QUOTA, "wait until the quota begins again"),
        (Concern.ACCOUNT, "provider and look why"),
        (Concern.SYSTEM, "operator of the relay"),
    ],
)
def test_a_relay_that_takes_no_mail_is_an_error_that_says_why_and_until_when_and_what_to_do(world, concern, advice):
    SqlCircuits(world.engine).open(
        RELAY, "our quota there is used up: 454 4.7.0 Daily message quota exceeded", 60, concern
    )
    [found] = world.watch(JOB)
    assert (found.name, found.level) == ("relay_refuses", Level.ERROR)
    assert found.what.startswith(f"the relay {RELAY} takes no mail and is left alone until 2")
    assert found.what.endswith("454 4.7.0 Daily message quota exceeded")
    assert advice in found.advice


def test_a_long_silence_is_an_error(waiting):
    waiting.change(batch_runs, started_at=now(-301))
    [found] = waiting.watch(JOB)
    assert (found.name, found.level) == ("no_progress", Level.ERROR)


@pytest.mark.parametrize("outcome", ["failed", "deferred"])
def test_a_refusal_is_an_answer(waiting, outcome):
    own = waiting.mail(due=5)
    with waiting.engine.begin() as connection:
        row = {"reservation_id": own, "claim_no": 1, "outcome": outcome, "ended_at": now(-5)}
        connection.execute(sa.insert(mail_attempts).values(**row))
    assert waiting.names() == []


@pytest.mark.parametrize("status", ["cancelled", "expired", "failed"])
def test_what_others_do_to_mails_is_no_answer(waiting, status):
    own = waiting.mail(due=5, status=status, finished_at=now(-1))
    with waiting.engine.begin() as connection:
        row = {"reservation_id": own, "claim_no": 1, "outcome": "in_doubt", "ended_at": now(-1)}
        connection.execute(sa.insert(mail_attempts).values(**row))
    assert waiting.names() == ["no_progress"]


def test_an_answer_that_lies_ahead_hides_no_silence(waiting):
    waiting.mail(due=5, status="sent", finished_at=now(10**8))
    assert waiting.names() == ["no_progress"]


def test_a_silence_is_not_longer_than_its_run_nor_one_of_a_run_without_mails(world):
    world.mail(due=5000, status="sent", finished_at=now(-4000))
    world.run(beat=2)
    world.mail(due=5, status="sending", lease_until=now(50))
    assert 1 < world.watch.unanswered(JOB) < 10
    world.change(mail_reservations, status="pending", lease_until=None)
    assert 1 < world.watch.unanswered(JOB) < 10  # given back, and to be claimed again
    world.change(mail_reservations, status="cancelled")
    assert world.watch.unanswered(JOB) is None


def test_every_number_of_what_is_due_means_the_same(world):
    """A mail whose time has passed is due no more, but it has waited for a run that never came."""
    world.mail(due=700, expires_at=now(-600))
    world.mail(due=50, priority=4)
    census, health = SqlReports(world.engine).census(), SqlHealthQuery(world.engine).health(JOB, 0.0)
    assert (census.due, census.under_way) == (1, 0)
    assert 49 < census.oldest_due_seconds < 60
    assert 49 < health.oldest_due < 60
    assert 699 < health.oldest_waiting < 710
    [found] = world.watch(JOB)
    assert (found.name, found.level) == ("no_run", Level.ERROR)
    world.change(mail_reservations, priority=0, expires_at=now(-10))
    [found] = world.watch(JOB)
    assert "mail has waited for 70" in found.what
    assert "and expired" in found.what


def test_leases_that_nobody_takes_back_are_counted_until_somebody_does(world):
    world.run(beat=1, outcome="completed")
    world.mail(due=5, status="sending", lease_until=now(-100))
    assert world.names() == []  # the next run is expected to see to it
    for _ in range(3):
        world.mail(due=5, status="sending", lease_until=now(-130))
    [found] = world.watch(JOB)
    assert found.name == "leases_ended"
    assert found.what.startswith("3 mails")
    world.change(mail_reservations, status="pending", lease_until=None)
    assert world.names() == []


def test_a_relay_that_is_left_alone_is_a_warning_and_stands_last(world):
    circuits = SqlCircuits(world.engine)
    circuits.open(RELAY, "refused a@example.org", 60)
    world.mail(due=700)
    *_, found = world.watch(JOB)
    assert (found.name, found.level) == ("relay_away", Level.WARNING)
    assert "refused ***@example.org" in found.what
    circuits.close(RELAY)
    assert world.names() == ["no_run"]
