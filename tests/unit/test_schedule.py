"""When ticks come: intervals, cron lines with seconds, and clocks that are changed twice a year."""

from __future__ import annotations

import pickle
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from celery.schedules import crontab
from celery.schedules import schedule as interval

from mailbatch.batch.schedule import BatchSchedule, after_tick, following, next_after, shortest_gap
from mailbatch.domain.schedule import Cron, Every

BERLIN = "Europe/Berlin"


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def ticks(when, start: str, count: int) -> list[str]:
    found, tick = [], at(start)
    for _ in range(count):
        tick = following(when, tick)
        found.append(f"{tick:%m-%d %H:%M:%S}")
    return found


def test_an_interval_counts_from_the_tick_before():
    assert following(Every(300), at("2026-11-21 10:00:07.250")) == at("2026-11-21 10:05:07.250")


def test_five_fields_begin_with_the_minute_and_six_with_the_second():
    assert ticks(Cron("*/5 * * * *"), "2026-11-21 10:01", 2) == ["11-21 10:05:00", "11-21 10:10:00"]
    assert ticks(Cron("*/20 * * * * *"), "2026-11-21 10:00:01", 3) == [
        "11-21 10:00:20",
        "11-21 10:00:40",
        "11-21 10:01:00",
    ]


@pytest.mark.parametrize(
    ("line", "first"),
    [
        ("0 * * * * *", "11-21 10:01:00"),
        ("0 0 * * * *", "11-21 11:00:00"),
        ("0 0 0 * * *", "11-22 00:00:00"),
        ("0 0 2 * * *", "11-22 02:00:00"),
        ("0 0 0 1 * *", "12-01 00:00:00"),
        ("0 0 0 * * 1", "11-23 00:00:00"),
        ("0 0 0 * * 0", "11-22 00:00:00"),
    ],
)
def test_the_six_schedules_of_the_ancestor_are_read_as_it_reads_them(line, first):
    assert ticks(Cron(line), "2026-11-21 10:00:30", 1) == [first]


def test_a_tick_is_later_than_the_moment_asked_even_by_a_fraction_of_a_second():
    when = Cron("0 12 * * *")
    assert following(when, at("2026-11-21 11:59:59.999")) == at("2026-11-21 12:00")
    assert following(when, at("2026-11-21 12:00")) == at("2026-11-22 12:00")
    assert following(when, at("2026-11-21 12:00:00.001")) == at("2026-11-22 12:00")


@pytest.mark.parametrize("line", ["30 2 * * *", "0 30 2 * * *"])
def test_a_time_of_day_that_the_clocks_jump_over_is_taken_right_after_the_jump(line):
    # 29 March 2026: 02:00 becomes 03:00, which is 01:00 UTC.
    assert ticks(Cron(line, BERLIN), "2026-03-27 12:00", 3) == ["03-28 01:30:00", "03-29 01:00:00", "03-30 00:30:00"]


@pytest.mark.parametrize("line", ["30 2 * * *", "0 30 2 * * *"])
def test_a_time_of_day_that_comes_twice_ticks_once(line):
    # 25 October 2026: 03:00 becomes 02:00, so 02:30 is both 00:30 and 01:30 UTC.
    assert ticks(Cron(line, BERLIN), "2026-10-24 12:00", 2) == ["10-25 00:30:00", "10-26 01:30:00"]
    assert following(Cron(line, BERLIN), at("2026-10-25 01:10")) == at("2026-10-26 01:30")


@pytest.mark.parametrize("changes", ["2026-03-28 23:00", "2026-10-24 23:00"])
def test_every_quarter_of_an_hour_stays_so_when_the_clocks_change(changes):
    when, tick = Cron("0 */15 * * * *", BERLIN), at(changes)
    found = [tick := following(when, tick) for _ in range(20)]
    assert {later - earlier for earlier, later in pairwise(found)} == {timedelta(minutes=15)}


def test_latency_does_not_add_up():
    due = at("2026-11-21 10:00")
    assert after_tick(BatchSchedule(Every(300)), due, due + timedelta(seconds=2)) == due + timedelta(seconds=300)


def test_ticks_that_were_missed_are_not_made_up_for():
    due, now = at("2026-11-21 10:00"), at("2026-11-21 16:01:30")
    assert after_tick(BatchSchedule(Every(300)), due, now) == now + timedelta(seconds=300)
    assert after_tick(BatchSchedule(Cron("*/5 * * * *")), due, now) == at("2026-11-21 16:05")


def test_a_cron_line_expires_its_ticks_by_its_shortest_gap():
    assert shortest_gap(Every(300), at("2026-11-21 10:00")) == 300
    assert shortest_gap(Cron("0 9-17 * * 1-5"), at("2026-11-21 10:00")) == 3600
    assert BatchSchedule(Every(300)).tick_expiry() == 290
    assert BatchSchedule(Every(10)).tick_expiry() == 5


@pytest.mark.parametrize("schedule", [crontab(minute="*/5"), interval(timedelta(seconds=300))])
def test_celerys_own_schedules_are_asked_without_the_clock_of_this_host(schedule):
    assert next_after(schedule, at("2001-02-03 04:00")) == at("2001-02-03 04:05")


def test_the_stock_scheduler_of_celery_can_use_it_too():
    now = at("2026-11-21 10:00")
    schedule = BatchSchedule(Every(300), nowfun=lambda: now)
    assert schedule.is_due(now - timedelta(seconds=100)) == (False, 200)
    assert schedule.is_due(now - timedelta(seconds=400)) == (True, 300)
    kept = BatchSchedule(Cron("0 2 * * *", BERLIN), at_start=True, jitter=7)
    assert pickle.loads(pickle.dumps(kept)) == kept  # noqa: S301 - it keeps its entries in a shelve
    assert kept != BatchSchedule(Cron("0 2 * * *", BERLIN))
