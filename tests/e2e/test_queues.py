"""Queues of a user's own: a worker that takes others, another default queue, and names that nobody declared."""

from __future__ import annotations

import pytest
from support.backlogs import ended, reserve, runs, states
from support.waiting import wait_until


def configure(stack, text: str) -> None:
    stack.folder.mkdir(parents=True, exist_ok=True)
    (stack.folder / "celeryconfig.py").write_text(f"from kombu import Queue\n{text}\n", encoding="utf-8")


@pytest.mark.parametrize("option", ["-Q", "-X"])
def test_a_queue_that_nobody_declared_is_refused_in_one_line(sqlite_stack, option):
    done = sqlite_stack.celery("worker", option, "other")
    assert done.returncode == 2
    assert done.stderr == (
        f"{option} other: there is no such queue, only mailbatch; name it in task_queues in celeryconfig.py\n"
    )


def test_a_worker_that_takes_other_queues_only_is_named_where_nobody_takes_ours(sqlite_stack, redis_url):
    configure(sqlite_stack, "task_queues = [Queue('mailbatch'), Queue('other')]")
    reserve(sqlite_stack.database_url, 1)
    sqlite_stack.worker("-c", "1", "-Q", "other", "-n", "idle@here")
    by_hand = sqlite_stack.cli("send-all")
    assert by_hand.returncode == 1
    assert "idle@here answers, but no worker takes the queue mailbatch" in by_hand.stderr
    assert by_hand.stderr.count("\n") == 1
    doctor = sqlite_stack.cli("doctor")
    assert "idle@here answers, but no worker takes the queue mailbatch" in doctor.stdout

    sqlite_stack.worker("-c", "1", "-Q", "mailbatch")
    assert sqlite_stack.json("send-all")["sent"] == 1


def test_another_default_queue_works_by_every_door(sqlite_stack):
    """Beat, the command line, `celery call` and helpers queue into it, and the worker takes it."""
    configure(sqlite_stack, "task_default_queue = 'other'")
    sqlite_stack.settings |= {"LANES": 2, "SCHEDULE": 3600, "PAGE_SIZE": 10}
    reserve(sqlite_stack.database_url, 100)
    worker = sqlite_stack.worker("-B", "-c", "2")
    wait_until(lambda: ended(sqlite_stack.database_url), 60, "the tick's run ends")
    assert states(sqlite_stack.database_url) == {"sent": 100}
    assert [run.trigger for run in runs(sqlite_stack.database_url)] == ["beat"]
    worker.wait_for_log(r"Task send-lane.* received")
    assert sqlite_stack.json("send-all")["outcome"] == "completed"
    task = sqlite_stack.call()
    worker.wait_for_log(f"Task send-all.{task}. succeeded")
