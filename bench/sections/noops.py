"""Jobs that do nothing, and mails that are not sent, to compare with such figures of older systems."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from bench.bed import ROOT, Bed
from bench.results import Row, Skipped
from bench.watch import Watch
from mailbatch.batch.job import make_job
from mailbatch.domain.message import Envelope, Message
from mailbatch.domain.outcome import Kind, Replied, Reply, Verdict
from mailbatch.domain.run import Trigger
from mailbatch.infrastructure.redis.client import connect

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator

    from bench.sizes import Sizes
    from mailbatch.domain.claimed import ClaimedMail
    from mailbatch.domain.outcome import Outcome

SECTION = "no-ops"
_ACCEPTED = Verdict(Kind.ACCEPTED, Reply(250, "2.0.0 nowhere"))
_DEADLINE = 600.0


@dataclass(frozen=True)
class Nowhere:
    """A transport that accepts everything at once."""

    capacity = 0

    def send(
        self,
        messages: Iterable[Message],
        permit: Callable[[], bool],
        commit_intent: object = None,  # noqa: ARG002 - the port's
    ) -> Generator[Outcome, None, None]:
        """See the port ``Transport``."""
        for message in messages:
            permit()
            yield Replied(message.claim, "nowhere", dict.fromkeys(message.envelope.recipients, _ACCEPTED))


def nothing(claimed: ClaimedMail) -> Message:
    """A composer that composes nothing."""
    return Message(claimed.claim, Envelope("a@b.example", (claimed.mail.recipients,)), b"\r\n")


def measure(bed: Bed, sizes: Sizes) -> Iterator[Row | Skipped]:
    """Measure Celery's lowest cost of a task, and our runs without SMTP, with and without composing."""
    yield _tasks(bed, sizes.tasks)
    yield _mails(bed, "mailbatch, no SMTP", sizes.solo)
    yield _mails(bed, "mailbatch, no SMTP, nothing composed", sizes.solo, compose=nothing)


def _mails(bed: Bed, name: str, mails: int, **parts_of_ours: Any) -> Row:
    """Do one run in this process: claim, load, (compose,) settle, report."""
    with bed.database(mails) as url, bed.parts(url) as parts, Watch(bed.postgres_pid) as database:
        send_due = replace(parts.sending.send_due, transport=Nowhere(), **parts_of_ours)
        job = make_job(parts, "send-all", lambda run: send_due(run, lane=0), lock=False)
        cpu = time.process_time()
        report = job(Trigger.MANUAL)
        cpu = time.process_time() - cpu
    if report.counts.sent != mails:
        raise AssertionError(f"{mails} mails were due, {report.counts.sent} were marked")
    return Row(
        section=SECTION,
        name=name,
        count=mails,
        seconds=report.duration,
        cpu_us=cpu / mails * 1e6,
        database_cpu_us=database.cpu / mails * 1e6,
    )


def _tasks(bed: Bed, tasks: int) -> Row:
    """Queue all tasks, then start a worker with two processes and Celery's own defaults."""
    from support.processes import ManagedProcess
    from support.stack import _found

    os.environ["BENCH_BROKER"] = bed.redis.url
    from bench import noop_app

    with connect(bed.redis.url) as redis:
        for _ in range(tasks):
            noop_app.noop.delay()
        env = {**os.environ, "PYTHONPATH": str(ROOT), "C_FORCE_ROOT": "1"}
        argv = _found(
            ("celery", "-A", "bench.noop_app", "worker", "-c", "2", "-Q", noop_app.QUEUE, "--loglevel=WARNING")
        )
        with (
            ManagedProcess(argv, log=bed.folder / "noop.log", env=env, cwd=ROOT) as process,
            Watch(process.pid) as cost,
        ):
            deadline = time.monotonic() + _DEADLINE
            left = tasks
            # It has its full rate when a tenth is done, so the start is not measured.
            while left > tasks * 0.9:
                left = _left(redis, noop_app.QUEUE, deadline)
            counted, began = left, time.monotonic()
            before = cost.cpu_so_far()
            while left:
                left = _left(redis, noop_app.QUEUE, deadline)
            seconds, cpu = time.monotonic() - began, cost.cpu_so_far() - before
    return Row(
        section=SECTION,
        name="no-op Celery tasks, 2 processes",
        unit="tasks",
        count=counted,
        seconds=seconds,
        cpu_us=cpu / counted * 1e6,
        note="no result kept",
    )


def _left(redis: Any, queue: str, deadline: float) -> int:
    """Return the number of tasks that wait or are reserved."""
    if time.monotonic() > deadline:
        raise AssertionError("the no-op tasks do not get done")
    time.sleep(0.005)
    return int(redis.llen(queue)) + int(redis.hlen("unacked"))
