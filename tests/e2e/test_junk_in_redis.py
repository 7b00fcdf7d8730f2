"""What others store in Redis under our keys ends nobody: not the worker, not beat, not a command, not a page."""

from __future__ import annotations

import base64
import json
import re
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from support.backlogs import reserve, states
from support.waiting import wait_until

from mailbatch.infrastructure.redis.client import connect

if TYPE_CHECKING:
    from collections.abc import Iterator

    import redis

QUEUE = "mailbatch:mailbatch"


def message(**changes: Any) -> dict[str, Any]:
    """A call of ``send-all`` as the documentation has it, with changes: ``body``, ``headers`` …"""
    own = str(uuid4())
    return {
        "body": "[[], {}, {}]",
        "content-type": "application/json",
        "content-encoding": "utf-8",
        "headers": {"task": "send-all", "id": own},
        "properties": {"delivery_tag": own, "delivery_info": {"exchange": "", "routing_key": "mailbatch"}},
        **changes,
    }


def without(name: str) -> dict[str, Any]:
    return {key: value for key, value in message().items() if key != name}


JUNK: list[bytes | str | object] = [
    b"",
    b"noise",
    b"\xff\xfe\x00",
    b"null",
    b"7",
    b'"text"',
    b"[]",
    b"[1, 2]",
    b"{}",
    b"{" * 10_000,
    b"[" * 200_000,
    b"1" * 10_000,
    *(without(name) for name in message()),
    *(message(**{name: value}) for name in message() for value in (None, 7, "", "x", [], [1], {}, {"a": 1}, True)),
    message(properties={"delivery_tag": None, "delivery_info": {}}),
    message(properties={"delivery_tag": ["x"], "delivery_info": {"exchange": "", "routing_key": "mailbatch"}}),
    message(properties={"delivery_tag": "x", "delivery_info": 7}),
    message(properties={"delivery_tag": "x", "delivery_info": {"exchange": 7, "routing_key": []}}),
    message(properties={**message()["properties"], "body_encoding": "base64"}),
    message(properties={**message()["properties"], "body_encoding": "rot13"}),
    message(properties={**message()["properties"], "correlation_id": {"a": 1}, "reply_to": 7, "priority": "x"}),
    message(body="{", headers={"task": "send-all", "id": str(uuid4())}),
    message(body=base64.b64encode(b"\xff\xfe").decode()),
    message(body="[]"),
    message(body="[[], {}]"),
    message(body="[7, 7, 7]"),
    message(body='[[], {}, {"callbacks": 7, "errbacks": {}, "chain": 1, "chord": "x"}]'),
    message(body="[[1, 2], {}, {}]"),
    message(body='[[], {"trigger": "cat"}, {}]'),
    message(body='[[], {"unknown": 1}, {}]'),
    message(body="[" * 100_000),
    message(headers={"task": "unknown", "id": str(uuid4())}),
    message(headers={"task": ["send-all"], "id": str(uuid4())}),
    message(headers={"task": {"a": 1}, "id": str(uuid4())}),
    message(headers={"task": "send-all", "id": None}),
    message(headers={"task": "send-all", "id": 7}),
    message(headers={"task": "send-all", "id": ["x"]}),
    message(headers={"task": "send-all", "id": {"a": 1}}),
    message(headers={"task": "send-all", "id": "\ud800"}),
    message(headers={"task": "send-all"}),
    message(headers={"id": "x"}),
    *(
        message(headers={"task": "send-all", "id": str(uuid4()), name: value})
        for name in ("eta", "expires", "timelimit", "retries", "stamps", "stamped_headers", "argsrepr", "kwargsrepr",
                     "group", "parent_id", "root_id", "origin", "ignore_result", "lang", "shadow", "compression",
                     "mailbatch_database", "traceparent")
        for value in ("junk", 7, [1], {"a": 1}, "x" * 100_000)
    ),
    message(**{"content-type": "application/x-python-serialize", "body": "gASVAA=="}),
    message(**{"content-encoding": "klingon"}),
    # Celery's first protocol, which libraries of other languages speak.
    *(
        message(headers={}, body=json.dumps({"task": "send-all", "id": "x", "args": [], "kwargs": {}, name: value}))
        for name in ("task", "id", "args", "kwargs", "timelimit", "retries", "expires", "eta")
        for value in ("junk", 7, [1], {"a": 1}, None)
    ),
    message(headers={}, body='{"task": "send-all"}'),
    message(headers={}, body='{"task": "send-all", "id": "x"}'),
    message(headers=None, body="7"),
]  # fmt: skip


def encoded(junk: object) -> bytes:
    return junk if isinstance(junk, bytes) else json.dumps(junk).encode()


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    with connect(redis_url) as client:
        yield client


@pytest.mark.parametrize("pool", ["prefork", "threads", "solo"])
def test_whatever_is_pushed_into_the_queue_the_worker_takes_the_call_behind_it(sqlite_stack, client, pool):
    """One worker, which is never started anew."""
    reserve(sqlite_stack.database_url, 1)
    worker = sqlite_stack.worker("-c", "1", "-P", pool)
    for junk in JUNK:
        client.lpush(QUEUE, encoded(junk))
        wait_until(lambda: client.llen(QUEUE) == 0 or not worker.running, 30, "the queue is empty")
        assert worker.running, (junk, worker.log_text()[-3000:])
    assert sqlite_stack.json("send-all")["outcome"] == "completed"
    assert states(sqlite_stack.database_url) == {"sent": 1}


