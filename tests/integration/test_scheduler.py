"""The beat scheduler on real databases: one tick from many beats, pauses, restarts, changed schedules, outages."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest
import sqlalchemy as sa
from celery import Celery
from celery.schedules import crontab
from kombu.exceptions import OperationalError
from support.waiting import wait_until

from mailbatch.batch.schedule import BatchSchedule
from mailbatch.batch.scheduler import DatabaseScheduler
from mailbatch.domain.run import Pause
from mailbatch.domain.schedule import Cron, Every
from mailbatch.infrastructure.cron import following
from mailbatch.infrastructure.db.runs import DIED
from mailbatch.infrastructure.db.schedule import SqlSchedule
from mailbatch.infrastructure.db.tables import batch_runs, batch_schedule
from mailbatch.infrastructure.db.types import now

if TYPE_CHECKING:
    from sqlalchemy.engine import Engine

JOB = "send-all"


class Beat(DatabaseScheduler):
    """A beat whose broker is a list: what it sends, the test reads."""

    def setup_schedule(self):
        self.sent: list[str] = []
        self.expiries: list[datetime] = []
        self.broker_is_away = False
        super().setup_schedule()

    @property
    def producer(self):
        return None

    def apply_async(self, entry, producer=None, advance=True, **_):  # noqa: FBT002 - Celery's signature
        if self.broker_is_away:
            raise OperationalError("Connection refused")
        self.sent.append(entry.name)
        self.expiries.append(entry.options.get("expires"))


@pytest.fixture
def beat(database_url: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MAILBATCH_DATABASE_URL", database_url)
    monkeypatch.setenv("MAILBATCH_LOCK_TTL", "1")
    beats: list[Beat] = []

    def start(when=None, *, at_start=True, missed=True, jitter=0.0, name: str = JOB, extra=None, **options) -> Beat:
        app = Celery("test", broker="memory://", set_as_current=False)
        schedule = BatchSchedule(when or Every(300), at_start=at_start, missed=missed, jitter=jitter)
        entry = {"task": name, "schedule": schedule, "options": options}
        app.conf.beat_schedule = {**(extra or {}), name: entry}
        app.conf.result_expires = None
        beats.append(Beat(app=app, max_interval=5))
        return beats[-1]

    yield start
    for each in beats:
        each.close()


def settle(beat: Beat) -> None:
    """Let a beat do all that it has to do now."""
    wait_until(lambda: beat.tick() > 0.05, 5, "the beat has nothing to do")


def shift(engine: Engine, *, next_tick: float | None = None, last_tick: float | None = None) -> None:
    """Set the times of the entry, in seconds from now."""
    values = {"next_tick_at": next_tick, "last_tick_at": last_tick}
    with engine.begin() as connection:
        connection.execute(
            sa.update(batch_schedule).values({name: now(s) for name, s in values.items() if s is not None})
        )


def pause(engine: Engine, state: Pause) -> None:
    with engine.begin() as connection:
        connection.execute(sa.update(batch_schedule).values(paused=state.value))


def seconds_to_next(engine: Engine) -> float:
    with engine.begin() as connection:
        row = connection.execute(sa.select(batch_schedule.c.next_tick_at, now())).one()
    return (row[0] - row[1]).total_seconds()


def add_run(engine: Engine, *, started: float, heartbeat: float, finished: float | None = None, **more) -> None:
    with engine.begin() as connection:
        connection.execute(
            sa.insert(batch_runs).values(
                run_id=uuid4(),
                job=JOB,
                started_at=now(started),
                heartbeat_at=now(heartbeat),
                finished_at=None if finished is None else now(finished),
                **{"trigger": "beat", **more},
            )
        )


def test_a_new_entry_ticks_at_once_and_again_an_interval_later(beat, engine):
    first = beat()
    settle(first)
    assert first.sent == [JOB]
    assert 299 < seconds_to_next(engine) <= 300


def test_a_tick_comes_exactly_every_interval_however_late_each_one_is(beat, engine):
    first = beat(Every(0.3))
    settle(first)
    with engine.begin() as connection:
        before = connection.execute(sa.select(batch_schedule.c.next_tick_at)).scalar_one()
    wait_until(lambda: first.tick() and len(first.sent) >= 4, 5, "three more ticks")
    with engine.begin() as connection:
        after = connection.execute(sa.select(batch_schedule.c.next_tick_at)).scalar_one()
    assert (after - before).total_seconds() == pytest.approx(0.9, abs=0.004)


def test_an_entry_without_at_start_gets_no_tick_at_the_start(beat, engine):
    purge = beat(Every(300), at_start=False)
    settle(purge)
    assert purge.sent == []
    assert 299 < seconds_to_next(engine) <= 300


def test_ten_beats_at_once_give_one_tick(beat, engine):
    beats = [beat() for _ in range(10)]
    settle(beats[0])
    shift(engine, next_tick=-0.01, last_tick=-300)
    with ThreadPoolExecutor(10) as pool:
        list(pool.map(lambda each: (each.tick(), each.tick()), beats))
    assert sum(len(each.sent) for each in beats) == 2


def test_of_ten_that_have_read_the_same_tick_one_takes_it(beat, engine):
    settle(beat())
    shift(engine, next_tick=-0.01)
    schedule = SqlSchedule(engine)
    time, states = schedule.read()
    with ThreadPoolExecutor(10) as pool:
        taken = list(pool.map(lambda n: schedule.take(states[JOB], time + timedelta(seconds=300 + n)), range(10)))
    assert sorted(taken) == [False] * 9 + [True]


def test_two_beats_that_start_within_seconds_give_one_tick(beat, engine):
    first = beat()
    settle(first)
    second = beat()
    settle(second)
    assert (first.sent, second.sent) == ([JOB], [])


def test_a_restart_ticks_unless_the_last_tick_has_just_come(beat, engine):
    settle(beat())
    shift(engine, last_tick=-9, next_tick=291)
    soon = beat()
    settle(soon)
    assert soon.sent == []
    shift(engine, last_tick=-11, next_tick=289)
    later = beat()
    settle(later)
    assert later.sent == [JOB]


def test_jitter_puts_off_the_first_tick_of_a_start_even_an_overdue_one(beat, engine):
    settle(beat())
    shift(engine, last_tick=-3600, next_tick=-3300)
    late = beat(jitter=1000.0)
    late.tick()
    late.tick()
    assert late.sent == []
    assert 0 < seconds_to_next(engine) <= 1000


def test_after_an_outage_there_is_one_tick_and_on_from_there(beat, engine):
    only = beat(Every(60))
    settle(only)
    shift(engine, last_tick=-21_600, next_tick=-21_540)
    settle(only)
    assert only.sent == [JOB, JOB]
    assert 59 < seconds_to_next(engine) <= 60


@pytest.mark.parametrize("state", [Pause.TICKS, Pause.ALL])
def test_a_pause_outlives_the_beat_and_a_resume_fires_what_is_overdue(beat, engine, state):
    settle(beat())
    pause(engine, state)
    shift(engine, last_tick=-400, next_tick=-100)
    restarted = beat()
    for _ in range(3):
        restarted.tick()
    assert restarted.sent == []
    pause(engine, Pause.NONE)
    settle(restarted)
    assert restarted.sent == [JOB]


def test_a_pause_that_comes_between_reading_and_taking_holds(beat, engine):
    settle(beat())
    schedule = SqlSchedule(engine)
    time, states = schedule.read()
    pause(engine, Pause.TICKS)
    assert not schedule.take(states[JOB], time + timedelta(seconds=300))
    pause(engine, Pause.NONE)
    assert schedule.take(states[JOB], time + timedelta(seconds=300))


@pytest.mark.parametrize("state", [Pause.TICKS, Pause.ALL])
def test_a_beat_that_has_not_seen_the_pause_takes_no_tick(beat, engine, state, monkeypatch):
    """The scheduler does not see the pause when it reads; taking the tick must notice it alone."""
    settle(beat())
    shift(engine, last_tick=-400, next_tick=-100)
    pause(engine, state)
    read = SqlSchedule.read

    def before_the_pause(schedule):
        time, states = read(schedule)
        return time, {name: replace(state, paused=Pause.NONE) for name, state in states.items()}

    monkeypatch.setattr(SqlSchedule, "read", before_the_pause)
    blind = beat(at_start=False)
    for _ in range(3):
        blind.tick()
    assert blind.sent == []
    pause(engine, Pause.NONE)
    settle(blind)
    assert blind.sent == [JOB]


@pytest.mark.parametrize("state", [Pause.TICKS, Pause.ALL])
def test_a_beat_that_sees_the_pause_takes_no_tick(beat, engine, state, monkeypatch):
    """Taking would give any tick; the scheduler must see the pause when it reads."""
    settle(beat())
    shift(engine, last_tick=-400, next_tick=-100)
    pause(engine, state)
    monkeypatch.setattr(SqlSchedule, "take", SqlSchedule.plan)
    seeing = beat()
    for _ in range(3):
        seeing.tick()
    assert seeing.sent == []
    assert seconds_to_next(engine) < 0


def test_an_entry_whose_row_a_pause_has_made_gets_its_ticks(beat, engine):
    with engine.begin() as connection:
        connection.execute(sa.insert(batch_schedule).values(name=JOB, paused="none"))
    only = beat()
    settle(only)
    assert only.sent == [JOB]


def test_a_shorter_schedule_takes_effect_though_the_stored_tick_is_far_away(beat, engine):
    settle(beat(Every(86_400)))
    shorter = beat(Every(2))
    shorter.tick()
    assert seconds_to_next(engine) <= 2


def test_a_cron_line_ticks_at_its_own_times(beat, engine):
    cron = beat(Cron("* * * * * *"), at_start=False)
    wait_until(lambda: cron.tick() and len(cron.sent) >= 2, 5, "two ticks")
    with engine.begin() as connection:
        assert connection.execute(sa.select(batch_schedule.c.next_tick_at)).scalar_one().microsecond == 0


# --- a start of a cron line ---


def a_time_long_ago() -> Cron:
    """A line whose last time was about half a day ago, and whose next is as far ahead."""
    return Cron(f"0 {(datetime.now(UTC).hour + 12) % 24} * * *")


def of_cron(beat, when: Cron | None = None, **given) -> Beat:
    return beat(when or a_time_long_ago(), at_start=False, **given)


def plan(engine: Engine, *, last: float | None, planned: float | None) -> None:
    """The row that an earlier beat left, in hours from now; by default planned for the cron line's own time."""
    given = {
        "last_tick_at": None if last is None else now(last * 3600),
        "next_tick_at": following(a_time_long_ago(), datetime.now(UTC)) if planned is None else now(planned * 3600),
    }
    with engine.begin() as connection:
        connection.execute(sa.insert(batch_schedule).values(name=JOB, **given))


