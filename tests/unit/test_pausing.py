"""Pausing and resuming are recorded with what they did."""

from __future__ import annotations

import pytest
from support.fake_clock import FakeClock
from support.fake_operating import FakeAuditLog
from support.fake_stores import FakeSwitch

from mailbatch.application.acting.audit import Audit
from mailbatch.application.acting.pause import PauseJob
from mailbatch.domain.run import Pause


@pytest.mark.parametrize("pause", Pause)
def test_a_pause_is_recorded_with_what_it_stops_and_its_end_as_a_resume(pause):
    switch, log = FakeSwitch(Pause.TICKS), FakeAuditLog()
    PauseJob(switch, Audit(log, FakeClock()))("cli:ann", "send-all", pause)
    assert switch.pause is pause
    [entry] = log.entries
    what = {"what": pause.value} if pause is not Pause.NONE else {}
    assert entry["action"] == ("pause" if what else "resume")
    assert entry["target"] == {"job": "send-all"} | what
