"""The monitor logs each finding once an hour and when it is over, and survives every error of a check."""

from __future__ import annotations

import logging

import pytest

from mailbatch.batch.monitor import AGAIN, JobMonitor
from mailbatch.domain.errors import StoreError
from mailbatch.domain.finding import Finding, Level


class Place:
    """What there is to see, and the time."""

    def __init__(self) -> None:
        self.now = 0.0
        self.findings: list[Finding] = []
        self.fault: Exception | None = None

    def look(self) -> list[Finding]:
        if self.fault:
            raise self.fault
        return self.findings


def finding(name, level=Level.ERROR):
    return Finding(name=name, level=level, what=f"{name} of ann@example.org", since=None, advice="do this")


@pytest.fixture
def place():
    return Place()


def said(caplog):
    lines = [(r.levelname, r.getMessage()) for r in caplog.records]
    caplog.clear()
    return lines


def test_a_finding_is_logged_once_an_hour_and_when_it_is_over(place, caplog):
    caplog.set_level(logging.INFO)
    monitor = JobMonitor(place.look, lambda: place.now)
    monitor.check()
    assert said(caplog) == []
    place.findings = [finding("no_run"), finding("relay_away", Level.WARNING)]
    monitor.check()
    assert said(caplog) == [
        ("ERROR", "watch: no_run of ***@example.org; do this"),
        ("WARNING", "watch: relay_away of ***@example.org; do this"),
    ]
    place.now = AGAIN - 1
    monitor.check()
    assert said(caplog) == []
    place.now = AGAIN
    monitor.check()
    assert len(said(caplog)) == 2
    place.findings = []
    monitor.check()
    assert said(caplog) == [("INFO", "watch: no_run is over"), ("INFO", "watch: relay_away is over")]
    place.findings = [finding("no_run")]
    monitor.check()
    assert len(said(caplog)) == 1


def test_a_warning_that_becomes_an_error_is_logged_again(place, caplog):
    monitor = JobMonitor(place.look, lambda: place.now)
    for level in (Level.WARNING, Level.WARNING, Level.ERROR, Level.ERROR, Level.WARNING):
        place.findings = [finding("no_progress", level)]
        monitor.check()
    assert [level for level, _ in said(caplog)] == ["WARNING", "ERROR"]


def test_an_unavailable_database_ends_no_finding_and_logs_no_line(place, caplog):
    caplog.set_level(logging.INFO)
    monitor = JobMonitor(place.look, lambda: place.now)
    place.findings = [finding("no_run")]
    monitor.check()
    caplog.clear()
    place.fault = StoreError("database x: away", transient=True)
    monitor.check()
    place.fault = None
    monitor.check()
    assert said(caplog) == []
