"""The watchman says each thing once an hour, says when it is over, and outlives whatever he sees."""

from __future__ import annotations

import logging

import pytest

from mailbatch.batch.watchman import AGAIN, Watchman
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
    watchman = Watchman(place.look, lambda: place.now)
    watchman.look()
    assert said(caplog) == []
    place.findings = [finding("no_run"), finding("relay_away", Level.WARNING)]
    watchman.look()
    assert said(caplog) == [
        ("ERROR", "watch: no_run of ***@example.org; do this"),
        ("WARNING", "watch: relay_away of ***@example.org; do this"),
    ]
    place.now = AGAIN - 1
    watchman.look()
    assert said(caplog) == []
    place.now = AGAIN
    watchman.look()
    assert len(said(caplog)) == 2
    place.findings = []
    watchman.look()
    assert said(caplog) == [("INFO", "watch: no_run is over"), ("INFO", "watch: relay_away is over")]
    place.findings = [finding("no_run")]
    watchman.look()
    assert len(said(caplog)) == 1


def test_a_warning_that_becomes_an_error_is_logged_again(place, caplog):
    watchman = Watchman(place.look, lambda: place.now)
    for level in (Level.WARNING, Level.WARNING, Level.ERROR, Level.ERROR, Level.WARNING):
        place.findings = [finding("no_progress", level)]
        watchman.look()
    assert [level for level, _ in said(caplog)] == ["WARNING", "ERROR"]


def test_a_database_that_is_away_ends_no_finding_and_costs_no_line(place, caplog):
    caplog.set_level(logging.INFO)
    watchman = Watchman(place.look, lambda: place.now)
    place.findings = [finding("no_run")]
    watchman.look()
    caplog.clear()
    place.fault = StoreError("database x: away", transient=True)
    watchman.look()
    place.fault = None
    watchman.look()
    assert said(caplog) == []
