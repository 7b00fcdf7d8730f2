"""A relay's circuit: when a run may go, when it probes, and for how long a relay is left alone."""

from __future__ import annotations

import logging
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.fake_stores import FakeCircuits

from mailbatch.application.sending.relay_health.circuit_breaker import CircuitBreaker
from mailbatch.domain.circuit import Circuit, CircuitPolicy, CircuitState, Outage, Step
from mailbatch.domain.errors import RunFailed, StoreError

POLICY = CircuitPolicy(first=10, longest=100, longest_asked=1000)


def circuit(state, left=0.0):
    return Circuit(relay="r:25", state=state, seconds_left=left)


@pytest.mark.parametrize(
    ("state", "left", "by_hand", "step"),
    [
        (CircuitState.CLOSED, 0, False, Step.GO),
        (CircuitState.CLOSED, 0, True, Step.GO),
        (CircuitState.OPEN, 5, False, Step.LEAVE),
        (CircuitState.OPEN, 5, True, Step.PROBE),
        (CircuitState.OPEN, 0, False, Step.PROBE),
        (CircuitState.HALF_OPEN, 0, False, Step.PROBE),
        (CircuitState.HALF_OPEN, 5, False, Step.PROBE),  # who probed by hand may have died of it
    ],
)
def test_a_tick_waits_for_the_time_to_come_and_a_call_by_hand_finds_out_at_once(state, left, by_hand, step):
    assert circuit(state, left).step(by_hand=by_hand) is step


def test_each_failed_probe_doubles_the_time_until_the_longest():
    assert [POLICY.open_for(n, 1.0) for n in (1, 2, 3, 4, 5, 500)] == [10, 20, 40, 80, 100, 100]
    assert POLICY.open_for(1, 0.0) == 5


@given(st.integers(0, 10**6), st.floats(0, 1, exclude_max=True), st.none() | st.floats(0, 10**6))
def test_the_time_is_within_bounds_whatever_the_relay_asks_for(failures, jitter, asked):
    seconds = POLICY.open_for(failures, jitter, asked)
    assert 5 <= seconds <= (POLICY.longest if (asked or 0) <= POLICY.longest else POLICY.longest_asked)
    assert seconds >= min(asked or 0, POLICY.longest_asked)


def test_what_is_told_names_the_relay_the_time_and_the_reason():
    until = datetime(2026, 3, 1, 12, 0, 5, tzinfo=UTC)
    told = Circuit(relay="r:25", state=CircuitState.OPEN, reason="refused", open_until=until).told()
    assert told == "the relay r:25 is left alone until 2026-03-01 12:00:05 UTC: refused"


@pytest.fixture
def circuits():
    return FakeCircuits()


def outage(reason):
    return Outage(relay="r:25", reason=reason)


def guard(circuits):
    return CircuitBreaker(circuits=circuits, relay="r:25", policy=POLICY, jitter=lambda: 1.0)


def test_the_way_of_a_circuit_from_well_to_well(circuits):
    g = guard(circuits)
    assert g.circuit_to_probe(by_hand=False) is None
    g.open(outage("connection refused"))
    with pytest.raises(RunFailed, match=r"the relay r:25 is left alone until .*: connection refused"):
        g.circuit_to_probe(by_hand=False)
    circuits.tables.clock.now += 10
    assert g.circuit_to_probe(by_hand=False) is not None
    assert g.look().state is not CircuitState.CLOSED
    g.open(outage("connection refused"))
    assert circuits.look("r:25").seconds_left == 20
    assert g.circuit_to_probe(by_hand=True) is not None
    g.close()
    assert g.look().state is CircuitState.CLOSED
    assert circuits.look("r:25") == Circuit(relay="r:25")


def test_two_lanes_that_meet_the_same_outage_open_the_circuit_once(circuits):
    guard(circuits).open(outage("first"))
    guard(circuits).open(outage("second"))
    assert (circuits.look("r:25").failures, circuits.look("r:25").reason) == (1, "first")


def test_a_database_that_cannot_tell_keeps_no_mail_from_going(circuits, caplog):
    circuits.failing = StoreError("database x: away", transient=True)
    g = guard(circuits)
    assert g.look().state is CircuitState.CLOSED
    with caplog.at_level(logging.WARNING):
        assert g.circuit_to_probe(by_hand=False) is None
        g.open(outage("refused"))
        g.close()
    assert [r.getMessage().partition(":")[0] for r in caplog.records] == [
        f"the circuit of the relay cannot be {verb}" for verb in ("read", "opened", "closed")
    ]
