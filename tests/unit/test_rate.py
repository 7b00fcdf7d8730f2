"""How many may go: evenly along each rate, after a burst of one second."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailbatch.domain.rate import DAY, SECOND, Asked, Rate, given_back, grant, unused


def granted(rates: list[str], *steps: tuple[float, int]) -> list[tuple[int, float]]:
    """Ask at each of ``steps`` (time, how many); return what was granted and for how long the next must wait."""
    read = tuple(Rate.read(text) for text in rates)
    used = unused(read)
    found = []
    for now, wanted in steps:
        one = Asked(limit="x", rates=read, weights=(1,) * wanted, queue=False)
        got, used = grant(one, used, round(now * SECOND))
        found.append((got.count, round(got.places[0] / SECOND, 3) if got.places else 0.0))
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


def test_a_limit_whose_queue_has_vanished_is_free_again():
    slow = (Rate.read("1/10s"),)
    asked = Asked(limit="x", rates=slow, weights=(1,) * 100)
    _, used = grant(asked, unused(slow), 0)
    alone = Asked(limit="x", rates=slow, weights=(1,))
    assert grant(alone, used, 15 * SECOND)[0].places == (985 * SECOND,)  # behind those who wait
    assert grant(alone, used, 31 * SECOND)[0].count == 1  # none of them came, for two places


def test_what_is_given_back_can_be_granted_again():
    slow = (Rate.read("1/10s"),)
    alone = Asked(limit="x", rates=slow, weights=(1,), queue=False)
    _, used = grant(alone, unused(slow), SECOND)
    assert grant(alone, used, SECOND)[0].count == 0
    assert grant(alone, given_back(slow, used, 1), SECOND)[0].count == 1


@pytest.mark.parametrize("text", ["", "14", "14/x", "0/s", "1/0s", "-1/s", "14 per second", "1e3/s", "14/s, 2/m"])
def test_a_rate_that_is_none_is_refused(text):
    with pytest.raises(ValueError, match="must be a rate such as '14/s'"):
        Rate.read(text)


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("14/s", Rate(14, SECOND)),
        (" 500 / h ", Rate(500, 3600 * SECOND)),
        ("20/10s", Rate(20, 10 * SECOND)),
        ("50000/d", Rate(50000, DAY)),
    ],
)
def test_rates_are_read_in_seconds_minutes_hours_and_days(text, rate):
    assert Rate.read(text) == rate


def asked(rate: Rate, wanted: int) -> Asked:
    return Asked(limit="x", rates=(rate,), weights=(1,) * wanted, queue=False)


@given(
    count=st.integers(1, 500),
    period=st.sampled_from([1, 10, 60]),
    steps=st.lists(st.tuples(st.integers(0, 3 * SECOND), st.integers(1, 100)), min_size=1, max_size=60),
)
def test_no_window_holds_more_than_the_rate_and_its_burst(count, period, steps):
    rate, now = Rate(count, period * SECOND), 1000 * SECOND
    used = unused((rate,))
    times: list[int] = []
    for gap, wanted in steps:
        now += gap
        got, used = grant(asked(rate, wanted), used, now)
        times += [now] * got.count
    for index, first in enumerate(times):
        within = sum(first <= one <= first + rate.period for one in times[index:])
        assert within <= count + rate.burst


@given(count=st.integers(1, 200), want=st.integers(1, 50))
def test_who_waits_as_told_gets_one_more(count, want):
    rate, now = Rate(count, SECOND), 5 * SECOND
    used = unused((rate,))
    for _ in range(20):
        got, used = grant(asked(rate, want), used, now)
        assert got.count or got.places
        if got.places:
            now += got.places[0]
            assert grant(asked(rate, 1), used, now)[0].count == 1


@given(
    count=st.integers(1, 50),
    weights=st.lists(st.integers(1, 3), min_size=1, max_size=80),
    late=st.lists(st.integers(0, SECOND), min_size=80, max_size=80),
)
def test_who_comes_at_its_place_goes_then_and_is_not_put_back_again(count, weights, late):
    rate = Rate(count + 3, SECOND)
    one = Asked(limit="x", rates=(rate,), weights=tuple(weights))
    got, used = grant(one, unused((rate,)), SECOND)
    for weight, place, delay in zip(weights[got.count :], got.places, late, strict=False):
        came = Asked(limit="x", rates=(rate,), weights=(weight,), waited=1)
        again, used = grant(came, used, SECOND + place + min(delay, rate.spacing))
        assert again.count == 1
