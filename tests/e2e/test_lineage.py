"""What the ancestors did, done by the real thing; docs/lineage.md says which row each test stands for."""

from __future__ import annotations

import json
import re
import socket
import urllib.request
from collections import Counter
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from signal import SIGTERM
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa
from support.backlogs import database, reserve, runs, states
from support.waiting import wait_until

from mailbatch.batch.job import HEARTBEAT
from mailbatch.domain.run import DEAD_AFTER
from mailbatch.infrastructure.db.tables import batch_schedule, mail_reservations, run_errors
from mailbatch.infrastructure.db.types import seconds_since
from mailbatch.infrastructure.redis.client import connect

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.processes import ManagedProcess
    from support.sink import Sink
    from support.stack import Stack

STATUS_KEY = "mailbatch:job:status:send-all"
LOCK_KEY = "mailbatch:job:lock:send-all"
QUEUE = "mailbatch:mailbatch"
SEEN = 3 * 0.5
"""Seconds within which a run that was told to stop has stopped, with a margin of three."""

BROKEN_BATCH = """
from uuid import UUID
from celery import shared_task
from mailbatch.batch.job import make_job
from mailbatch.batch.running import run_in_task
from mailbatch.domain.run import Counts, ItemError

def work(run):
    run.count(Counts(failed=1))
    run.item_error(ItemError(1, UUID(int=7), ("no", "no again")))
    raise ZeroDivisionError("division by zero")

@shared_task(name="broken", bind=True)
def broken(self, *, trigger="manual"):
    return run_in_task(self, lambda parts: make_job(parts, "broken", work), trigger)
"""


def completed(stack: Stack) -> list[Any]:
    return [run for run in runs(stack.database_url) if run.outcome == "completed"]


def overdue(stack: Stack) -> float:
    """Seconds since the next tick should have been; while the ticks are paused it only grows."""
    with database(stack.database_url) as connection:
        return float(connection.scalar(sa.select(seconds_since(batch_schedule.c.next_tick_at))))


def let_ticks_pass(stack: Stack, seconds: float) -> None:
    """Wait until the tick that should have been is ``seconds`` more overdue than now."""
    until = max(overdue(stack), 0) + seconds
    wait_until(lambda: overdue(stack) > until, 4 * seconds, "some slots go by")


def reserve_slow(stack: Stack, count: int) -> None:
    """Mails on each of which the sink spends its ``slow`` seconds."""
    rows = [
        {"recipients": f"slow-{i}@example.org", "subject": f"Nº {i}", "body_text": f"Hello {i}"} for i in range(count)
    ]
    with database(stack.database_url) as connection:
        connection.execute(sa.insert(mail_reservations), rows)


def everyone_once(sink: Sink, count: int) -> None:
    to = Counter(mail.recipients[0] for mail in sink.accepted())
    assert len(to) == count
    assert set(to.values()) == {1}


def result_of(stack: Stack, task: str) -> dict[str, Any]:
    """What Celery stored of ``task``, once it has ended."""
    with connect(stack.redis_url) as client:

        def asked() -> dict[str, Any] | None:
            found = json.loads(client.get(f"mailbatch:celery-task-meta-{task}") or "{}")
            return found if found.get("status") in {"SUCCESS", "FAILURE", "REVOKED"} else None

        return wait_until(asked, 30, f"task {task} has ended")


def lines_of(worker: ManagedProcess) -> list[dict[str, Any]]:
    """Its log, which must be JSON."""
    return [json.loads(line) for line in worker.log_text().splitlines() if line.startswith("{")]


@pytest.fixture
def slowly(stack: Stack, smtp_sink: Sink) -> Stack:
    """A stack whose sink takes a tenth of a second for each slow mail, one after the other."""
    smtp_sink.slow = 0.1
    smtp_sink.restart()
    stack.settings |= {"CONNECTIONS": 1, "WINDOW": 8}
    return stack


