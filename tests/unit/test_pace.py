"""How fast a lane goes after a relay said "too fast": within bounds, for any relay."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailbatch.application.sending.relay_health.pace import CLIMB, LONGEST_SLEEP, PATIENCE, Pace


def paced(accepted: int) -> Pace:
    """Return a pace after so many mails were accepted within half a second, and one more was too fast."""
    pace = Pace()
    for n in range(accepted):
        pace.accepted(100 + n * 0.5 / max(1, accepted))
    pace.throttled(accepted + 1, accepted + 1, 100.5)
    return pace


def test_without_a_word_of_the_relay_there_is_no_limit():
    pace = Pace()
    pace.accepted(1.0)
    assert (pace.limited, pace.wait(2.0), pace.share(128)) == (False, 0.0, 128)


def test_the_rate_becomes_what_was_accepted_in_the_last_second():
    assert paced(14).rate == 14
    assert paced(14).share(128) == 14


def test_the_next_time_it_becomes_half_of_before_at_most():
    pace = paced(14)
    for n in range(14):
        pace.accepted(102 + n / 14)
    pace.throttled(99, 99, 103.0)
    assert pace.rate <= 7


def test_a_relay_that_took_nothing_is_asked_for_one_a_second_and_then_for_less():
    pace = paced(0)
    assert pace.rate == 1
    pace.throttled(5, 5, 102.0)
    assert pace.rate == 0.5


def test_it_climbs_by_a_tenth_each_second():
    pace = paced(14)
    pace.wait(102.0)
    before = pace.rate
    pace.wait(103.0)
    assert pace.rate == pytest.approx(before * CLIMB)


def test_mails_of_one_burst_cut_the_rate_once():
    pace = Pace()
    for n in range(14):
        pace.accepted(100 + n * 0.01)
    for index in range(15, 128):
        pace.throttled(index, 128, 100.5 + index * 0.03)
    assert (pace.rate, pace.cuts) == (14, 1)


def test_a_limit_that_is_gone_is_forgotten_by_and_by():
    pace = paced(14)
    for second in range(101, 200):
        pace.wait(second)
    assert not pace.limited


def test_a_relay_that_takes_nothing_is_given_up_after_a_minute_and_not_before():
    pace = Pace()
    assert not pace.throttled(1, 1, 100.0)
    assert not pace.throttled(2, 2, 100.0 + PATIENCE - 1)
    assert pace.throttled(3, 3, 100.0 + PATIENCE)
    pace.accepted(161.0)
    assert not pace.throttled(4, 4, 162.0)


def test_a_time_that_the_relay_asks_for_is_kept_unless_it_is_too_long_for_a_run():
    pace = Pace()
    assert not pace.throttled(1, 1, 100.0, asked=92)
    assert pace.wait(100.0) >= 92
    assert pace.wait(191.0) > 0
    assert pace.throttled(2, 2, 100.0, asked=LONGEST_SLEEP + 1)


steps = st.lists(st.tuples(st.floats(0.0, 3.0), st.booleans()), min_size=1, max_size=60)


@given(steps=steps)
def test_it_never_stands_still_and_never_rises_by_a_throttle(steps):
    pace, now = Pace(), 1000.0
    for index, (seconds, ok) in enumerate(steps, 1):
        now += seconds
        wait = pace.wait(now)
        assert 0.0 <= wait < math.inf
        now += wait
        assert pace.wait(now) <= 1e-6
        if pace.limited:
            pace.handed(now)
        before = pace.rate
        if ok:
            pace.accepted(now)
        else:
            pace.throttled(index, index, now)
            assert pace.rate <= max(before, 1.0)
        assert 1 <= pace.share(128) <= 128
        assert pace.rate > 0


@given(rate=st.integers(1, 200), latency=st.floats(0.0005, 0.01))
def test_any_steady_relay_is_kept_busy_and_is_not_pestered(rate, latency):
    """A relay that accepts ``rate`` mails in any second gets more than half of them, and refuses few."""
    pace, now, took, refused = Pace(), 0.0, [], 0
    for index in range(1, 401):
        now += pace.wait(now) + latency
        if pace.limited:
            pace.handed(now)
        if len(took) >= rate and now - took[-rate] < 1.0:
            refused += 1
            pace.throttled(index, index, now)
        else:
            took.append(now)
            pace.accepted(now)
    sustained = min(rate, 1 / latency)
    assert len(took) > 0.45 * min(sustained * now, 400)
    assert refused <= 5 + 0.25 * len(took)
