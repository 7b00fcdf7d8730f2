"""What the next run would send, seen before it does."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
import sqlalchemy as sa
from support.backlogs import database, reserve, states

from mailbatch.infrastructure.db.tables import batch_runs, batch_schedule
from mailbatch.infrastructure.db.types import now
from mailbatch.interfaces.cli import main

if TYPE_CHECKING:
    from collections.abc import Callable

IN_AN_HOUR = datetime.now(UTC) + timedelta(hours=1)


@pytest.fixture
def plan(
    database_url: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str]]:
    for name in [name for name in os.environ if name.startswith("MAILBATCH_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("MAILBATCH_DATABASE_URL", database_url)
    monkeypatch.setenv("MAILBATCH_SENDER", "sender@example.com")

    def run(*args: str) -> tuple[int, str]:
        code = main.run(["plan", *args])
        return code, capfd.readouterr().out

    return run


def planned(plan: Callable[..., tuple[int, str]], *args: str) -> Any:
    return json.loads(plan("--json", *args)[1])


def test_what_is_due_is_rendered_and_left_as_it_was(plan, database_url):
    reserve(database_url, 120)
    reserve(database_url, 3, scheduled_at=IN_AN_HOUR)
    code, out = plan()
    assert code == 0
    assert out.startswith("120 due now\nrendered: 120 can be sent")
    assert states(database_url) == {"pending": 123}


def test_the_order_is_that_of_a_run(plan, database_url):
    reserve(database_url, 60, subject="later")
    reserve(database_url, 1, start=60, subject="sooner", priority=9)
    reserve(database_url, 1, start=61, subject="last", priority=-1)
    lines = plan("--limit", "200")[1].splitlines()
    first = next(i for i, line in enumerate(lines) if line.startswith("FIRST"))
    assert "sooner" in lines[first + 1]
    assert "later" in lines[first + 2]
    assert planned(plan)["rendered"] == 62


def test_what_cannot_be_composed_is_told_by_reason_and_costs_the_exit_code(plan, database_url):
    reserve(database_url, 2)
    reserve(database_url, 5, start=2, body="Hello {{{{ name }}}}")
    reserve(database_url, 1, start=7, recipients="nobody")
    code, out = plan()
    assert code == 1
    assert "2 can be sent" in out
    assert "6 cannot" in out
    assert "  5 × body_text: 'name' is undefined" in out.replace("body_text line 1", "body_text")
    found = planned(plan)
    assert [len(one["errors"]) for one in found["broken"]] == [1] * 6


def test_more_than_the_limit_is_counted_but_not_rendered(plan, database_url):
    reserve(database_url, 30)
    found = planned(plan, "--limit", "7")
    assert (found["due"], found["rendered"]) == (30, 7)
    assert "rendered, the first 7 of them" in plan("--limit", "7")[1]


def test_without_a_time_it_looks_as_far_as_the_next_tick(plan, database_url):
    reserve(database_url, 2)
    reserve(database_url, 3, start=2, scheduled_at=IN_AN_HOUR)
    assert planned(plan)["due"] == 2
    with database(database_url) as connection:
        row = {"name": "send-all", "next_tick_at": IN_AN_HOUR + timedelta(minutes=1)}
        connection.execute(sa.insert(batch_schedule).values(row))
    assert planned(plan)["due"] == 5
    assert planned(plan, "--by", datetime.now(UTC).isoformat())["due"] == 2


def test_the_last_runs_tell_how_long_it_will_take(plan, database_url):
    reserve(database_url, 400)
    assert planned(plan)["seconds"] is None
    with database(database_url) as connection:
        row = {"run_id": uuid4(), "job": "send-all", "trigger": "beat", "outcome": "completed", "sent": 1000}
        connection.execute(sa.insert(batch_runs).values(**row, finished_at=now(), duration=10.0))
    found = planned(plan)
    assert (found["mails_per_second"], found["seconds"]) == (100, 4)
    assert "at 100 mails/s, as in the last runs, a run takes 4 s" in plan()[1]


def test_nothing_due_is_said_to_be_nothing(plan):
    assert plan() == (0, "nothing is due now\n")