def test_the_acceptance_walk_ticks_pause_restart_a_run_by_hand_resume(stack, smtp_sink):
    """By CLI; the pause and the resume are said twice each, which must do no harm."""
    stack.settings["SCHEDULE"] = "* * * * * *"
    worker = stack.worker("-B", "-c", "2")
    wait_until(lambda: len(completed(stack)) >= 3, 20, "results at every tick")
    standing = stack.json("status")
    assert standing["paused"] is False
    assert datetime.fromisoformat(standing["next_run_at"]).timestamp() % 1 == 0

    assert stack.json("pause") == stack.json("pause") == {"paused": "ticks"}
    standing = stack.json("status")
    assert (standing["paused"], standing["running"]) == ("ticks", False)
    before, rows = len(completed(stack)), len(runs(stack.database_url))
    let_ticks_pass(stack, 2.5)
    assert len(completed(stack)) == before
    # At most the tick that was queued when the pause came has left a row, which says so.
    assert len(runs(stack.database_url)) - rows <= 1

    reserve(stack.database_url, 3)
    report = stack.json("send-all")
    assert (report["outcome"], report["trigger"], report["sent"]) == ("completed", "manual", 3)
    assert len(completed(stack)) == before + 1

    worker.signal(SIGTERM)
    assert worker.wait_exit() == 0
    mark = worker.mark()
    worker.start()
    worker.wait_for_log("the embedded beat is process", since=mark)
    let_ticks_pass(stack, 2.5)
    assert stack.json("status")["paused"] == "ticks"
    assert len(completed(stack)) == before + 1

    assert stack.json("resume") == stack.json("resume") == {"paused": False}
    wait_until(lambda: len(completed(stack)) >= before + 3, 15, "results at every tick again")
    assert {run.trigger for run in completed(stack)[before + 1 :]} == {"beat"}
    everyone_once(smtp_sink, 3)


def test_a_long_run_shows_itself_is_not_overtaken_and_stops_for_pause_all(slowly, smtp_sink):
    count = 300
    reserve_slow(slowly, count)
    slowly.settings["SCHEDULE"] = 1
    worker = slowly.worker("-B", "-c", "2")
    smtp_sink.wait_for(1)
    # Ticks come while the run goes on; each is answered at once, and none is queued behind it.
    wait_until(lambda: worker.log_text().count("job is already running: send-all") >= 3, 15, "three ticks are skipped")
    with connect(slowly.redis_url) as client:
        assert client.llen(QUEUE) <= 1
        assert 0 < client.ttl(STATUS_KEY) <= 3600
        assert client.pttl(LOCK_KEY) <= 30_000
        shown = json.loads(client.get(STATUS_KEY))
        (row,) = runs(slowly.database_url)
        assert (shown["state"], shown["run_id"]) == ("running", str(row.run_id))
    standing = slowly.json("status")
    assert (standing["running"], standing["progress"]["run_id"]) == (True, str(row.run_id))
    assert 0 < standing["progress"]["sent"] < count

    def alive() -> Any:
        (row,) = runs(slowly.database_url)
        return row if row.heartbeat_at > row.started_at else None

    row = wait_until(alive, HEARTBEAT * 2, "a heartbeat")
    assert (HEARTBEAT, DEAD_AFTER) == (5, 10)
    assert HEARTBEAT - 1 < (row.heartbeat_at - row.started_at).total_seconds() < DEAD_AFTER
    assert 0 < row.sent < count

    assert slowly.json("pause", "--all") == {"paused": "all"}
    paused = datetime.now(UTC)
    wait_until(lambda: runs(slowly.database_url)[0].outcome, 10, "the run stops")
    row = runs(slowly.database_url)[0]
    assert (row.outcome, row.remaining) == ("paused", count - row.sent)
    assert row.finished_at - paused < timedelta(seconds=SEEN)
    assert states(slowly.database_url) == {"sent": row.sent, "pending": count - row.sent}

    refused = slowly.cli("send-all", "--json")
    assert (refused.returncode, json.loads(refused.stdout)["outcome"]) == (1, "paused")
    assert states(slowly.database_url)["sent"] == row.sent
    standing = slowly.json("status")
    assert (standing["paused"], standing["running"], standing["progress"]) == ("all", False, None)

    smtp_sink.slow = 0
    smtp_sink.restart()
    slowly.json("resume")
    wait_until(lambda: states(slowly.database_url) == {"sent": count}, 20, "the rest to be sent")
    everyone_once(smtp_sink, count)


