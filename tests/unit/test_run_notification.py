"""Which runs are reported at once, and what people read of them."""

from __future__ import annotations

import pytest

from mailbatch.domain.run import RunOutcome
from mailbatch.domain.run_notification import QUIET, told, worth_telling

NOTHING = {"sent": 0, "failed": 0, "deferred": 0, "in_doubt": 0, "expired": 0, "held_back": 0}


def report(outcome="completed", **counts):
    run = {"job": "send-all", "run_id": "r1", "outcome": outcome, "remaining": 0, "duration": 2.0, "errors": []}
    return {**run, "quiet_runs": 0, **NOTHING, **counts}


@pytest.mark.parametrize("count", NOTHING)
def test_a_run_that_dealt_with_mails_is_reported_whatever_became_of_them(count):
    one = report(**{count: 1})
    assert worth_telling(one)
    assert told(one).startswith(f"send-all completed: 1 {count.replace('_', ' ')} in 2.0 s\n")


@pytest.mark.parametrize("outcome", RunOutcome)
def test_a_run_without_mails_is_reported_only_if_it_ended_neither_well_nor_by_a_pause(outcome):
    assert worth_telling(report(outcome.value)) is (outcome.value not in QUIET)
    assert told(report(outcome.value)) == f"send-all {outcome.value}: nothing sent in 2.0 s\nmailbatch run r1"