def next_is_the_lines_own(engine: Engine) -> bool:
    with engine.begin() as connection:
        row = connection.execute(sa.select(batch_schedule.c.next_tick_at, now())).one()
    return row[0] == following(a_time_long_ago(), row[1])


def test_a_cron_line_does_not_tick_because_a_beat_starts(beat, engine):
    for _ in range(3):
        only = of_cron(beat)
        settle(only)
        assert only.sent == []
        assert next_is_the_lines_own(engine)


@pytest.mark.parametrize("last", [None, -30])
def test_a_cron_line_makes_up_once_for_ticks_that_were_missed_while_no_beat_ran(beat, engine, last):
    plan(engine, last=last, planned=-12.5)
    for sent in ([JOB], []):
        only = of_cron(beat)
        settle(only)
        assert only.sent == sent
        assert next_is_the_lines_own(engine)


def test_a_cron_line_can_be_set_to_make_up_for_nothing(beat, engine):
    plan(engine, last=-30, planned=-12.5)
    only = of_cron(beat, missed=False)
    settle(only)
    assert only.sent == []
    assert next_is_the_lines_own(engine)


def test_an_interval_can_be_set_to_make_up_for_nothing(beat, engine):
    plan(engine, last=-2, planned=-1)
    only = beat(Every(300), at_start=False, missed=False)
    settle(only)
    assert only.sent == []
    assert 299 < seconds_to_next(engine) <= 300


