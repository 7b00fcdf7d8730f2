"""The watch over a job: what it reads, in which order, and what it makes of that; over fakes.

``tests/contract/test_watch.py`` shows on the databases how each finding appears and disappears.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from support.fake_stores import FakeCircuits, FakePauseStore, FakeRuns
from support.fake_tables import FakeHealthQuery, FakeTables
from support.rows import reservation_row, run_row

from mailbatch.application.looking.watch import Watch
from mailbatch.domain.errors import LockUnavailable, StoreError
from mailbatch.domain.finding import Level
from mailbatch.domain.health import Patience
from mailbatch.domain.lock import Holder
from mailbatch.domain.reservation import Status
from mailbatch.domain.run import Pause, RunOutcome
from mailbatch.infrastructure.db.schedule import EntryState

if TYPE_CHECKING:
    from uuid import UUID

    from mailbatch.domain.health import HealthSnapshot

JOB, RELAY = "send-all", "relay.example:25"
PATIENCE = Patience(quiet=600, dead_after=10, lock_ttl=30, lease=60, unanswered=25, stuck=300)


@dataclass
class Observer:
    """The port ``LockObserver``. ``steps`` notes when it is asked."""

    steps: list[str]
    holds: Holder | None = None
    away: bool = False
    key: str = "shop:job:lock:send-all"

    def peek(self) -> float | None:
        raise NotImplementedError

    def holder(self) -> Holder | None:
        self.steps.append("lock")
        if self.away:
            raise LockUnavailable("Redis at ann@redis.example is away")
        return self.holds


@dataclass
class NotedHealthQuery(FakeHealthQuery):
    """Notes when it is asked, and about leases that ended for how long."""

    steps: list[str] = field(default_factory=list)

    def health(self, job: str, ended_for: float) -> HealthSnapshot:
        self.steps.append(f"health {ended_for:g}")
        return super().health(job, ended_for)


class World:
    """A job, and what the watch reads of it."""

    def __init__(self) -> None:
        self.steps: list[str] = []
        self.tables = FakeTables()
        self.runs = FakeRuns(self.tables)
        self.pauses = FakePauseStore(self.tables)
        self.circuits = FakeCircuits(self.tables)
        self.observer: Observer | None = Observer(self.steps)
        self.sends = True

    @property
    def watch(self) -> Watch:
        return Watch(
            health_query=NotedHealthQuery(self.tables, self.steps),
            runs=self.runs,
            pause_store=self.pauses,
            lock_observer=self.observer,
            circuits=self.circuits,
            relay=RELAY,
            patience=lambda: PATIENCE,
            remaining=lambda: 7,
            sends=self.sends,
        )

    def ago(self, seconds: float) -> datetime:
        return self.tables.now - timedelta(seconds=seconds)

    def mail(self, due: float, **given: Any) -> None:
        row = reservation_row(self.ago(due), **given)
        self.tables.reservations[row.id] = row

    def run(self, beat: float, **given: Any) -> UUID:
        """A run that began and beat ``beat`` seconds ago."""
        row = run_row(self.ago(beat), **given)
        self.tables.runs[row.run_id] = row
        return row.run_id

    def names(self, **given: bool) -> list[str]:
        return [finding.name for finding in self.watch.look(JOB, **given).findings]


@pytest.fixture
def world() -> World:
    return World()


def test_an_idle_job_is_well(world):
    look = world.watch.look(JOB)
    assert (look.findings, look.running, look.lock_key) == ([], False, "shop:job:lock:send-all")


def test_the_lock_is_asked_before_the_database_because_a_run_takes_it_first(world):
    world.watch.look(JOB)
    assert world.steps == ["lock", f"health {2 * PATIENCE.lease:g}"]


def test_redis_is_not_asked_if_nobody_wants_to_know_or_nobody_takes_a_lock(world):
    assert world.watch.look(JOB, lock=False).holder is None
    world.observer = None
    assert world.watch.look(JOB).lock_key == ""
    assert "lock" not in world.steps


def test_a_redis_that_does_not_answer_is_a_finding_without_an_address(world):
    world.observer.away = True
    look = world.watch.look(JOB)
    [found] = look.findings
    assert (found.name, found.level, look.down) == ("redis_away", Level.ERROR, ["redis"])
    assert "***@redis.example" in found.what


def test_a_database_that_does_not_answer_is_an_error_of_the_look(world):
    world.circuits.failing = StoreError("away", transient=True)
    with pytest.raises(StoreError):
        world.watch(JOB)


@pytest.mark.parametrize(("silent", "closed"), [(39, False), (41, True)])
def test_a_run_that_died_is_closed_once_its_lock_is_gone_as_well(world, silent, closed):
    run = world.run(beat=silent)
    assert world.names(close=True) == ["run_died"]
    row = world.runs.rows[run]
    assert (row.outcome, row.remaining) == ((RunOutcome.FAILED, 7) if closed else (None, 0))


def test_a_look_that_is_not_told_to_close_changes_nothing(world):
    run = world.run(beat=1000)
    assert world.names() == ["run_died"]
    assert world.runs.outcome_of(run) is None


def test_the_errors_stand_first(world):
    world.circuits.open(RELAY, "refused ann@example.org", 60)
    world.mail(due=700)
    found = world.watch(JOB)
    assert [(one.name, one.level) for one in found] == [("no_run", Level.ERROR), ("relay_away", Level.WARNING)]


def test_of_a_job_that_sends_no_mail_neither_backlog_nor_relay_is_judged(world):
    world.circuits.open(RELAY, "refused", 60)
    world.mail(due=7000)
    world.mail(due=7000, status=Status.SENDING, lease_until=world.ago(1000))
    assert world.names() == ["no_run", "leases_ended", "relay_away"]
    world.sends = False
    assert world.names() == []


def test_a_folder_that_is_away_is_an_error_with_the_runs_words(world):
    error = "mails wait: attachments: the folder /srv/files cannot be opened: No such file or directory"
    world.mail(due=-200)
    run = world.run(beat=60)
    world.tables.runs[run] = replace(
        world.tables.runs[run], outcome=RunOutcome.FAILED, error=error, finished_at=world.ago(50)
    )
    [found] = world.watch(JOB)
    assert (found.name, found.level, found.what, found.since) == ("mails_wait", Level.ERROR, error, world.ago(50))
    assert "none loses an attempt" in found.advice
    world.sends = False
    assert world.names() == []


@pytest.mark.parametrize("pause", [Pause.TICKS, Pause.ALL])
def test_in_a_pause_nobody_waits_for_a_run_or_a_tick(world, pause):
    world.mail(due=7000)
    world.tables.slots[JOB] = EntryState(JOB, last_tick_at=world.ago(5000), next_tick_at=world.ago(4700))
    assert world.names() == ["no_run", "no_tick"]
    world.pauses.set(JOB, pause)
    assert world.names() == []


def test_a_silent_relay_is_measured_while_the_run_lives(world):
    run = world.run(beat=100)
    world.tables.runs[run] = run_row(world.ago(100), run_id=run, heartbeat_at=world.ago(1))
    world.mail(due=200, status=Status.SENDING, lease_until=world.ago(-50))
    assert world.watch.unanswered(JOB) == pytest.approx(100)
    assert world.names() == ["no_progress"]
    world.mail(due=200, status=Status.SENT, finished_at=world.ago(3))
    assert world.watch.unanswered(JOB) == pytest.approx(3)
    assert world.names() == []


def test_a_lock_of_another_database_is_named_with_its_key_kept(world):
    world.observer.holds = Holder(owner="here:1", expires_in=20.0, other_database="shop (PostgreSQL)")
    look = world.watch.look(JOB)
    [found] = look.findings
    assert (found.name, look.running) == ("lock_of_another_database", False)
    assert look.blocked == f"{found.what}; {found.advice}"
    assert "shop:job:lock:send-all" in found.what
