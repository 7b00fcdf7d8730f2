"""The number of connections: how it climbs, and when it falls."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from mailbatch.domain.connection_number import FIRST, ConnectionNumber

WAITS, BUSY = 0.9, 0.05


def climb(state, rate_of, seconds, idle=WAITS):
    """Measure once a second; return the numbers that were used."""
    used = []
    for second in range(seconds):
        used.append(state.number)
        state = state.measured(rate_of(state.number), idle, float(second))
    return state, used


def test_it_climbs_to_the_most_within_few_measurements_while_each_step_pays():
    _, used = climb(ConnectionNumber(number=4, most=20), lambda n: 20.0 * n, 6)
    assert used == [4, 6, 9, 14, 20, 20]


def test_it_goes_back_to_the_last_number_that_paid_and_stays_there_for_a_while():
    state, used = climb(ConnectionNumber(number=4, most=20), lambda n: 20.0 * min(n, 9), 15)
    assert used == [4, 6, 9, 14, *[9] * 11]
    assert state.proven == 9


def test_it_tries_again_in_smaller_steps_and_less_and_less_often():
    _, used = climb(ConnectionNumber(number=4, most=20), lambda _: 100.0, 200)
    trials = [second for second, number in enumerate(used) if number > 4]
    assert {used[second] for second in trials[1:]} == {5}
    gaps = [after - before for before, after in itertools.pairwise(trials)]
    assert gaps == sorted(gaps)
    assert len(trials) < 6


def test_a_gain_of_a_few_percent_may_be_chance():
    _, used = climb(ConnectionNumber(number=4, most=20), lambda n: 100.0 + n, 10)
    assert used == [4, 6, *[4] * 8]


def test_nothing_is_tried_while_the_lane_itself_is_the_limit():
    _, used = climb(ConnectionNumber(number=4, most=20), lambda n: 20.0 * n, 20, idle=BUSY)
    assert set(used) == {4}


def test_a_trial_that_goes_on_is_not_remembered():
    state = ConnectionNumber(number=4, most=20).measured(80.0, WAITS, 1.0)
    assert (state.number, state.proven) == (6, 4)


def test_a_relay_that_takes_three_gets_three():
    state = ConnectionNumber(number=4, most=20).refused(3, 0.5)
    assert state.number == 3
    state, used = climb(state, lambda n: 20.0 * n, 15)
    assert set(used) == {3}, "it is not asked again soon"
    assert state.measured(60.0, WAITS, 16.0).number == 4, "later one more is tried"


def test_twenty_connections_that_break_at_once_are_one_loss():
    state = ConnectionNumber(number=20, most=20)
    for _ in range(20):
        state = state.lost(10.0)
    assert state.number == 19


def test_losses_for_no_reason_take_away_only_what_was_added():
    state = ConnectionNumber(number=6, most=20)
    for second in range(10):
        state = state.lost(2.0 * second)
    assert state.number == FIRST
    assert ConnectionNumber(number=2, most=20).lost(0.0).number == 2


EVENTS = st.one_of(
    st.tuples(st.just("measured"), st.floats(0, 1e4), st.floats(0, 1)),
    st.tuples(st.just("refused"), st.integers(0, 40), st.none()),
    st.tuples(st.just("lost"), st.none(), st.none()),
)


@given(st.integers(1, 100), st.integers(0, 99), st.lists(st.tuples(EVENTS, st.floats(0.01, 1000))))
def test_whatever_happens_it_stays_between_one_and_the_most(first, more, events):
    state, now = ConnectionNumber(number=first, most=first + more), 0.0
    for (event, one, two), seconds in events:
        now += seconds
        before = state.number
        match event:
            case "measured":
                state = state.measured(one, two, now)
                assert state.number <= 1.5 * before + 1
            case "refused":
                state = state.refused(one, now)
                assert state.number <= before
            case _:
                state = state.lost(now)
                assert before - 1 <= state.number <= before
        assert 1 <= state.number <= state.most
        assert 1 <= state.proven <= state.most
