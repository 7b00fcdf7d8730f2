"""Two installations in one Redis: what belongs to one is neither read nor written by the other."""

from __future__ import annotations

import json
import shutil
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import pytest
from celery import Celery
from support.backlogs import ended, reserve, runs, states
from support.sink import Sink
from support.stack import Stack
from support.waiting import wait_until

from mailbatch.infrastructure.redis.client import connect

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import redis


@contextmanager
def user_of(client: redis.Redis, url: str, namespace: str) -> Iterator[str]:
    """The URL of a Redis user who may do everything, but only to keys and channels of ``namespace``."""
    # A pattern must be allowed as it is written: the one of control commands, and that of events.
    patterns = [f"&{namespace}:/0.{name}" for name in ("celery.pidbox", "celeryev/*", "celeryev/worker.*")]
    own = ["resetkeys", "resetchannels", f"~{namespace}:*", f"&{namespace}:*", *patterns]
    client.execute_command("ACL", "SETUSER", namespace, "on", ">pw", "+@all", *own)
    try:
        yield url.replace("redis+socket://", f"redis+socket://{namespace}:pw@")
    finally:
        client.execute_command("ACL", "DELUSER", namespace)


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    with connect(redis_url) as client:
        client.execute_command("ACL", "LOG", "RESET")
        yield client


@pytest.fixture
def staging(sqlite_template: Path, redis_url: str, tmp_path: Path) -> Iterator[Stack]:
    """A second installation: a database and a relay of its own, the Redis of all."""
    shutil.copy(sqlite_template, tmp_path / "staging.db")
    with (
        Sink(tmp_path / "staging-sink") as sink,
        Stack(f"sqlite:///{tmp_path / 'staging.db'}", redis_url, sink.url, tmp_path / "staging") as stack,
    ):
        stack.settings["NAMESPACE"] = "staging"
        yield stack


@contextmanager
def caller(redis_url: str, namespace: str) -> Iterator[Celery]:
    """An application that calls and controls the workers of ``namespace`` by the broker alone."""
    app = Celery("caller", broker=redis_url, backend=redis_url, set_as_current=False)
    prefix = {"global_keyprefix": f"{namespace}:"}
    app.conf.update(
        broker_transport_options=prefix, result_backend_transport_options=prefix, task_default_queue="mailbatch"
    )
    yield app
    app.close()


def test_everything_that_is_done_in_redis_is_done_under_the_namespace(staging, client, redis_url):
    """Redis itself refuses whatever else is tried: a run, lanes, beat, results, revoke, inspect and events go on."""
    staging.settings |= {"RELAY_CONNECTIONS": 8, "LANES": 2, "SCHEDULE": 3600}
    reserve(staging.database_url, 3_000)
    with user_of(client, redis_url, "staging") as url:
        staging.redis_url = url
        staging.worker("-B", "-c", "2")
        wait_until(lambda: ended(staging.database_url), 60, "the tick's run ends")
        assert states(staging.database_url) == {"sent": 3_000}
        assert staging.json("send-all")["outcome"] == "completed"
        inspected = staging.celery("inspect", "active_queues", "-t", "3")
        assert "'mailbatch'" in inspected.stdout, inspected.stdout + inspected.stderr
        assert staging.celery("control", "revoke", "some-id").returncode == 0
        assert staging.cli("doctor").returncode == 0
        denied = client.execute_command("ACL", "LOG")
        assert denied == [], denied
    strange = [key for key in client.scan_iter() if not key.startswith("staging:")]
    assert strange == []


def test_what_one_installation_does_the_other_does_not_notice(staging, stack, client, redis_url):
    """Two workers in one Redis; calls, control commands, events and results reach one of them alone."""
    reserve(stack.database_url, 30)
    reserve(staging.database_url, 30)
    stack.worker("-c", "1", "-n", "production@here")
    other = staging.worker("-c", "1", "-n", "staging@here")

    with watched(redis_url, "mailbatch") as seen:
        assert staging.json("send-all")["sent"] == 30
        assert stack.json("send-all")["sent"] == 30
        wait_until(lambda: any(event["type"] == "task-succeeded" for event in seen), 20, "the run's events arrive")
    assert {event["hostname"] for event in seen if event["type"].startswith("worker")} <= {"production@here"}
    assert len({event["uuid"] for event in seen if event["type"].startswith("task")}) == 1

    assert [run.sent for run in runs(stack.database_url)] == [run.sent for run in runs(staging.database_url)] == [30]
    with caller(redis_url, "mailbatch") as app:
        assert [name for reply in app.control.ping(timeout=2) for name in reply] == ["production@here"]
    results = {key.partition(":celery-task-meta-")[0] for key in client.keys("*celery-task-meta-*")}
    assert results == {"mailbatch", "staging"}
    for key in client.keys("*:job:status:*"):
        assert json.loads(client.get(key))["state"] == "finished"

    with caller(redis_url, "mailbatch") as app:
        app.control.shutdown()
    wait_until(lambda: not app_answers(redis_url, "mailbatch"), 20, "the worker of production shuts down")
    assert other.running
    assert app_answers(redis_url, "staging")


@contextmanager
def watched(redis_url: str, namespace: str) -> Iterator[list[dict[str, object]]]:
    """The events of ``namespace``, as Flower gets them, from now on."""
    seen: list[dict[str, object]] = []
    over = threading.Event()

    def listen() -> None:
        with caller(redis_url, namespace) as app, app.connection_for_read() as connection:
            receiver = app.events.Receiver(connection, handlers={"*": seen.append})
            with receiver.consumer_context(wakeup=False) as (connected, _channel, _consumers):
                while not over.is_set():
                    with suppress(TimeoutError):
                        connected.drain_events(timeout=0.2)

    thread = threading.Thread(target=listen, daemon=True)
    thread.start()
    # A worker's heartbeat says that the subscription stands.
    wait_until(lambda: seen, 20, "events are heard")
    yield seen
    over.set()
    thread.join(5)


def app_answers(redis_url: str, namespace: str) -> bool:
    with caller(redis_url, namespace) as app:
        return bool(app.control.ping(timeout=2))
