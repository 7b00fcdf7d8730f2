"""A long run on a large backlog: does memory grow, and does the rate fall towards the end?"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from bench.results import Row, Skipped
from bench.sinks import BDAT
from bench.watch import resident_mb, tree
from bench.worker import worker

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.bed import Bed
    from bench.sizes import Sizes

SECTION = "drain"
SETTLED = 2000
"""After this many mails a lane has loaded everything that it needs."""
_EVERY = 0.05


def measure(bed: Bed, sizes: Sizes) -> Iterator[Row | Skipped]:
    """Let one lane send the due mails of a backlog that is mostly not due."""
    bed.sink.set()
    with bed.database() as url, worker(bed, url, bed.sink.url) as one:
        one.reserve(sizes.drain, future=sizes.drain_backlog - sizes.drain)
        bed.sink.set(0.0, BDAT)
        pids = tree(one.process.pid)
        result = one.call()
        while (bed.sink.seen().mails or 0) < min(SETTLED, sizes.drain // 2) and not result.ready():
            time.sleep(_EVERY)
        before = {pid: resident_mb(pid) for pid in pids}
        most = dict(before)
        while not result.ready():
            most = {pid: max(most[pid], resident_mb(pid)) for pid in pids}
            time.sleep(_EVERY * 4)
        report = result.get()
        if report["sent"] != sizes.drain:
            raise AssertionError(f"{sizes.drain} mails were due, the run says {report}")
        after = {pid: resident_mb(pid) for pid in pids}
        times = bed.sink.times()
    tenth = len(times) // 10
    yield Row(
        section=SECTION,
        name=f"1 lane, {sizes.drain} due of {sizes.drain_backlog}",
        count=sizes.drain,
        seconds=report["duration"],
        rtt_ms=0.0,
        protocol=bed.sink.seen().protocol,
        figures={
            "rss_growth_mb": max(after[pid] - before[pid] for pid in pids),
            "rss_growth_peak_mb": max(most[pid] - before[pid] for pid in pids),
            "rss_end_mb": max(after.values()),
            "rate_second_tenth": tenth / (times[2 * tenth] - times[tenth]),
            "rate_last_tenth": tenth / (times[-1] - times[-1 - tenth]),
        },
        note=f"memory: from mail {SETTLED} to the end, the worker process that grew most",
    )
