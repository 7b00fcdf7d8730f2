"""Filters as people write them, and confirmations that grow old."""

from __future__ import annotations

from dataclasses import fields
from datetime import UTC, datetime, timedelta
from inspect import signature
from uuid import UUID

import pytest
import time_machine

from mailbatch.application.looking.filters import FIELDS, read_filter
from mailbatch.domain.act import Act
from mailbatch.domain.errors import InvalidReservation
from mailbatch.domain.reservation import Status
from mailbatch.domain.selection import Selection
from mailbatch.interfaces.cli.listing import list_command
from mailbatch.interfaces.http.auth import AccessGate
from mailbatch.interfaces.http.bulk import CONFIRM_WITHIN, FilterIn, confirmed, token
from mailbatch.interfaces.http.problems import Problem
from mailbatch.interfaces.http.request_params import selection

NOW = datetime(2026, 11, 21, 3, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("90s", NOW - timedelta(seconds=90)),
        ("15m", NOW - timedelta(minutes=15)),
        (" 1h ", NOW - timedelta(hours=1)),
        ("2d", NOW - timedelta(days=2)),
        ("1w", NOW - timedelta(weeks=1)),
        ("2026-11-21T03:00:00+02:00", NOW - timedelta(hours=2)),
        # A plus sign that nobody escaped comes out of a query as a blank.
        ("2026-11-21T03:00:00 02:00", NOW - timedelta(hours=2)),
        ("2026-11-21T01:00:00Z", NOW - timedelta(hours=2)),
    ],
)
def test_a_time_is_iso_8601_or_how_long_ago(text, meant):
    assert read_filter({"since": text}, NOW) == Selection(since=meant)


def test_what_is_empty_was_not_given():
    given = {"status": "failed", "tag": " spring ", "to": "", "run": str(UUID(int=7)), "reply": None, "other": "x"}
    assert read_filter(given, NOW) == Selection(status=Status.FAILED, tag="spring", run_id=UUID(int=7))


def test_all_that_is_wrong_is_said_at_once():
    with pytest.raises(InvalidReservation) as refused:
        read_filter({"status": "gone", "since": "soon", "until": "2026-11-21T03:00:00", "run": "4711"}, NOW)
    assert [problem.partition(":")[0] for problem in refused.value.problems] == ["status", "since", "until", "run"]


def test_a_confirmation_knows_when_its_preview_was_and_grows_old():
    gate, which = AccessGate("token", None), {"status": "failed", "since": "1h"}
    with time_machine.travel(NOW, tick=False):
        confirm = token(gate, Act.REQUEUE, which)
    with time_machine.travel(NOW + timedelta(seconds=CONFIRM_WITHIN), tick=False):
        assert confirmed(gate, confirm, Act.REQUEUE, dict(reversed(which.items()))) == NOW
    with (
        time_machine.travel(NOW + timedelta(seconds=CONFIRM_WITHIN + 1), tick=False),
        pytest.raises(Problem, match="too old"),
    ):
        confirmed(gate, confirm, Act.REQUEUE, which)
    with time_machine.travel(NOW, tick=False), pytest.raises(Problem, match="take it from the preview"):
        confirmed(AccessGate("another", None), confirm, Act.REQUEUE, which)


def test_every_condition_of_a_selection_is_a_field_of_the_filter():
    assert [field.attribute for field in FIELDS.values()] == [field.name for field in fields(Selection)]


@pytest.mark.parametrize("name", FIELDS)
def test_the_command_line_the_api_and_the_bulk_actions_have_every_field(name):
    options = {option.name for option in list_command.params}
    assert name in options
    assert name in signature(selection).parameters
    assert name in FilterIn.model_fields
