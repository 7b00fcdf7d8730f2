"""Two installations in one Redis: what belongs to one is neither read nor written by the other."""

from __future__ import annotations

import html
import json
import shutil
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import pytest
from celery import Celery
from support.api import Api
from support.backlogs import ended, reserve, runs, states
from support.pages import Browser
from support.sink import Sink
from support.stack import Stack
from support.waiting import wait_until

from mailbatch.infrastructure.db.engine import connect as database_engine
from mailbatch.infrastructure.db.identity import identify
from mailbatch.infrastructure.redis.client import connect

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import redis

    from mailbatch.domain.database import DatabaseIdentity


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


# --- one namespace, two databases: somebody forgot to give the second installation a name of its own ---


@pytest.fixture
def nameless(staging: Stack) -> Stack:
    del staging.settings["NAMESPACE"]
    return staging


def test_a_worker_on_another_database_refuses_each_call_with_a_line_that_names_both(nameless, stack, client):
    reserve(stack.database_url, 3)
    reserve(nameless.database_url, 3)
    worker = stack.worker("-c", "1")
    ours, theirs = identity_of(stack.database_url), identity_of(nameless.database_url)

    by_hand = nameless.cli("send-all")
    assert by_hand.returncode == 1
    assert str(ours) in by_hand.stderr
    assert str(theirs) in by_hand.stderr
    assert by_hand.stderr.count("\n") == 1

    task = nameless.call()
    result = wait_until(lambda: client.get(f"mailbatch:celery-task-meta-{task}"), 20, "the call has failed")
    assert json.loads(result)["status"] == "FAILURE"

    mark = worker.mark()
    beat = nameless.beat()
    worker.wait_for_log(r"this call is for the database .*but this worker works on", since=mark)
    assert "Traceback" not in worker.log_text()
    assert client.llen("mailbatch:mailbatch") == 0
    beat.close()

    assert runs(stack.database_url) == runs(nameless.database_url) == []
    assert states(stack.database_url) == states(nameless.database_url) == {"pending": 3}
    assert stack.json("send-all")["sent"] == 3


def test_the_api_and_the_console_show_why_a_call_was_refused(nameless, stack, monkeypatch):
    stack.worker("-c", "1")
    both = [str(identity_of(url)) for url in (stack.database_url, nameless.database_url)]
    monkeypatch.setenv("MAILBATCH_REDIS_URL", nameless.redis_url)  # Celery's settings come from the environment alone
    with Api({"database_url": nameless.database_url, "redis_url": nameless.redis_url}) as api:
        answer = api.client.post("/api/run-now", params={"wait": 20})
        assert answer.status_code == 409
        assert all(name in answer.json()["detail"] for name in both)
        browser = Browser(api.client)
        page = browser.press(browser.open("/"), "Send now")
        assert all(name in html.unescape(page.html) for name in both)


def test_a_run_does_not_begin_under_another_databases_lock_and_nobody_advises_to_delete_it(nameless, stack, smtp_sink):
    smtp_sink.latency = 0.05
    smtp_sink.restart()
    stack.settings |= {"CONNECTIONS": 1, "WINDOW": 1}
    reserve(stack.database_url, 2_000)
    reserve(nameless.database_url, 3)
    stack.worker("-c", "1")
    stack.call()
    smtp_sink.wait_for(1)
    theirs = str(identity_of(stack.database_url))

    refused = nameless.cli("send-all", "--here")
    assert refused.returncode == 1
    assert theirs in refused.stderr
    assert "already running" not in refused.stdout + refused.stderr
    assert states(nameless.database_url) == {"pending": 3}

    status = nameless.json("status")
    assert not status["running"]
    assert status["progress"] is None
    [finding] = [one for one in status["warnings"] if one["name"] == "lock_of_another_database"]
    assert theirs in finding["what"]
    doctor = nameless.cli("doctor")
    assert theirs in doctor.stdout
    assert "delete" not in json.dumps(status) + doctor.stdout
    assert runs(stack.database_url)[0].outcome is None


def identity_of(url: str) -> DatabaseIdentity:
    engine = database_engine(url)
    try:
        return identify(engine)
    finally:
        engine.dispose()