def test_calls_wait_for_a_worker_and_stale_ticks_do_not(stack, smtp_sink):
    stack.settings["SCHEDULE"] = 1
    beat = stack.beat()
    beat.wait_for_log(r"(?s)tick: send-all.*tick: send-all")
    beat.signal(SIGTERM)
    beat.wait_exit()
    # A tick of this schedule is stale after half a second: by now, and surely when the worker is there.
    reserve(stack.database_url, 3)
    task = stack.call()
    with connect(stack.redis_url) as client:
        assert client.llen(QUEUE) >= 3
        assert smtp_sink.accepted() == []
        worker = stack.worker("-c", "1")
        assert result_of(stack, task)["result"]["sent"] == 3
        wait_until(lambda: client.llen(QUEUE) == 0, 10, "the queue is empty")
    (run,) = runs(stack.database_url)
    assert (run.trigger, run.outcome) == ("manual", "completed")
    assert "Discarding revoked task: send-all" in worker.log_text()


def test_a_run_over_its_time_stops_like_a_cancel_and_the_next_one_goes_on(slowly, smtp_sink):
    reserve_slow(slowly, 30)
    slowly.settings["RUN_TIMEOUT"] = 1
    slowly.worker("-c", "1")
    report = result_of(slowly, slowly.call())["result"]
    assert report["outcome"] == "timed_out"
    assert 0 < report["sent"] < 30
    assert report["remaining"] == 30 - report["sent"]
    assert 1 <= report["duration"] < 1 + SEEN
    assert states(slowly.database_url) == {"sent": report["sent"], "pending": report["remaining"]}

    smtp_sink.slow = 0
    smtp_sink.restart()
    assert result_of(slowly, slowly.call())["result"]["outcome"] == "completed"
    everyone_once(smtp_sink, 30)


def test_a_run_whose_lock_was_stolen_stops_and_leaves_it_to_the_thief(slowly, smtp_sink):
    reserve_slow(slowly, 300)
    slowly.settings["LOCK_TTL"] = 3
    slowly.worker("-c", "1")
    task = slowly.call()
    smtp_sink.wait_for(5)
    with connect(slowly.redis_url) as client:
        assert client.get(LOCK_KEY)
        client.set(LOCK_KEY, "thief")
        report = result_of(slowly, task)["result"]
        assert client.get(LOCK_KEY) in {"thief", b"thief"}
    assert report["outcome"] == "lock_lost"
    assert report["duration"] < 1 + 3 + SEEN
    assert states(slowly.database_url) == {"sent": report["sent"], "pending": 300 - report["sent"]}


