"""In which hours a mail may be sent, over midnight, weekends and nights when clocks change."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from mailbatch.domain.sending_hours import Hours, Window, not_before, read_days
from mailbatch.domain.traits import Match, Names, Traits

BERLIN = ZoneInfo("Europe/Berlin")
NEWS = Match(tag=Names(("newsletter-*",)))


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=BERLIN).astimezone(UTC)


def window(days: str, hours: str, match: Match = NEWS) -> Window:
    return Window(days=read_days(days), hours=Hours.read(hours), timezone=BERLIN, match=match)


def opens(*windows: Window, now: str, tag: str = "newsletter-may") -> str | None:
    found = not_before(windows, Traits(tag=tag), at(now))
    return found and f"{found.astimezone(BERLIN):%a %d %H:%M}"


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        ("2026-11-27 07:59:59", "Fri 27 08:00"),
        ("2026-11-27 08:00", None),
        ("2026-11-27 17:59:59", None),
        ("2026-11-27 18:00", "Mon 30 08:00"),
        ("2026-11-28 12:00", "Mon 30 08:00"),
    ],
)
def test_a_mail_goes_from_the_first_minute_to_before_the_last(now, expected):
    assert opens(window("mon-fri", "08:00-18:00"), now=now) == expected


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        ("2026-11-27 21:59", "Fri 27 22:00"),
        ("2026-11-27 23:30", None),
        ("2026-11-28 05:59", None),
        ("2026-11-28 06:00", "Fri 04 22:00"),
    ],
)
def test_hours_over_midnight_belong_to_the_day_on_which_they_begin(now, expected):
    assert opens(window("fri", "22:00-06:00"), now=now) == expected


def test_a_whole_day_ends_at_midnight():
    assert opens(window("sat", "00:00-24:00"), now="2026-11-28 23:59:59") is None
    assert opens(window("sat", "00:00-24:00"), now="2026-11-29 00:00") == "Sat 05 00:00"


def test_a_mail_goes_in_each_window_that_is_for_it():
    both = window("mon-fri", "08:00-12:00"), window("mon-fri", "14:00-18:00")
    assert opens(*both, now="2026-11-27 13:00") == "Fri 27 14:00"
    assert opens(*both, now="2026-11-27 15:00") is None


def test_a_mail_without_a_window_goes_at_any_time():
    assert opens(window("mon", "08:00-09:00"), now="2026-11-27 03:00", tag="password-reset") is None


@pytest.mark.parametrize(
    ("now", "last"), [("2026-03-28 23:00", "2026-03-29 05:59:59"), ("2026-10-24 23:00", "2026-10-25 05:59:59")]
)
def test_the_hours_follow_the_clock_on_the_wall_when_it_is_changed(now, last):
    night = window("mon-sun", "23:00-06:00")
    assert opens(night, now=now) is None
    assert opens(night, now=last) is None
    assert not_before([night], Traits(tag="newsletter-a"), at(last) + timedelta(seconds=1)) is not None


@pytest.mark.parametrize("text", ["", "mon-", "monday", "mon--fri", "1-5", "mon;tue"])
def test_days_that_are_none_are_refused(text):
    with pytest.raises(ValueError, match="must be days such as 'mon-fri'"):
        read_days(text)


@pytest.mark.parametrize("text", ["", "8-18", "08:00", "25:00-26:00", "08:60-09:00", "24:00-08:00", "08:00-24:30"])
def test_hours_that_are_none_are_refused(text):
    with pytest.raises(ValueError, match="must be hours such as '08:00-18:00'"):
        Hours.read(text)


def test_days_may_be_a_list_and_go_over_the_end_of_the_week():
    assert read_days("mon, wed,fri") == {0, 2, 4}
    assert read_days("sat-mon") == {5, 6, 0}
