"""Junk under our keys in Redis: every page and command works, or says what is wrong."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from support.api import Api

from mailbatch.infrastructure.redis.client import connect
from mailbatch.infrastructure.redis.keys import Keys

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import redis

LOCK, STATUS = Keys().lock("send-all"), Keys().status("send-all")
PAGES = ("/", "/live", "/schedule", "/runs", "/api/status", "/api/is-running", "/metrics", "/readyz")
GOOD = {"state": "running", "run_id": str(uuid4()), "sent": 3, "failed": 0, "elapsed": 2.0, "trigger": "beat"}
ODD: list[Any] = [None, True, "x", -1, 10**30, [1], {"a": 1}, "\ud800", [[]] * 500]
STATUSES = [
    *(json.dumps(odd) for odd in ODD),
    *(json.dumps({**GOOD, name: odd}) for name in GOOD for odd in ODD),
    *(json.dumps({name: value for name, value in GOOD.items() if name != left_out}) for left_out in GOOD),
    '{"state": "running", "sent": NaN, "elapsed": Infinity, "failed": -Infinity}',
    '{"sent": 1e999}',
    "[" * 100_000,
    "noise",
]
LOCKS: list[str | bytes] = [
    "",
    " ",
    ":",
    "a:b:c",
    "junk {",
    b"\xff\xfe",
    "x " + "[" * 100_000,
    'a:1:t {"kind":"sqlite"}',
]


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    with connect(redis_url) as client:
        yield client


@pytest.fixture
def api(sqlite_url: str, redis_url: str) -> Iterator[Api]:
    with Api({"database_url": sqlite_url, "redis_url": redis_url, "relay_connections": 4}) as api:
        yield api


def look_everywhere(api: Api, pages: Sequence[str] = PAGES) -> None:
    # What the console computes for all who look is kept for a moment.
    if snapshots := getattr(api.app.state, "snapshots", None):
        snapshots.now.forget()
    for page in pages:
        answer = api.client.get(page)
        assert answer.status_code in {200, 503}, (page, answer.text[:500])


def test_any_progress_can_be_looked_at(api, client):
    client.set(LOCK, "host:1:token", ex=3600)
    for written in STATUSES:
        client.set(STATUS, written)
        look_everywhere(api, ["/", "/api/status"])
        progress = api.get("/api/status")["progress"]
        assert progress is None or json.dumps(progress, allow_nan=False)


@pytest.mark.parametrize("lock", LOCKS)
def test_any_holder_of_the_lock_can_be_looked_at(api, client, lock):
    client.set(LOCK, lock)
    look_everywhere(api)
    assert not api.get("/api/is-running")["running"], "a key that never ends is no run's"
    assert [found["name"] for found in api.get("/api/status")["warnings"]][-1:] == ["lock_without_run"]


@pytest.mark.parametrize("key", [LOCK, STATUS, Keys().connections("localhost:1025")])
@pytest.mark.parametrize("kind", ["list", "set", "hash", "stream"])
def test_a_key_of_another_type_can_be_looked_at(api, client, key, kind):
    writing: dict[str, Callable[[], object]] = {
        "list": lambda: client.lpush(key, "x"),
        "set": lambda: client.sadd(key, "x"),
        "hash": lambda: client.hset(key, "x", "y"),
        "stream": lambda: client.xadd(key, {"x": "y"}),
    }
    writing[kind]()
    look_everywhere(api)


@pytest.mark.parametrize("command", ["status", "doctor", "runs", "top"])
def test_commands_show_any_progress_and_any_holder(say, sqlite_url, redis_url, client, command):
    more = ("--once",) if command == "top" else ()
    client.set(LOCK, b"\xff {", ex=3600)
    # doctor looks for a worker each time, which takes seconds.
    for written in STATUSES[:: len(GOOD) * (8 if command == "doctor" else 1)]:
        client.set(STATUS, written)
        code, _out, err = say(command, *more, DATABASE_URL=sqlite_url, REDIS_URL=redis_url)
        assert code in {0, 1}
        assert "Traceback" not in err
