"""When the next run begins, in words."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from mailbatch.application.looking.next_run import GRACE, NextRun

AT = datetime(2026, 11, 28, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("at", "due_in", "paused", "words"),
    [
        (AT, 60.0, True, "none while it is paused"),
        (None, None, False, "not known: no beat has run yet"),
        (AT, 60.0, False, "12:00"),
        (AT, 0.0, False, "due now"),
        (AT, -GRACE, False, "due now"),
        (AT, -GRACE - 1, False, "12:00; that is over: is a beat running?"),
    ],
)
def test_every_screen_says_of_the_next_run_what_is_known(at, due_in, paused, words):
    assert NextRun(at=at, due_in=due_in, paused=paused).told(lambda when: f"{when:%H:%M}") == words
