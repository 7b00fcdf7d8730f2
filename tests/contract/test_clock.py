"""The port ``Clock``: it runs forward only, and a wait takes at least its time."""

from __future__ import annotations

import pytest
from support.fake_clock import FakeClock

from mailbatch.infrastructure.system.clock import SystemClock


@pytest.fixture(params=[FakeClock, SystemClock])
def clock(request: pytest.FixtureRequest) -> FakeClock | SystemClock:
    return request.param()


def test_it_never_runs_backwards(clock):
    seen = [clock.monotonic() for _ in range(1000)]
    assert seen == sorted(seen)


def test_after_a_wait_at_least_its_time_has_passed(clock):
    began = clock.monotonic()
    clock.sleep(0.01)
    assert clock.monotonic() - began + 1e-9 >= 0.01