@pytest.mark.parametrize("planned", [-0.01, 0.05])
def test_a_cron_line_ignores_the_tick_that_an_interval_before_it_had_planned(beat, engine, planned):
    plan(engine, last=-0.1, planned=planned)
    only = of_cron(beat)
    settle(only)
    assert only.sent == []
    assert next_is_the_lines_own(engine)


def test_a_tick_that_the_broker_did_not_take_is_not_lost_at_a_start(beat, engine):
    plan(engine, last=-30, planned=0.001)
    only = of_cron(beat)
    settle(only)
    assert only.sent == [JOB]


def test_a_more_frequent_cron_line_than_before_has_missed_nothing(beat, engine):
    plan(engine, last=-120, planned=48)
    only = of_cron(beat)
    settle(only)
    assert only.sent == []
    assert next_is_the_lines_own(engine)


@pytest.mark.parametrize(
    ("run", "sent"),
    [
        ({"heartbeat": -30}, [JOB]),
        ({"heartbeat": -30, "finished": -30, "outcome": "shutdown"}, [JOB]),
        ({"heartbeat": -30, "finished": -20, "outcome": "failed", "error": DIED}, [JOB]),
        ({"heartbeat": -30, "finished": -30, "outcome": "completed"}, []),
        ({"heartbeat": -30, "finished": -30, "outcome": "revoked"}, []),
        ({"heartbeat": -30, "finished": -30, "outcome": "shutdown", "trigger": "manual"}, []),
    ],
)
def test_a_run_of_a_cron_line_that_was_cut_off_goes_on_at_the_start(beat, engine, run, sent):
    plan(engine, last=-1, planned=None)
    # An earlier run, which says the opposite: only the newest counts.
    add_run(engine, started=-7200, heartbeat=-7100, finished=-7100, outcome="completed" if sent else "shutdown")
    add_run(engine, started=-60, **run)
    only = of_cron(beat)
    settle(only)
    assert only.sent == sent
    assert next_is_the_lines_own(engine)


