"""What ends a lane early, and which reason counts."""

from __future__ import annotations

import pytest
from support.fake_stores import FakeStop

from mailbatch.application.sending.lane_stop import LaneStop
from mailbatch.domain.circuit import Outage
from mailbatch.domain.errors import RunFailed
from mailbatch.domain.run import RunOutcome


def outage(reason: str) -> Outage:
    return Outage(relay="r:25", reason=reason)


@pytest.mark.parametrize("why", ["relay", "database", "run"])
def test_a_lane_stops_for_its_relay_its_database_or_its_run(why):
    stop = LaneStop(FakeStop(RunOutcome.REVOKED) if why == "run" else FakeStop())
    if why == "relay":
        stop.relay_failed(outage("refused"))
    if why == "database":
        stop.database_failed(RunFailed("gone"))
    assert stop.is_set()
    assert stop.is_requested() is (why == "run")


def test_the_first_reason_of_a_kind_counts_because_others_may_follow_from_it():
    stop = LaneStop(FakeStop())
    assert not stop.is_set()
    first = RunFailed("first")
    stop.relay_failed(outage("first"))
    stop.relay_failed(outage("second"))
    stop.database_failed(first)
    stop.database_failed(RunFailed("second"))
    assert (stop.outage, stop.failure) == (outage("first"), first)
