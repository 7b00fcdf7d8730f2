"""Connections that find their number, against four: one lane to a far relay, each after its climb."""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING

from bench.results import Row
from bench.sinks import BDAT, PIPELINING
from bench.worker import worker
from mailbatch.infrastructure.redis.client import connect
from mailbatch.infrastructure.redis.keys import Keys

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from bench.bed import Bed
    from bench.sizes import Sizes
    from bench.worker import Worker

SECTION = "connections"
STRICT = {"ON_DOUBT": "hold", "WINDOW": 1}
_CLIMB = 10.0
"""Seconds of the run that climbs; the next run begins with the number that it found, and is measured."""
_REACHED = 0.9
"""A climb has ended when a second brings this share of the rate of the run that follows."""


def measure(bed: Bed, sizes: Sizes) -> Iterator[Row]:
    """Measure PIPELINING and BDAT at 50 ms, BDAT without a round trip, and strict mode at 10 ms."""
    for name, settings in ({"4": {"CONNECTIONS": 4}, "auto": {"CONNECTIONS": "auto"}}).items():
        bed.sink.set()
        with bed.database() as url, worker(bed, url, bed.sink.url, **settings) as one:
            yield _row(bed, one, f"{name}, no CHUNKING", 0.05, PIPELINING, sizes)
            if sizes.rounds == 1:
                continue
            yield _row(bed, one, name, 0.05, BDAT, sizes)
            yield _row(bed, one, name, 0.0, BDAT, sizes)
        bed.sink.set()
        with bed.database() as url, worker(bed, url, bed.sink.url, **settings, **STRICT) as one:
            yield _row(bed, one, f"{name}, strict", 0.01, PIPELINING, sizes)


def _row(bed: Bed, one: Worker, name: str, rtt: float, offers: tuple[str, ...], sizes: Sizes) -> Row:
    """Let one run climb from four connections, and measure the next."""
    _forget(bed)
    bed.sink.set(rtt, offers)
    first, _ = _send(one, min(256, sizes.fast))
    seconds = min(_CLIMB, 2 * sizes.seconds)
    # The rate of the first run is that of four connections, and its beginning: climbing makes it a few times faster.
    _send(one, min(sizes.fast, max(256, int(first * seconds * 3))))
    climbing = bed.sink.times()[256:]
    bed.sink.set(rtt, offers)
    rate, report = _send(one, min(sizes.fast, max(256, int(_last_rate(climbing) * sizes.seconds))))
    seen, times = bed.sink.seen(), bed.sink.times()
    return Row(
        section=SECTION,
        name=name,
        count=len(times),
        seconds=len(times) / rate,
        rtt_ms=rtt * 1000,
        connections=seen.connections,
        protocol=seen.protocol,
        sink=bed.sink.name,
        figures={"climb_s": _climb_seconds(climbing, _last_rate(times)), "bound": float(report["bound"])},
    )


def _send(one: Worker, mails: int) -> tuple[float, dict[str, int]]:
    """Send so many mails; return the rate of the run, and its report."""
    one.reserve(mails)
    report, _, _ = one.send(mails)
    return mails / report["duration"], report


def _last_rate(times: Sequence[float]) -> float:
    """Return mails a second of the second half."""
    half = times[len(times) // 2 :]
    return (len(half) - 1) / (half[-1] - half[0])


def _climb_seconds(times: Sequence[float], rate: float) -> float:
    """Return how long after the first mail a second began that brought most of ``rate``; the whole time if none did."""
    for n, time in enumerate(times):
        if bisect_left(times, time + 1.0) - n >= _REACHED * rate:
            return time - times[0]
    return times[-1] - times[0]


def _forget(bed: Bed) -> None:
    """Delete what the runs before have learned of the sink, so that the next one begins with four connections."""
    with connect(bed.redis.url) as client:
        client.delete(Keys().relay_profile(bed.sink.url.removeprefix("smtp://")))
