"""When ticks come: intervals, cron lines with seconds, and clocks that are changed twice a year."""

from __future__ import annotations

import pickle
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from celery.schedules import crontab
from celery.schedules import schedule as interval

from mailbatch.batch.schedule import BatchSchedule, after_tick, next_after
from mailbatch.domain.schedule import Cron, Every
from mailbatch.infrastructure.cron import back, following, longest_gap, shortest_gap

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


NEW_YORK, LORD_HOWE = "America/New_York", "Australia/Lord_Howe"


@pytest.mark.parametrize(
    ("zone", "line", "start", "expected"),
    [
        # Europe/Berlin, spring: at 01:00 UTC 02:00 becomes 03:00.
        (BERLIN, "0,30 2 * * *", "2026-03-28 20:00", ["03-29 01:00:00", "03-30 00:00:00", "03-30 00:30:00"]),
        (BERLIN, "45 2,3 * * *", "2026-03-28 20:00", ["03-29 01:00:00", "03-29 01:45:00", "03-30 00:45:00"]),
        (BERLIN, "0,45 2,3 * * *", "2026-03-28 20:00", ["03-29 01:00:00", "03-29 01:45:00", "03-30 00:00:00"]),
        (BERLIN, "10,20 30 2 * * *", "2026-03-28 20:00", ["03-29 01:00:10", "03-29 01:00:20", "03-30 00:30:10"]),
        (BERLIN, "0 */2 * * *", "2026-03-28 22:30", ["03-28 23:00:00", "03-29 02:00:00", "03-29 04:00:00"]),
        # Autumn: at 01:00 UTC 03:00 becomes 02:00.
        (BERLIN, "0,30 2 * * *", "2026-10-24 20:00", ["10-25 00:00:00", "10-25 00:30:00", "10-26 01:00:00"]),
        (BERLIN, "15 0 2 * * *", "2026-10-24 20:00", ["10-25 00:00:15", "10-26 01:00:15"]),
        (BERLIN, "*/30 2 * * *", "2026-10-24 20:00", ["10-25 00:00:00", "10-25 00:30:00", "10-25 01:00:00"]),
        # New York, spring: at 07:00 UTC 02:00 becomes 03:00; autumn: at 06:00 UTC 02:00 becomes 01:00.
        (NEW_YORK, "15,45 2 * * *", "2026-03-08 04:00", ["03-08 07:00:00", "03-09 06:15:00", "03-09 06:45:00"]),
        (NEW_YORK, "0 30 1 * * *", "2026-11-01 04:00", ["11-01 05:30:00", "11-02 06:30:00"]),
        (NEW_YORK, "30 * * * *", "2026-11-01 04:00", ["11-01 04:30:00", "11-01 05:30:00", "11-01 06:30:00"]),
        # Lord Howe changes by half an hour: spring at 15:30 UTC 02:00 becomes 02:30, autumn at 15:00 UTC 01:30.
        (LORD_HOWE, "0,15,40 2 * * *", "2026-10-03 12:00", ["10-03 15:30:00", "10-03 15:40:00", "10-04 15:00:00"]),
        (LORD_HOWE, "45 1 * * *", "2026-04-04 12:00", ["04-04 14:45:00", "04-05 15:15:00"]),
        (LORD_HOWE, "45 * * * *", "2026-04-04 14:00", ["04-04 14:45:00", "04-04 15:15:00", "04-04 16:15:00"]),
        (LORD_HOWE, "30 45 * * * *", "2026-10-03 15:00", ["10-03 15:15:30", "10-03 15:45:30", "10-03 16:45:30"]),
    ],
)
def test_the_ticks_round_a_change_of_the_clocks(zone, line, start, expected):
    assert ticks(Cron(line, zone), start, len(expected)) == expected


DAYS_OF_CHANGE = [
    (BERLIN, "2026-03-29"),
    (BERLIN, "2026-10-25"),
    (NEW_YORK, "2026-03-08"),
    (NEW_YORK, "2026-11-01"),
    (LORD_HOWE, "2026-10-03"),
    (LORD_HOWE, "2026-04-04"),
]


@pytest.mark.parametrize(("zone", "day"), DAYS_OF_CHANGE)
@pytest.mark.parametrize(
    "line", ["0,30 2 * * *", "0,45 1-3 * * *", "0,30 0,15,45 1,2 * * *", "*/20 * * * *", "45 * * * *"]
)
def test_two_ticks_are_never_at_the_same_moment_and_looking_back_finds_the_same_ones(zone, day, line):
    when, tick = Cron(line, zone), at(day) - timedelta(hours=12)
    found = [tick := following(when, tick) for _ in range(40)]
    assert all(later > earlier for earlier, later in pairwise(found))
    for hours in range(36):
        assert shortest_gap(when, at(day) + timedelta(hours=hours - 12)) > 0
    for earlier, later in pairwise(found):
        for moment in (later, later + timedelta(milliseconds=1)):
            assert (back(when, moment, 1), back(when, moment, 2)) == (later, earlier)
    assert back(when, found[5] - timedelta(seconds=1), 1) == found[4]


def test_looking_back_reaches_the_leap_day_before():
    assert back(Cron("0 0 29 2 *"), at("2027-05-01 12:00"), 1) == at("2024-02-29 00:00")
    assert back(Every(300), at("2026-11-21 10:00"), 2) == at("2026-11-21 09:50")
    assert longest_gap(Cron("0 9,12 * * *"), at("2026-11-21 10:00")) == 21 * 3600


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
