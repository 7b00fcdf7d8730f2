"""What two screens say of the same thing is the same: whether a run goes on, when the next is, who goes first."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa
from support.api import Api
from support.backlogs import database, reserve
from support.pages import Browser

from mailbatch.domain.run import Pause
from mailbatch.infrastructure.db.tables import batch_runs, batch_schedule
from mailbatch.infrastructure.db.types import now

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

JOB = "send-all"


@pytest.fixture
def say(
    say: Callable[..., tuple[int, str, str]], sqlite_url: str, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> Any:
    for name, value in {"DATABASE_URL": sqlite_url, "REDIS_URL": redis_url, "SENDER": "s@example.com"}.items():
        monkeypatch.setenv(f"MAILBATCH_{name}", value)
    return say


@pytest.fixture
def api(sqlite_url: str, redis_url: str) -> Iterator[Api]:
    with Api({"database_url": sqlite_url, "redis_url": redis_url}) as api:
        yield api


def add_run(url: str, beat: float) -> UUID:
    """A run without an end that began and beat so many seconds ago; ahead of us it is alive, however busy we are."""
    own = uuid4()
    with database(url) as connection:
        times = {"started_at": now(-beat), "heartbeat_at": now(-beat)}
        connection.execute(sa.insert(batch_runs).values(run_id=own, job=JOB, trigger="manual", **times))
    return own


def running(say: Any, api: Api) -> set[bool]:
    """What each screen says of whether a run goes on."""
    metrics = re.search(r'^mailbatch_running\{batch="send-all"\} (\S+)$', api.client.get("/metrics").text, re.MULTILINE)
    return {
        json.loads(say("status", "--json")[1])["running"],
        "no run now" not in say("top", "--once")[1],
        api.get("/api/status")["running"],
        "No run now" not in Browser(api.client).open("/"),
        bool(float(metrics[1])) if metrics else False,
    }


@pytest.mark.parametrize(
    ("beat", "held", "expected"), [(-30, "held", {True}), (-30, "free", {True}), (20, "held", {False})]
)
def test_whether_a_run_goes_on(
    beat: float, held: str, expected: set[bool], say: Any, api: Api, sqlite_url: str
) -> None:
    """Without the lock it may go on (--no-lock); with it it may be dead: the lock outlives who was killed."""
    add_run(sqlite_url, beat)
    lock = api.parts.lock(JOB)
    assert held == "free" or lock.acquire()
    try:
        assert running(say, api) == expected
    finally:
        lock.release()


def test_a_run_that_has_just_taken_the_lock_goes_on(say: Any, api: Api) -> None:
    held = api.parts.lock(JOB)
    assert held.acquire()
    try:
        assert json.loads(say("status", "--json")[1])["running"] is True
        assert api.get("/api/status")["running"] is True
    finally:
        held.release()


def set_tick(url: str, seconds: float, pause: Pause = Pause.NONE) -> None:
    with database(url) as connection:
        row = {"name": JOB, "last_tick_at": now(seconds - 300), "next_tick_at": now(seconds), "paused": pause.value}
        connection.execute(sa.insert(batch_schedule).values(**row))


@pytest.mark.parametrize(
    ("outcome", "error", "status", "page"),
    [
        ("completed", None, "completed: nothing was due", "nothing was due"),
        ("paused", None, "paused: nothing was done", "nothing was done"),
        ("failed", "Redis is away", "failed: Redis is away", "nothing was done"),
    ],
)
def test_only_a_run_that_was_completed_says_that_nothing_was_due(
    outcome: str, error: str | None, status: str, page: str, say: Any, api: Api, sqlite_url: str
) -> None:
    with database(sqlite_url) as connection:
        row = {"job": JOB, "trigger": "manual", "outcome": outcome, "error": error, "finished_at": now(-1)}
        times = {"started_at": now(-2), "heartbeat_at": now(-1)}
        connection.execute(sa.insert(batch_runs).values(run_id=uuid4(), **row, **times))
    assert f" {status}\n" in say("status")[1]
    assert page in Browser(api.client).open("/")
    assert page in Browser(api.client).open("/runs?every=1")


@pytest.mark.parametrize("pause", [Pause.TICKS, Pause.ALL])
def test_while_it_is_paused_there_is_no_next_run(pause: Pause, say: Any, api: Api, sqlite_url: str) -> None:
    set_tick(sqlite_url, 100, pause)
    assert json.loads(say("status", "--json")[1])["next_run_at"] is None
    assert api.get("/api/status")["next_run_at"] is None
    assert re.search("next run +none while it is paused", say("status")[1])
    assert "no run now; none begins by itself while it is paused" in say("top", "--once")[1]
    assert "Paused, so the next tick starts none" in Browser(api.client).open("/")


def test_a_tick_that_is_over_is_said_to_be_late(say: Any, api: Api, sqlite_url: str) -> None:
    set_tick(sqlite_url, -60)
    for command in (("status",), ("top", "--once")):
        assert "that is over: is a beat running?" in say(*command)[1]
    assert "its tick is 1 min" in Browser(api.client).open("/")


def test_who_goes_before_a_mail_is_who_is_due(say: Any, api: Api, sqlite_url: str) -> None:
    past = datetime.now(UTC) - timedelta(minutes=1)
    reserve(sqlite_url, 3, priority=5, expires_at=past)
    reserve(sqlite_url, 1, priority=5)
    own = uuid4()
    reserve(sqlite_url, 1, id=own)
    assert json.loads(say("status", "--json")[1])["due"] == 2
    assert json.loads(say("explain", str(own), "--json")[1])["facts"]["ahead"] == 1
    assert api.get(f"/api/reservations/{own}/explain")["facts"]["ahead"] == 1
