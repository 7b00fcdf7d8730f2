"""Periodic callbacks of a run: they are called again after an error, and their log lines carry the run's id."""

from __future__ import annotations

import json
import logging

import structlog
from support.waiting import wait_until

from mailbatch.batch.periodic_tasks import PeriodicTasks
from mailbatch.infrastructure.system.logs import formatter


class Lines(logging.Handler):
    """Formats in the thread that logs, as the handlers of a worker do."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(formatter(json=True))
        self.lines: list[dict[str, object]] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(json.loads(self.format(record)))


def test_a_callback_that_fails_is_called_again_and_logged_once_with_the_id_of_its_run():
    tries = []

    def renew() -> None:
        tries.append(structlog.contextvars.get_contextvars()["run_id"])
        raise ConnectionError("Redis is away")

    shown = Lines()
    logger = logging.getLogger("mailbatch.batch.periodic_tasks")
    logger.addHandler(shown)
    try:
        with structlog.contextvars.bound_contextvars(run_id="r1"), PeriodicTasks() as upkeep:
            upkeep.every(0.001, renew)
            wait_until(lambda: len(tries) >= 3, 5, "three tries")
    finally:
        logger.removeHandler(shown)
    assert set(tries) == {"r1"}
    (line,) = shown.lines
    assert line["run_id"] == "r1"
    assert "ConnectionError: Redis is away" in str(line["event"])
