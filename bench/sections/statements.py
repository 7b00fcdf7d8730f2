"""Measures claim, settle, and both in one, in cost a row; and reading a large backlog page by page."""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING, TypeVar
from uuid import UUID, uuid4

from bench.results import Row, Skipped
from bench.watch import Watch
from mailbatch.domain.lifecycle import OnDoubt
from mailbatch.domain.outcome import Kind, Replied, Reply, Verdict
from mailbatch.domain.run import Trigger
from mailbatch.domain.settlement import Settlement, settle

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from bench.bed import Bed
    from bench.sizes import Sizes
    from mailbatch.bootstrap import Parts
    from mailbatch.domain.message import Claim

T = TypeVar("T")
SECTION = "statements"
PAGE = 1000
SAMPLE = 20
"""The number of pages at the beginning and at the end of a backlog whose medians are compared."""


def measure(bed: Bed, sizes: Sizes) -> Iterator[Row | Skipped]:
    """Measure groups as lanes claim them, and whole pages, on both databases; then the whole backlog."""
    for name, made in (("PostgreSQL", bed.database), ("SQLite", bed.sqlite)):
        for group in (128, PAGE):
            yield from _bill(bed, made(sizes.solo), name, group, sizes.solo)
    yield _walk(bed, sizes.backlog)


def _bill(bed: Bed, made: AbstractContextManager[str], name: str, group: int, rows: int) -> Iterator[Row]:
    """Time the statements for ``rows`` reservations in groups of ``group``: half separately, half as a lane does it."""
    spent: dict[str, list[float]] = {}

    def timed(verb: str, callback: Callable[[], T]) -> T:
        cpu, began = time.process_time(), time.monotonic()
        answer = callback()
        bill = spent.setdefault(verb, [0.0, 0.0])
        bill[0] += time.monotonic() - began
        bill[1] += time.process_time() - cpu
        return answer

    with made as url, bed.parts(url) as parts:
        run_id, backlog, cursor, apart = _open_run(parts), parts.sending.backlog, None, 0
        while apart < rows // 2:
            page = timed("claim", lambda: backlog.claim(run_id, 0, cursor, group))  # noqa: B023 - called at once
            answers = [_accepted(parts, one.claim) for one in page.claimed]
            timed("settle", lambda: backlog.settle(run_id, 0, answers))  # noqa: B023
            apart, cursor = apart + len(answers), page.cursor
        together = 0
        with Watch(bed.postgres_pid) as database:
            page = backlog.claim(run_id, 0, cursor, group)
            while page.claimed:
                answers = [_accepted(parts, one.claim) for one in page.claimed]
                held, page = timed("both", lambda: backlog.settle_and_claim(run_id, 0, answers, page.cursor, group))  # noqa: B023
                together += len(held)
    if apart + together != rows:
        raise AssertionError(f"{rows} rows were due, {apart} and {together} were settled")
    for verb, (seconds, cpu) in spent.items():
        count = together if verb == "both" else apart
        yield Row(
            section=SECTION,
            name=f"{name}, {verb}, {group} at once",
            unit="rows",
            count=count,
            seconds=seconds,
            cpu_us=cpu / count * 1e6,
            database_cpu_us=database.cpu / count * 1e6 if verb == "both" and name == "PostgreSQL" else None,
        )


def _walk(bed: Bed, backlog: int) -> Row:
    """Claim a backlog from the first page to the last, by the cursor, without sending."""
    latencies: list[float] = []
    with bed.database(backlog) as url, bed.parts(url) as parts:
        run_id, cursor = _open_run(parts), None
        while True:
            began = time.monotonic()
            page = parts.sending.backlog.claim(run_id, 0, cursor, PAGE)
            took = time.monotonic() - began
            if len(page.claimed) == PAGE:
                latencies.append(took)
            cursor = page.cursor
            if cursor is None:
                break
    sample = min(SAMPLE, len(latencies) // 2)
    first, last = statistics.median(latencies[:sample]), statistics.median(latencies[-sample:])
    return Row(
        section=SECTION,
        name="claiming a backlog page by page",
        unit="rows",
        count=backlog,
        seconds=sum(latencies),
        figures={
            "first_ms": first * 1000,
            "last_ms": last * 1000,
            "p99_ms": sorted(latencies)[int(len(latencies) * 0.99)] * 1000,
        },
        note=f"pages of {PAGE}; first and last: median of {sample}",
    )


def _open_run(parts: Parts) -> UUID:
    run_id = uuid4()
    parts.stores.runs.open(run_id, "bench", Trigger.MANUAL, 0)
    return run_id


def _accepted(parts: Parts, claim: Claim) -> Settlement:
    verdicts = {"customer@mail.example": Verdict(Kind.ACCEPTED, Reply(250, "2.0.0 Ok"))}
    outcome = Replied(claim, "127.0.0.1:25", verdicts)
    return settle(outcome, attempts=0, earlier={}, retry=parts.sending.retry, on_doubt=OnDoubt.RESEND, jitter=0.5)