def test_a_pause_holds_back_what_a_start_would_make_up_for_until_the_resume(beat, engine):
    plan(engine, last=-30, planned=-12.5)
    pause(engine, Pause.TICKS)
    only = of_cron(beat)
    settle(only)
    assert only.sent == []
    pause(engine, Pause.NONE)
    settle(only)
    assert only.sent == [JOB]


def test_a_pause_holds_back_the_rest_of_a_run_that_was_cut_off_until_the_resume(beat, engine):
    plan(engine, last=-1, planned=None)
    pause(engine, Pause.TICKS)
    add_run(engine, started=-60, heartbeat=-30)
    only = of_cron(beat)
    settle(only)
    assert only.sent == []
    pause(engine, Pause.NONE)
    settle(only)
    assert only.sent == [JOB]


def test_a_users_own_crontab_makes_up_for_missed_ticks_too(beat, engine):
    with engine.begin() as connection:
        given = {"last_tick_at": now(-400), "next_tick_at": now(-100)}
        connection.execute(sa.insert(batch_schedule).values(name="mine", **given))
    hour = (datetime.now(UTC).hour + 12) % 24
    only = beat(extra={"mine": {"task": "mine", "schedule": crontab(hour=hour, minute=0)}})
    settle(only)
    assert only.sent == [JOB]


def test_a_tick_expires_by_the_clock_of_the_database(beat, engine):
    only = beat(expires=290)
    settle(only)
    with engine.begin() as connection:
        time = connection.execute(sa.select(now())).scalar_one()
    assert abs((only.expiries[0] - time).total_seconds() - 290) < 1


def test_an_unavailable_broker_is_one_line_and_loses_no_tick(beat, engine, caplog):
    only = beat()
    only.broker_is_away = True
    wait_until(lambda: only.tick() and "was not taken by the broker" in caplog.text, 5, "the failed tick")
    assert caplog.text.count("was not taken") == 1
    assert "Traceback" not in caplog.text
    assert 4 < seconds_to_next(engine) <= 5
    only.broker_is_away = False
    shift(engine, next_tick=-0.01)
    settle(only)
    assert only.sent == [JOB]


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_an_unavailable_database_is_one_line_for_each_try_and_beat_goes_on(beat, tmp_path, caplog):
    caplog.set_level("INFO")
    only = beat()
    settle(only)
    path = tmp_path / "mailbatch.db"
    only._engine.dispose()
    path.rename(tmp_path / "away")
    path.mkdir()
    assert only.tick() == 1
    assert only.tick() == 2
    assert caplog.text.count("no ticks: ") == 2
    path.rmdir()
    (tmp_path / "away").rename(path)
    settle(only)
    assert "ticking again" in caplog.text


