"""The names that the worker changes in other packages still exist there."""

from __future__ import annotations

from billiard import pool

from mailbatch.batch.worker import LAST_RESULT_LOOKS


def test_billiard_still_waits_for_its_last_result_by_that_name():
    looks = pool.GUARANTEE_MESSAGE_CONSUMPTION_RETRY_LIMIT
    assert looks in {300, LAST_RESULT_LOOKS}
    assert LAST_RESULT_LOOKS * pool.GUARANTEE_MESSAGE_CONSUMPTION_RETRY_INTERVAL <= 2
