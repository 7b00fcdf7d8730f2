"""Measures the share of each part in the CPU time of a mail: ``python -m bench.shares``.

A lane sends mails in this process. The kernel interrupts it after each millisecond of CPU time, or as often as its
clock allows. The time since the interrupt before counts for the part whose module is innermost on the stack. So the
measured code runs unchanged: a timer around each part would cost more than the part.
"""

from __future__ import annotations

import argparse
import gc
import logging
import signal
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

from bench.bed import Bed, reserve
from bench.machine import python
from bench.turn import WARM_UP, send
from bench.watch import cpu_of_tree

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import FrameType, TracebackType

EVERY = 0.001
"""Seconds of CPU time between two interrupts."""
_LANE = "the lane's own loops, mails in flight"
_REST = "the rest: the run, its periodic tasks, the interpreter"
_STOP = "the check whether to stop"
PARTS = {
    "application.sending": _LANE,
    "application.sending.compose": "compose, without MIME and rendering",
    "application.sending.enclose": "compose, without MIME and rendering",
    "application.sending.envelope_sender": "compose, without MIME and rendering",
    "application.sending.lane_stop": _STOP,
    "application.sending.relay_health": "verdicts",
    "batch": _REST,
    "batch.stop": _STOP,
    "domain.settlement": "verdicts",
    "infrastructure.db": "claim, load, settle: client side",
    "infrastructure.mime": "MIME",
    "infrastructure.mime.addresses": "addresses",
    "infrastructure.mime.tokens": "addresses",
    "infrastructure.redis": _STOP,
    "infrastructure.smtp": "SMTP, its system calls included",
    "infrastructure.templates": "rendering",
}
"""The part to which a module of mailbatch belongs, or a package with all its modules.

A module that is not here, as most of the domain, works for the module that calls it.
"""


def part_of(module: str, parts: Mapping[str, str] = PARTS) -> str | None:
    """Return the part of ``module``, by the longest entry that names it or a package above it; None if none does."""
    package, _, name = module.partition(".")
    while package == "mailbatch" and name:
        if name in parts:
            return parts[name]
        name = name.rpartition(".")[0]
    return None


@dataclass
class Sampler:
    """Adds up the CPU seconds of this thread by part. Use it as ``with Sampler() as sampler``, in the main thread.

    ``collecting``: seconds of garbage collection, which are also in the parts during which it began.
    """

    spent: Counter[str] = field(default_factory=Counter)
    collecting: float = 0.0
    samples: int = 0

    def __enter__(self) -> Self:
        gc.callbacks.append(self._collection)
        signal.signal(signal.SIGPROF, self._sample)
        self._last = time.thread_time()
        signal.setitimer(signal.ITIMER_PROF, EVERY, EVERY)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, signal.SIG_DFL)
        gc.callbacks.remove(self._collection)

    def _sample(self, _number: int, frame: FrameType | None) -> None:
        now = time.thread_time()
        self.spent[_part_at(frame)] += now - self._last
        self.samples += 1
        self._last = now

    def _collection(self, phase: str, _info: Mapping[str, int]) -> None:
        now = time.thread_time()
        self.collecting += now if phase == "stop" else -now


def _part_at(frame: FrameType | None) -> str:
    while frame is not None:
        part = part_of(frame.f_globals.get("__name__", ""))
        if part is not None:
            return part
        frame = frame.f_back
    return _REST


@dataclass(frozen=True)
class Measured:
    """One round. All times are CPU time of a mail in microseconds; ``database``: of the PostgreSQL server."""

    parts: Mapping[str, float]
    collecting: float
    thread: float
    process: float
    database: float
    samples: int


def measure(bed: Bed, database: str, mails: int) -> Measured:
    """Send ``mails`` in this process with one lane, to a sink without a round trip."""
    with (bed.sqlite if database == "sqlite" else bed.database)() as url, bed.parts(url) as parts:
        reserve(url, WARM_UP)
        send(parts, WARM_UP)
        reserve(url, mails)
        gc.collect()
        gc.freeze()  # as a worker does before its first run
        before = _cpu(bed, database)
        with Sampler() as sampler:
            send(parts, mails)
        thread, process, server = (after - then for after, then in zip(_cpu(bed, database), before, strict=True))
    each = 1e6 / mails
    return Measured(
        parts={part: seconds * each for part, seconds in sampler.spent.items()},
        collecting=sampler.collecting * each,
        thread=thread * each,
        process=process * each,
        database=server * each,
        samples=sampler.samples,
    )


def _cpu(bed: Bed, database: str) -> tuple[float, float, float]:
    server = 0.0 if database == "sqlite" else cpu_of_tree(bed.postgres_pid)
    return time.thread_time(), time.process_time(), server


def table(rounds: Sequence[Measured]) -> str:
    """Return the mean of the rounds as a table in Markdown, the largest part first."""
    names = {name for one in rounds for name in one.parts}
    means = Counter({name: _mean([one.parts.get(name, 0.0) for one in rounds]) for name in names})
    whole = means.total()
    lines = [f"| {name} | {value / whole:.0%} | {value:.0f} µs |" for name, value in means.most_common()]
    return "\n".join(["| part | share | CPU a mail |", "|---|--:|--:|", *lines])


def figures(rounds: Sequence[Measured]) -> str:
    """Return what the table does not have, in one line for each figure."""
    totals = {
        "the lane's thread": [one.thread for one in rounds],
        "garbage collection, part of that": [one.collecting for one in rounds],
        "the whole process": [one.process for one in rounds],
        "PostgreSQL": [one.database for one in rounds],
    }
    lines = [f"{what}: {_mean(us):.0f} µs a mail ({min(us):.0f} to {max(us):.0f})" for what, us in totals.items()]
    return "\n".join([*lines, f"{sum(one.samples for one in rounds)} samples"])


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def main() -> None:
    """Print the table and the figures."""
    asked = _arguments()
    logging.disable(logging.WARNING)
    print(f"{python()}; {asked.rounds} rounds of {asked.mails} mails on {asked.database}", flush=True)
    with Bed() as bed:
        bed.sink.set()
        rounds = [measure(bed, asked.database, asked.mails) for _ in range(asked.rounds)]
    print(f"\n{table(rounds)}\n\n{figures(rounds)}")


def _arguments() -> Any:
    parser = argparse.ArgumentParser(prog="python -m bench.shares", description=__doc__)
    parser.add_argument("--database", choices=("postgresql", "sqlite"), default="postgresql")
    parser.add_argument("--mails", type=int, default=16_000)
    parser.add_argument("--rounds", type=int, default=3)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