@pytest.mark.parametrize(
    "keys",
    [
        {
            QUEUE: ("send-all", "doctor"),
            "mailbatch:_kombu.binding.mailbatch": ("send-all",),
            "mailbatch:_kombu.binding.celery.pidbox": ("send-all", "doctor"),
            "mailbatch:_kombu.binding.reply.celery.pidbox": ("doctor",),
            "mailbatch:unacked_mutex": ("send-all",),
        },
        {
            "mailbatch:job:lock:send-all": ("send-all", "status"),
            "mailbatch:job:status:send-all": ("send-all", "status"),
            "mailbatch:relay:connections:{relay}": ("send-all", "doctor"),
        },
    ],
    ids=["Celery's", "ours"],
)
def test_a_key_of_another_type_costs_lines_and_when_it_is_gone_all_goes_on(sqlite_stack, client, keys):
    """Written under a worker that runs: it does not end, and no command has more to say than a line."""
    sqlite_stack.settings |= {"RELAY_CONNECTIONS": 4}
    worker = sqlite_stack.worker("-c", "1")
    for number, (name, commands) in enumerate(keys.items(), 1):
        key = name.format(relay=sqlite_stack.smtp_url.removeprefix("smtp://"))
        replace(client, key)
        for command in commands:
            done = sqlite_stack.cli(command)
            assert done.returncode in {0, 1}, key
            assert "Traceback" not in done.stderr
            assert done.stderr.count("\n") <= 1, (key, done.stderr)
        client.delete(key)
        reserve(sqlite_stack.database_url, 1)
        assert sqlite_stack.json("send-all")["outcome"] == "completed", (key, worker.log_text()[-3000:])
        assert worker.running
        assert states(sqlite_stack.database_url) == {"sent": number}


@pytest.mark.parametrize("key", ["mailbatch:unacked", "mailbatch:unacked_index"])
def test_a_call_that_cannot_be_noted_as_received_waits_until_the_key_is_gone(sqlite_stack, client, key):
    reserve(sqlite_stack.database_url, 1)
    worker = sqlite_stack.worker("-c", "1")
    replace(client, key)
    task = sqlite_stack.call()
    worker.wait_for_log("a key of the queue in Redis is of another type")
    client.delete(key)
    worker.wait_for_log(f"Task send-all.{task}. succeeded")
    assert states(sqlite_stack.database_url) == {"sent": 1}


def test_a_worker_that_starts_on_keys_of_another_type_waits_until_they_are_gone(sqlite_stack, client):
    """They are taken away in the order in which a worker that starts comes to them: it waits for each."""
    keys = [
        "mailbatch:_kombu.binding.mailbatch",
        "mailbatch:_kombu.binding.celery.pidbox",
        "mailbatch:unacked_index",
        QUEUE,
    ]
    for key in keys:
        replace(client, key)
    reserve(sqlite_stack.database_url, 1)
    worker = sqlite_stack.worker("-c", "1", ready=False)
    refused = "a key of ours holds another type, delete it: .*WRONGTYPE"
    for key in keys:
        said = len(worker.log_text())
        wait_until(lambda said=said: re.search(refused, worker.log_text()[said:]), 30, f"a word on {key}")
        assert worker.running
        client.delete(key)
    worker.wait_for_log(r" ready\.", 60)
    assert sqlite_stack.json("send-all")["sent"] == 1
    assert worker.running


def test_a_binding_that_is_none_keeps_no_call_from_its_queue(sqlite_stack, client):
    reserve(sqlite_stack.database_url, 1)
    sqlite_stack.worker("-c", "1")
    for binding in ("junk", "", "a\x06\x16b", "a\x06\x16b\x06\x16c\x06\x16d", b"\xff\xfe"):
        client.sadd("mailbatch:_kombu.binding.mailbatch", binding)
    assert sqlite_stack.json("send-all")["sent"] == 1


@pytest.mark.parametrize("channel", ["celery.pidbox", "celeryev/worker.heartbeat"])
def test_junk_among_the_control_commands_and_events_ends_nobody(sqlite_stack, client, channel):
    reserve(sqlite_stack.database_url, 1)
    worker = sqlite_stack.worker("-c", "1")
    # A worker says "ready" before it has asked Redis for its channels.
    wait_until(lambda: client.publish(f"mailbatch:/0.{channel}", b"") or None, 20, f"somebody who listens on {channel}")
    for junk in (b"noise", b"\xff", b"7", b"null", b"[]", b"{}", b"[" * 100_000, encoded(message())):
        assert client.publish(f"mailbatch:/0.{channel}", junk)
    bad = message(body='{"method": "revoke", "arguments": 7}', headers={})
    client.publish(f"mailbatch:/0.{channel}", encoded(bad))
    assert sqlite_stack.json("send-all")["sent"] == 1
    assert worker.running


def replace(client: redis.Redis, key: str) -> None:
    """Put a value of another type under ``key``."""
    kind = client.type(key)
    client.delete(key)
    if kind == "hash" or key.endswith("unacked"):
        client.set(key, "junk")
    else:
        client.hset(key, "junk", "junk")
