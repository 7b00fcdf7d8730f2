"""Pausing and resuming are recorded with what they did."""

from __future__ import annotations

import pytest
from support.fake_audit_log import FakeAuditLog
from support.fake_clock import FakeClock
from support.fake_stores import FakePauseStore

from mailbatch.application.acting.audit import Audit
from mailbatch.application.acting.pause import PauseJob
from mailbatch.domain.run import Pause


@pytest.mark.parametrize("pause", Pause)
def test_a_pause_is_recorded_with_what_it_stops_and_its_end_as_a_resume(pause):
    pauses, log = FakePauseStore(), FakeAuditLog()
    pauses.set("send-all", Pause.TICKS)
    PauseJob(pauses, Audit(log, FakeClock()))("cli:ann", "send-all", pause)
    assert pauses.paused("send-all") is pause
    [entry] = log.entries
    what = {"what": pause.value} if pause is not Pause.NONE else {}
    assert entry["action"] == ("pause" if what else "resume")
    assert entry["target"] == {"job": "send-all"} | what
