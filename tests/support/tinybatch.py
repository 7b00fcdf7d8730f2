"""A user's own batch for the tests of the stop board: it is copied beside a ``celeryconfig.py`` of its own.

Each item leaves ``begin`` and ``end`` in a journal, so that one cut in two can be seen; the stop leaves its reason and
its time on the monotonic clock, which all processes share.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from celery import shared_task

from mailbatch.batch.stop.task import stop_reason

if TYPE_CHECKING:
    from celery import Task


@shared_task(name="tiny", bind=True)
def tiny(self: Task, *, journal: str, items: int = 1200, item: float = 0.05) -> dict[str, Any]:
    with Path(journal).open("a", buffering=1, encoding="utf-8") as lines:
        for number in range(items):
            if reason := stop_reason(self.request):
                lines.write(f"stopped {reason} {time.monotonic()}\n")
                return {"outcome": reason.value, "items": number}
            lines.write("begin\n")
            time.sleep(item)
            lines.write("end\n")
    return {"outcome": "completed", "items": items}


@shared_task(name="deaf")
def deaf(*, journal: str) -> None:
    with Path(journal).open("a", buffering=1, encoding="utf-8") as lines:
        lines.write("begin\n")
        time.sleep(60)
        lines.write("end\n")


@shared_task(name="hello")
def hello(*, journal: str) -> None:
    with Path(journal).open("a", encoding="utf-8") as lines:
        lines.write("hello\n")