def test_a_panic_and_a_repository_that_fails_are_recorded_and_free_the_lock(stack, smtp_sink):
    stack.settings["LOG_FORMAT"] = "json"
    stack.folder.mkdir(parents=True, exist_ok=True)
    (stack.folder / "brokenbatch.py").write_text(BROKEN_BATCH)
    (stack.folder / "celeryconfig.py").write_text('imports = ["brokenbatch"]\n')
    worker = stack.worker("-c", "1")
    panic = "[JOB EXEC ERROR] ZeroDivisionError: division by zero"
    for _ in range(2):  # The second would be skipped if the first had kept the lock.
        result = result_of(stack, stack.call("broken"))
        assert (result["status"], result["result"]["exc_message"]) == ("FAILURE", [panic])
    rows = runs(stack.database_url)
    assert [(run.job, run.outcome, run.error, run.failed) for run in rows] == [("broken", "failed", panic, 1)] * 2
    with database(stack.database_url) as connection:
        assert [list(e) for e in connection.scalars(sa.select(run_errors.c.errors))] == [["no", "no again"]] * 2

    reserve(stack.database_url, 2)
    with database(stack.database_url) as connection:
        connection.exec_driver_sql("ALTER TABLE mail_reservations RENAME TO elsewhere")
    result = result_of(stack, stack.call())
    assert result["status"] == "SUCCESS"
    report = result["result"]
    assert (report["outcome"], report["sent"]) == ("failed", 0)
    (error,) = report["errors"]
    assert error.startswith("failed to find reservation mail list. err:")
    assert smtp_sink.accepted() == []
    with database(stack.database_url) as connection:
        connection.exec_driver_sql("ALTER TABLE elsewhere RENAME TO mail_reservations")
    assert result_of(stack, stack.call())["result"]["sent"] == 2

    finished = [line for line in lines_of(worker) if line["event"].startswith("job finished: ")]
    assert [line["level"] for line in finished] == ["error", "error", "error", "info"]
    assert all(re.match(r"job finished: (broken|send-all), \w+ after \d+\.\d{3} s", line["event"]) for line in finished)


def test_an_items_error_is_told_in_the_agreed_words_and_the_run_goes_on(stack, smtp_sink):
    """Each line of the run carries its id, and a line about an item the item's."""
    stack.settings |= {"LOG_FORMAT": "json", "LOG_LEVEL": "DEBUG", "PAGE_SIZE": 2, "RETRY_BACKOFF": 600}
    to = ["a@example.org", "b@example.org", "refuse-c@example.org", "d@example.org", "defer-e@example.org"]
    due = datetime.now(UTC) - timedelta(hours=1)
    rows = [
        {"recipients": who, "subject": "s", "body_text": "t", "scheduled_at": due + timedelta(seconds=n)}
        for n, who in enumerate(to)
    ]
    rows.append({**rows[0], "subject": "{{ missing }}", "scheduled_at": due + timedelta(seconds=9)})
    with database(stack.database_url) as connection:
        connection.execute(sa.insert(mail_reservations), rows)
        m = mail_reservations.c
        ids = list(connection.scalars(sa.select(m.id).order_by(m.scheduled_at)))
    worker = stack.worker("-c", "1")
    result = result_of(stack, stack.call())
    report = result["result"]
    assert (result["status"], report["outcome"]) == ("SUCCESS", "completed")
    assert [report[name] for name in ("sent", "failed", "deferred")] == [3, 2, 1]

    indexes = {int(re.match(r"\[error\]Index:(\d+),", error)[1]): error for error in report["errors"]}
    # From one, over all pages of the run.
    assert sorted(indexes) == [3, 5, 6]
    assert indexes[3] == f"[error]Index:3,ReservationID:{ids[2]},Errors:[550 5.1.1 no such user]"
    assert indexes[5].startswith(f"[error]Index:5,ReservationID:{ids[4]},Errors:[451 4.7.1 ")
    assert indexes[6].startswith(f"[error]Index:6,ReservationID:{ids[5]},Errors:[subject")

    log = lines_of(worker)
    begin, end = (
        next(i for i, line in enumerate(log) if line["event"].startswith(words))
        for words in ("job started: send-all", "job finished: send-all")
    )
    ours = [line for line in log[begin : end + 1] if line["logger"].startswith("mailbatch")]
    assert {line.get("run_id") for line in ours} == {report["run_id"]}
    items = {line["event"]: line for line in ours if line["event"].startswith("[error]")}
    assert set(items) == set(report["errors"])
    assert {line["level"] for line in items.values()} == {"warning"}
    assert all(f"ReservationID:{line['reservation_id']}," in event for event, line in items.items())
    assert {line["level"] for line in ours} <= {"debug", "info", "warning"}


