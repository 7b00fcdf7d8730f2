"""What the worker adds to Celery: names that it changes there still exist, and misspelt calls are named."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from billiard import pool
from celery import signals

from mailbatch.batch.worker import LAST_RESULT_LOOKS


def test_billiard_still_waits_for_its_last_result_by_that_name():
    looks = pool.GUARANTEE_MESSAGE_CONSUMPTION_RETRY_LIMIT
    assert looks in {300, LAST_RESULT_LOOKS}
    assert LAST_RESULT_LOOKS * pool.GUARANTEE_MESSAGE_CONSUMPTION_RETRY_INTERVAL <= 2


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("sned-all", "this worker has no task 'sned-all'; did you mean send-all?"),
        ("x\n", "this worker has no task 'x\\n'; it knows purge, send-all"),
        (None, "this worker has no task None; it knows purge, send-all"),
    ],
)
def test_a_call_of_a_misspelt_task_is_logged_with_the_name_that_was_meant(name, said, caplog):
    class Consumer:
        app = SimpleNamespace(tasks={"send-all": None, "purge": None, "celery.ping": None})

    signals.task_unknown.send(sender=Consumer(), name=name, id="1", message=None, exc=None)
    assert [record.message for record in caplog.records] == [said]
