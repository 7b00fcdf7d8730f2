"""Latency: an idle tick, the time from the tick to the first mail, and the last of many mails that are due at once."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from bench.results import Row, Skipped
from bench.sections import wire
from bench.sinks import BDAT
from bench.watch import Watch
from bench.worker import worker

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from bench.bed import Bed
    from bench.sizes import Sizes
    from bench.worker import Worker

SECTION = "latency"
CONNECTIONS = 4
LAST = 250
"""The row has two figures: the time of all mails, and the time of all but the slowest 250."""


def measure(bed: Bed, sizes: Sizes) -> Iterator[Row | Skipped]:
    """Measure ticks of a warm worker with one lane, then due mails with a worker with two lanes."""
    bed.sink.set()
    with bed.database() as url, worker(bed, url, bed.sink.url, connections=CONNECTIONS) as one:
        yield _idle(one, sizes.ticks, "idle tick, empty backlog")
        yield _first_mail(bed, one, sizes.ticks)
        one.reserve(0, future=sizes.backlog // 5)
        yield _idle(one, sizes.ticks, f"idle tick, {sizes.backlog // 5} reserved for next week")
    yield _at_once(bed, sizes.at_once)
    yield wire.smtp_source(bed, bed.sink, sizes.at_once, SECTION)
    if bed.postfix_sink is None:
        yield Skipped("smtp-source to smtp-sink, as many mails", "they are not here: apt install postfix")
    else:
        yield wire.smtp_source(bed, bed.postfix_sink, sizes.at_once, SECTION)


def _idle(one: Worker, ticks: int, name: str) -> Row:
    """Measure ``send-all`` without due mails, one call after the other: from the call to the result."""
    took, durations = [], []
    with Watch(one.process.pid) as cost:
        for _ in range(ticks):
            began = time.monotonic()
            durations.append(float(one.call().get(timeout=60)["duration"]))
            took.append(time.monotonic() - began)
    return Row(
        section=SECTION,
        name=name,
        unit="ticks",
        count=ticks,
        seconds=sum(took),
        cpu_us=cost.cpu / ticks * 1e6,
        figures={"run_p50_ms": quantile(durations, 0.5) * 1000, "call_p50_ms": quantile(took, 0.5) * 1000},
    )


def _first_mail(bed: Bed, one: Worker, ticks: int) -> Row:
    """Measure one due mail, from the call of ``send-all`` until the sink has it, including the connection."""
    took = []
    for _ in range(ticks):
        one.reserve(1)
        bed.sink.set()
        called = time.monotonic()
        one.send(1)
        took.append(bed.sink.times()[0] - called)
    return Row(
        section=SECTION,
        name="from the call to the first mail",
        unit="ticks",
        count=ticks,
        seconds=sum(took),
        figures={f"p{int(q * 100)}_ms": quantile(took, q) * 1000 for q in (0.5, 0.95)},
    )


def _at_once(bed: Bed, mails: int) -> Row:
    """Measure mails that are due at once: the seconds from the call of ``send-all`` until the sink has each."""
    bed.sink.set()
    with bed.database() as url, worker(bed, url, bed.sink.url, lanes=2, connections=CONNECTIONS) as one:
        one.reserve(mails)
        bed.sink.set(0.0, BDAT)
        called = time.monotonic()
        _, cost, _ = one.send(mails)
        late = [at - called for at in bed.sink.times()]
        seen = bed.sink.seen()
    return Row(
        section=SECTION,
        name="due at the same instant, 2 lanes",
        count=mails,
        seconds=late[-1],
        rtt_ms=0.0,
        cpu_us=cost.cpu / mails * 1e6,
        connections=seen.connections,
        protocol=seen.protocol,
        sink=bed.sink.name,
        figures={
            **{f"p{int(q * 100)}_s": quantile(late, q) for q in (0.5, 0.95, 0.99)},
            f"last_{LAST}_s": late[max(0, mails - LAST)],
            "last_s": late[-1],
        },
    )


def quantile(values: Sequence[float], share: float) -> float:
    """Return the value below which ``share`` of the values lie."""
    ranked = sorted(values)
    return ranked[min(len(ranked) - 1, int(len(ranked) * share))]