def test_what_is_put_off_or_due_later_is_sent_then_and_what_is_dead_is_listed_and_comes_back(stack, smtp_sink):
    """Attempts, back-off, the list of the dead with their last error, and a mail for later, in one walk."""
    stack.settings |= {"SCHEDULE": 1, "MAX_ATTEMPTS": 2, "RETRY_BACKOFF": 1}
    smtp_sink.defer = 2
    smtp_sink.restart()
    at = datetime.now(UTC) + timedelta(seconds=4)
    stack.json("reserve", "--to", "later@example.org", "--subject", "s", "--text", "t", "--at", at.isoformat())
    reserved = stack.json("reserve", "--to", "defer-1@example.org", "--subject", "s", "--text", "t", "--key", "k")
    again = stack.json("reserve", "--to", "defer-1@example.org", "--subject", "s", "--text", "t", "--key", "k")
    assert again["id"] == reserved["id"]

    stack.worker("-B", "-c", "1")
    wait_until(lambda: states(stack.database_url).get("failed"), 20, "both attempts are used up")
    (dead,) = stack.json("list", "--status", "failed")
    assert (dead["id"], dead["attempts"]) == (reserved["id"], 2)
    assert dead["last_error"].startswith("451 4.7.1 ")
    assert datetime.fromisoformat(dead["finished_at"]) <= datetime.now(UTC)
    tries = sum(run.deferred + run.failed for run in runs(stack.database_url))
    assert tries == 2

    (later,) = smtp_sink.wait_for(1, 15)
    assert later.recipients == ("later@example.org",)
    assert later.time >= at.timestamp()

    assert stack.cli("requeue", reserved["id"]).returncode == 0
    wait_until(lambda: states(stack.database_url) == {"sent": 2}, 10, "it is sent after all")
    everyone_once(smtp_sink, 2)


def test_flower_stops_the_run_shows_how_far_it_was_and_knows_no_address(slowly, smtp_sink):
    with flower(slowly) as ask:
        slowly.worker("-c", "1")
        reserve_slow(slowly, 300)
        task = slowly.call()
        smtp_sink.wait_for(5)
        shown = re.compile(r"([1-9]\d*) sent, 0 failed, 0 deferred")

        def progress() -> int:
            found = shown.fullmatch((ask("/api/tasks").get(task) or {}).get("result") or "")
            return int(found[1]) if found else 0

        first = wait_until(progress, 15, "Flower shows how many were sent")
        wait_until(lambda: progress() > first, 15, "Flower shows the progress of the run")
        ask(f"/api/task/revoke/{task}", "POST")
        told = datetime.now(UTC)
        report = result_of(slowly, task)["result"]
        (row,) = runs(slowly.database_url)
        assert (report["outcome"], row.outcome) == ("revoked", "revoked")
        assert row.finished_at - told < timedelta(seconds=SEEN)
        assert states(slowly.database_url) == {"sent": row.sent, "pending": 300 - row.sent}
        wait_until(lambda: ask("/api/tasks")[task]["state"] == "SUCCESS", 10, "Flower knows its end")
        assert ask("/api/tasks")[task]["result"].startswith("{'outcome': 'revoked', ")
        # Nor a subject or a body: reserve_slow's are "Nº 7" and "Hello 7".
        assert not re.search(r"[\w-]+@example\.(?:org|com)|Nº|Hello", json.dumps(ask("/api/tasks"), ensure_ascii=False))


@contextmanager
def flower(stack: Stack) -> Iterator[Any]:
    """A Flower, and a way to ask its API."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    here = f"http://127.0.0.1:{port}"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(stack), "env", {**stack.env, "FLOWER_UNAUTHENTICATED_API": "true"})
        stack.process("celery", "-A", "mailbatch", "flower", f"--port={port}", "--address=127.0.0.1")

    def ask(path: str, method: str = "GET") -> Any:
        request = urllib.request.Request(here + path, method=method, data=b"" if method == "POST" else None)  # noqa: S310
        with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310 - our own server
            return json.load(answer)

    def up() -> bool:
        try:
            ask("/api/tasks")
        except OSError:
            return False
        return True

    wait_until(up, 30, "Flower answers")
    yield ask