@pytest.mark.parametrize(
    "broken",
    [
        None,
        7,
        "send-all",
        [],
        {},
        {"task": "x"},
        {"schedule": 5},
        {"task": 7, "schedule": 5},
        {"task": "", "schedule": 5},
        {"task": "x", "schedule": None},
        {"task": "x", "schedule": "*/5 * * * *"},
        {"task": "x", "schedule": 0},
        {"task": "x", "schedule": -5},
        {"task": "x", "schedule": float("nan")},
        {"task": "x", "schedule": 1e300},
        {"task": "x", "schedule": timedelta.max},
        {"task": "x", "schedule": object()},
        {"task": "x", "schedule": 5, "kwargs": 7},
        {"task": "x", "schedule": 5, "args": "abc"},
        {"task": "x", "schedule": 5, "options": "expires"},
        {"task": "x", "schedule": 5, "interval": 7},
    ],
)
@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_broken_entry_of_the_user_is_one_line_and_the_others_tick(beat, caplog, broken):
    only = beat(extra={"mine": broken})
    settle(only)
    settle(only)
    assert only.sent == [JOB]
    [told] = [record.getMessage() for record in caplog.records if "broken" in record.getMessage()]
    assert told.startswith("the entry 'mine' of beat_schedule is broken, it gets no ticks: ")
    assert "\n" not in told
    assert "Traceback" not in caplog.text


@pytest.mark.parametrize("name", [7, None, "", "a\0b", "a\nb", "\ud800", "x" * 201])
def test_an_entry_with_an_impossible_name_is_one_line_and_the_others_tick(beat, caplog, name):
    only = beat(extra={name: {"task": "x", "schedule": 5}})
    settle(only)
    assert only.sent == [JOB]
    assert "its name must be 1 to 200 printable characters" in caplog.text


def test_an_entry_that_breaks_later_does_not_affect_the_others(beat, engine, caplog):
    class Broken(BatchSchedule):
        @property
        def at_start(self):
            raise ZeroDivisionError

        @at_start.setter
        def at_start(self, value): ...

    only = beat()
    entry = only.Entry(app=only.app, name="broken", task="broken", schedule=Broken(Every(1)))
    only.schedule = {"broken": entry, **only.schedule}
    only._start_ticks._started.clear()
    wait_until(lambda: only.tick() and only.sent, 5, "a tick")
    assert "the schedule entry broken is broken" in caplog.text


# --- a start whose tick came to nothing asks again ---


def second_look(only: Beat) -> None:
    recheck = only._start_ticks._rechecks[JOB]
    wait_until(lambda: only.tick() and JOB not in only._start_ticks._rechecks, 5, "the second look")
    assert recheck
    settle(only)


def test_a_start_whose_tick_led_to_no_run_ticks_once_more_when_the_dead_holders_lock_is_over(beat, engine):
    add_run(engine, started=-30, heartbeat=-1)
    only = beat()
    settle(only)
    assert only.sent == [JOB]
    second_look(only)
    assert only.sent == [JOB, JOB]


def test_a_start_does_not_tick_again_if_a_run_has_ended_since(beat, engine):
    only = beat()
    settle(only)
    add_run(engine, started=0.01, heartbeat=0.01, finished=0.05)
    second_look(only)
    assert only.sent == [JOB]


def test_a_start_does_not_tick_again_if_a_run_has_written_a_heartbeat_since(beat, engine):
    only = beat()
    settle(only)
    add_run(engine, started=-600, heartbeat=0.01)
    second_look(only)
    assert only.sent == [JOB]


def test_two_beats_tick_again_only_once(beat, engine):
    beats = [beat(), beat()]
    for each in beats:
        settle(each)
    for each in beats:
        second_look(each)
    assert sum(len(each.sent) for each in beats) == 2


def test_a_clock_that_jumps_on_the_host_of_beat_changes_nothing(beat, engine):
    import time_machine

    only = beat()
    settle(only)
    for hours in (-5, 5):
        with time_machine.travel(datetime.now(UTC) + timedelta(hours=hours)):
            only.tick()
            assert only.sent == [JOB]
            assert 290 < seconds_to_next(engine) <= 300
