"""The progress of the demo: a bar on a terminal, lines elsewhere."""

from __future__ import annotations

import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

import click

from mailbatch.domain.reservation import Status

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mailbatch.domain.census import Census


class _Show(Protocol):
    def __call__(self, census: Census, /) -> None: ...


@contextmanager
def progress(total: int) -> Iterator[_Show]:
    """Yield what shows a census: as a bar on a terminal, else as a line after each change, at most one a second."""
    if sys.stdout.isatty():
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

        columns = (BarColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
        with Progress(*columns) as bar:
            task = bar.add_task("the worker starts …", total=total)
            yield lambda census: bar.update(
                task, completed=total - _waiting(census.counts), description=_counted(census.counts)
            )
    else:
        last, said = 0.0, ""

        def show(census: Census) -> None:
            nonlocal last, said
            text, now = _counted(census.counts), time.monotonic()
            if text != said and (now - last >= 1 or not _waiting(census.counts)):
                last, said = now, text
                click.echo(f"  {text}")

        yield show
    click.echo()


def _waiting(counts: Any) -> int:
    return int(counts.get(Status.PENDING, 0) + counts.get(Status.SENDING, 0))


def _counted(counts: Any) -> str:
    shown = [(Status.SENT, "sent"), (Status.FAILED, "failed"), (Status.SENDING, "on the way"), (Status.PENDING, "wait")]
    return ", ".join(f"{counts.get(status, 0)} {word}" for status, word in shown if counts.get(status, 0))
