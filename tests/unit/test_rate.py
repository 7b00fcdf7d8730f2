"""How many may go: evenly along each rate, after a burst of one second."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailbatch.domain.rate import Rate, grant


def granted(rates: list[str], *steps: tuple[float, int]) -> list[tuple[int, float]]:
    """Ask at each of ``steps`` (time, how many); return what was granted and for how long to wait."""
    read = [Rate.read(text) for text in rates]
    arrivals: tuple[float, ...] = (0.0,) * len(read)
    found = []
    for now, wanted in steps:
        got = grant(read, arrivals, now, wanted)
        arrivals = got.arrivals
        found.append((got.count, round(got.wait, 3)))
    return found


def test_a_burst_of_one_second_goes_at_once_and_then_one_after_the_other():
    assert granted(["14/s"], (100, 10), (100, 10), (100, 10), (100.072, 10)) == [
        (10, 0.0),
        (4, 0.071),
        (0, 0.071),
        (1, 0.071),
    ]


def test_a_slow_rate_has_a_burst_of_one():
    assert granted(["30/m"], (0, 5), (1.9, 5), (2, 5)) == [(1, 2.0), (0, 0.1), (1, 2.0)]


def test_all_rates_hold_at_once_and_the_wait_is_that_of_the_strictest():
    assert granted(["10/s", "60/m"], (0, 10), (0.5, 10), (1, 10)) == [(1, 1.0), (0, 0.5), (1, 1.0)]


@pytest.mark.parametrize("text", ["", "14", "14/x", "0/s", "1/0s", "-1/s", "14 per second", "1e3/s", "14/s, 2/m"])
def test_a_rate_that_is_none_is_refused(text):
    with pytest.raises(ValueError, match="must be a rate such as '14/s'"):
        Rate.read(text)


@pytest.mark.parametrize(
    ("text", "rate"),
    [("14/s", Rate(14, 1)), (" 500 / h ", Rate(500, 3600)), ("20/10s", Rate(20, 10)), ("50000/d", Rate(50000, 86400))],
)
def test_rates_are_read_in_seconds_minutes_hours_and_days(text, rate):
    assert Rate.read(text) == rate


@given(
    count=st.integers(1, 500),
    period=st.sampled_from([1.0, 10.0, 60.0]),
    steps=st.lists(st.tuples(st.floats(0, 3), st.integers(1, 100)), min_size=1, max_size=60),
)
def test_no_window_holds_more_than_the_rate_and_its_burst(count, period, steps):
    rate, arrivals, now = Rate(count, period), (0.0,), 1000.0
    times: list[float] = []
    for gap, wanted in steps:
        now += gap
        got = grant([rate], arrivals, now, wanted)
        arrivals = got.arrivals
        times += [now] * got.count
    for index, first in enumerate(times):
        within = sum(first <= one <= first + period for one in times[index:])
        assert within <= count + rate.burst


@given(count=st.integers(1, 200), want=st.integers(1, 50))
def test_who_waits_as_told_gets_one_more(count, want):
    rate, now = Rate(count, 1.0), 5.0
    arrivals: tuple[float, ...] = (0.0,)
    for _ in range(20):
        got = grant([rate], arrivals, now, want)
        assert got.count or now > 5.0
        arrivals, now = got.arrivals, now + got.wait + 1e-6
        if got.wait:
            assert grant([rate], arrivals, now, 1).count == 1
