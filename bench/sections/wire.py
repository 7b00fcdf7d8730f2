"""The transport alone: finished messages and a sink, against Postfix's smtp-source and smtplib."""

from __future__ import annotations

import resource
import smtplib
import subprocess
import threading
import time
from functools import partial
from typing import TYPE_CHECKING

from bench.pacing import paced
from bench.results import Row, Skipped
from bench.sinks import BDAT, PIPELINING, OwnSink, PostfixSink
from mailbatch.domain.outcome import Kind, Replied

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from bench.bed import Bed
    from bench.sizes import Sizes
    from mailbatch.domain.message import Message

SECTION = "transport"
CONNECTIONS = 4
NO_DATABASE = "sqlite:///unused.db"


def measure(bed: Bed, sizes: Sizes) -> Iterator[Row | Skipped]:
    """Measure ours with BDAT and DATA, smtplib as a loop and in threads, smtp-source; with and without a round trip."""
    messages = composed(bed, sizes.fast)
    few = messages[: sizes.medium]
    for name, rtt, offers in (
        ("mailbatch", 0.0, BDAT),
        ("mailbatch", 0.01, BDAT),
        ("mailbatch, no CHUNKING", 0.0, PIPELINING),
        ("mailbatch, no CHUNKING", 0.01, PIPELINING),
        ("mailbatch, no extension", 0.0, ()),
    ):
        ours = partial(_ours, bed, bed.sink, name, messages, rtt, offers)
        yield paced(ours, sizes.seconds, sizes.fast)
    yield _smtplib(bed.sink, "smtplib, 1 reused connection", few, 1, 0.0)
    yield _smtplib(bed.sink, "smtplib, 4 threads", few, 4, 0.0)
    yield _smtplib(bed.sink, "smtplib, 4 threads", messages[: sizes.stop_and_wait * 4], 4, 0.01)
    if bed.postfix_sink is None:
        yield Skipped("transport to smtp-sink, smtp-source", "they are not here: apt install postfix")
        return
    ours = partial(_ours, bed, bed.postfix_sink, "mailbatch, to smtp-sink", messages, 0.0, PIPELINING)
    yield paced(ours, sizes.seconds, sizes.fast)
    yield _smtplib(bed.postfix_sink, "smtplib, 1 reused connection, to smtp-sink", few, 1, 0.0)
    yield smtp_source(bed, bed.postfix_sink, sizes.fast, SECTION)


def composed(bed: Bed, count: int) -> list[Message]:
    """Return the messages of the whole chain's mails, as they are sent."""
    from bench.sections.composing import claimed

    # Another section measures composing: here a few mails are used in turn.
    with bed.parts(NO_DATABASE) as parts:
        made = [parts.sending.compose(mail) for mail in claimed(min(count, 200))]
    return [made[i % len(made)] for i in range(count)]


def smtp_source(bed: Bed, sink: OwnSink | PostfixSink, mails: int, section: str, sessions: int = 4) -> Row:
    """Measure Postfix's load generator, written in C: mails of the same size, each session reuses its connection."""
    size = sum(len(m.data) for m in composed(bed, 50)) // 50
    sink.set()
    argv = ["smtp-source", "-d", "-s", str(sessions), "-m", str(mails), "-l", str(size), f"127.0.0.1:{sink.port}"]
    before, began = _children(), time.monotonic()
    subprocess.run(argv, check=True, capture_output=True)
    seconds, cpu = time.monotonic() - began, _children() - before
    seen = sink.seen()
    return Row(
        section=section,
        name=f"smtp-source, {sessions} sessions" + ("" if isinstance(sink, PostfixSink) else ", to the own sink"),
        count=mails,
        seconds=seconds,
        rtt_ms=0.0,
        cpu_us=cpu / mails * 1e6,
        sink_cpu_us=seen.cpu / mails * 1e6,
        connections=sessions,
        protocol="DATA",
        sink=sink.name,
        mail_bytes=size,
        note="no database, no template, no MIME",
    )


def _ours(
    bed: Bed,
    sink: OwnSink | PostfixSink,
    name: str,
    messages: Sequence[Message],
    rtt: float,
    offers: tuple[str, ...],
    mails: int,
) -> Row:
    messages = messages[:mails]
    sink.set(rtt, offers)

    def send() -> None:
        outcomes = transport.send(iter(messages), lambda: True)
        taken = sum(
            isinstance(o, Replied) and all(v.kind is Kind.ACCEPTED for v in o.verdicts.values()) for o in outcomes
        )
        if taken != len(messages):
            raise AssertionError(f"{len(messages)} mails were sent, {taken} were accepted")

    with bed.parts(NO_DATABASE, smtp_url=sink.url, connections=CONNECTIONS) as parts:
        transport = parts.sending.transport
        return _timed(sink, name, messages, rtt, send)


def _smtplib(sink: OwnSink | PostfixSink, name: str, messages: Sequence[Message], threads: int, rtt: float) -> Row:
    """Measure a plain ``sendmail`` loop; each thread has its own connection."""
    sink.set(rtt, BDAT if isinstance(sink, OwnSink) else PIPELINING)

    def send(mine: Sequence[Message]) -> None:
        with smtplib.SMTP("127.0.0.1", sink.port) as smtp:
            for message in mine:
                smtp.sendmail(message.envelope.sender, list(message.envelope.recipients), message.data)

    def send_all() -> None:
        workers = [threading.Thread(target=send, args=(messages[k::threads],)) for k in range(threads)]
        for one in workers:
            one.start()
        for one in workers:
            one.join()

    return _timed(sink, name, messages, rtt, send_all)


def _timed(
    sink: OwnSink | PostfixSink, name: str, messages: Sequence[Message], rtt: float, send: Callable[[], None]
) -> Row:
    cpu, began = time.process_time(), time.monotonic()
    send()
    seconds, cpu = time.monotonic() - began, time.process_time() - cpu
    seen = sink.seen()
    if seen.mails is not None and seen.mails != len(messages):
        raise AssertionError(f"{len(messages)} mails were sent, the sink has {seen.mails}")
    return Row(
        section=SECTION,
        name=name,
        count=len(messages),
        seconds=seconds,
        rtt_ms=rtt * 1000,
        cpu_us=cpu / len(messages) * 1e6,
        sink_cpu_us=seen.cpu / len(messages) * 1e6,
        connections=seen.connections,
        protocol=seen.protocol,
        sink=sink.name,
        mail_bytes=seen.mail_bytes,
    )


def _children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
