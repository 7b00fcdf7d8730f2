"""The lease of a lane: until when it may act on what it has claimed."""

from __future__ import annotations

import pytest
from support.fake_backlog import FakeBacklog
from support.fake_stores import FakeRun

from mailbatch.application.sending.lane_lease import LEASE_SHARE, LaneLease

SECONDS = 60.0


@pytest.fixture
def backlog() -> FakeBacklog:
    return FakeBacklog(lease=SECONDS)


@pytest.fixture
def lease(backlog) -> LaneLease:
    """A lease that begins now."""
    lease = LaneLease(backlog, backlog.clock, SECONDS, FakeRun().id, 0)
    lease.begin(backlog.clock.monotonic(), holds_more=False)
    return lease


def test_a_lane_without_claims_has_no_lease_that_could_end(backlog):
    backlog.clock.now += 10 * SECONDS
    assert not LaneLease(backlog, backlog.clock, SECONDS, FakeRun().id, 0).has_ended()


def test_it_ends_a_little_before_the_database_says_so(backlog, lease):
    backlog.clock.now += LEASE_SHARE * SECONDS - 0.1
    assert not lease.has_ended()
    backlog.clock.now += 0.2
    assert lease.has_ended()


def test_it_is_measured_from_the_request_because_the_answer_may_be_late(backlog, lease):
    requested_at = backlog.clock.monotonic()
    backlog.clock.now += 50
    lease.begin(requested_at, holds_more=False)
    assert lease.ends == requested_at + LEASE_SHARE * SECONDS


def test_a_new_claim_does_not_prolong_the_lease_of_older_ones(backlog, lease):
    ends = lease.ends
    backlog.clock.now += 30
    lease.begin(backlog.clock.monotonic(), holds_more=True)
    assert lease.ends == ends
    lease.begin(backlog.clock.monotonic(), holds_more=False)
    assert lease.ends == ends + 30


def test_a_lease_that_has_ended_cannot_be_renewed(backlog, lease):
    backlog.clock.now += 30
    lease.renew()
    assert lease.ends == backlog.clock.monotonic() + LEASE_SHARE * SECONDS
    backlog.clock.now += SECONDS
    lease.renew()
    assert lease.has_ended()
