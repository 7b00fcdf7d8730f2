"""When failures in a row are enough to call a relay away."""

from __future__ import annotations

from uuid import uuid4

import pytest
from support.fake_clock import FakeClock

from mailbatch.application.sending.relay_health.relay_failures import ConsecutiveFailures


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def failures(clock) -> ConsecutiveFailures:
    return ConsecutiveFailures(clock, most=3, patience=5.0, most_doubts=4)


def test_so_many_faults_in_a_row_are_enough(failures):
    assert [failures.fault() for _ in range(3)] == [False, False, True]


def test_an_answer_ends_the_row(failures):
    failures.fault()
    failures.fault()
    failures.reset()
    assert [failures.fault() for _ in range(3)] == [False, False, True]


def test_an_answer_ends_the_time_for_which_the_row_lasts(failures, clock):
    failures.fault()
    failures.reset()
    clock.now += 5
    assert not failures.fault()


def test_fewer_faults_are_enough_if_they_last(failures, clock):
    assert not failures.fault()
    clock.now += 5
    assert failures.fault()


def test_the_time_says_nothing_while_all_faults_are_in_the_dialogue_of_one_mail(failures, clock):
    one, other = uuid4(), uuid4()
    failures.fault(one)
    clock.now += 5
    assert not failures.fault(one)
    assert failures.fault(other)


def test_so_many_mails_without_a_verdict_are_enough_and_so_are_fewer_that_last(failures, clock):
    assert [failures.doubt() for _ in range(4)] == [False, False, False, True]
    failures.reset()
    failures.doubt()
    clock.now += 5
    assert failures.doubt()
