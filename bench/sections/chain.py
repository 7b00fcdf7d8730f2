"""The whole chain: PostgreSQL → HTML and text rendered from a template → SMTP sink → every mail marked."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from bench import peer
from bench.pacing import paced
from bench.results import Row, Skipped, median
from bench.sections import wire
from bench.sinks import BDAT, PIPELINING, OwnSink, PostfixSink
from bench.worker import worker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from bench.bed import Bed
    from bench.sizes import Sizes
    from bench.watch import Watch
    from bench.worker import Worker

SECTION = "chain"
CONNECTIONS = 4
"""Connections of all lanes of mailbatch together."""


@dataclass(frozen=True, slots=True)
class Case:
    """Rows that are measured together, once in every round, so that other load on the machine affects all equally."""

    name: str
    measure: Callable[[], Iterable[Row]]


def measure(bed: Bed, sizes: Sizes) -> Iterator[Row | Skipped]:
    """Measure mailbatch with one and two lanes, its peers, and a C program that shows the limit of the machine."""
    cases = [
        Case("mailbatch, 1 lane", partial(_ours, bed, sizes, 1)),
        Case("mailbatch, 2 lanes", partial(_ours, bed, sizes, 2)),
        Case("mailbatch in strict mode", partial(_strict, bed, sizes)),
        Case("mailbatch on SQLite", partial(_sqlite, bed, sizes)),
        *_loops(bed, sizes),
    ]
    if peer.has_django():
        cases += _django(bed, sizes)
    else:
        yield Skipped("django-post_office, django-mailer", "not installed in .venv-bench: `make bench` does that")
    if bed.postfix_sink is not None:
        cases += _against_postfix(bed, bed.postfix_sink, sizes)
    else:
        yield Skipped("whole chain to smtp-sink", "smtp-sink is not here: apt install postfix")
    yield from rounds(cases, sizes.rounds)


def rounds(cases: list[Case], count: int) -> Iterator[Row | Skipped]:
    """Yield the median of ``count`` rounds over all cases. A case that fails is reported once and left out."""
    found: dict[str, list[Row]] = {}
    failed: dict[str, Skipped] = {}
    for _ in range(count):
        for case in (case for case in cases if case.name not in failed):
            try:
                for row in case.measure():
                    found.setdefault(row.key, []).append(row)
            except Exception as error:  # noqa: BLE001 - a row less; it is counted, and the run ends with an error
                failed[case.name] = Skipped(case.name, f"{type(error).__name__}: {error}", failed=True)
    yield from map(median, found.values())
    yield from failed.values()


def _ours(bed: Bed, sizes: Sizes, lanes: int) -> Iterator[Row]:
    """Use one worker for all of these: the sink decides the round trip and the extensions in EHLO."""
    name = f"mailbatch, {_lanes(lanes)}"
    wanted: list[tuple[str, float, tuple[str, ...]]] = [(name, 0.0, BDAT), (name, 0.01, BDAT), (name, 0.05, BDAT)]
    wanted += [(f"{name}, no CHUNKING", rtt, PIPELINING) for rtt in (0.0, 0.01, 0.05)]
    if sizes.rounds == 1:
        wanted = wanted[:1] if lanes == 1 else [*wanted[:3], wanted[-1]]
    bed.sink.set()
    with bed.database() as url, worker(bed, url, bed.sink.url, lanes=lanes, connections=CONNECTIONS) as one:
        for named, rtt, offers in wanted:
            yield _send(bed, one, bed.sink, named, rtt, offers, sizes)


def _against_postfix(bed: Bed, sink: PostfixSink, sizes: Sizes) -> list[Case]:
    def ours(lanes: int) -> Iterator[Row]:
        with bed.database() as url, worker(bed, url, sink.url, lanes=lanes, connections=CONNECTIONS) as one:
            yield _send(bed, one, sink, f"mailbatch, {_lanes(lanes)}, to smtp-sink", 0.0, PIPELINING, sizes)

    cases = [Case(f"mailbatch, {_lanes(lanes)}, to smtp-sink", partial(ours, lanes)) for lanes in (1, 2)]
    source = Case("smtp-source", lambda: [wire.smtp_source(bed, sink, sizes.fast, SECTION)])
    return [*(cases if sizes.rounds > 1 else cases[1:]), source]


def _strict(bed: Bed, sizes: Sizes) -> Iterator[Row]:
    """Measure the cost of strict mode: one mail at a time on a connection, the intent committed late."""
    bed.sink.set()
    settings = {"ON_DOUBT": "hold", "WINDOW": 1}
    with bed.database() as url, worker(bed, url, bed.sink.url, connections=CONNECTIONS, **settings) as one:
        for rtt in (0.0, 0.01):
            yield _send(bed, one, bed.sink, "mailbatch, 1 lane, strict", rtt, BDAT, sizes)


def _sqlite(bed: Bed, sizes: Sizes) -> Iterator[Row]:
    bed.sink.set()
    with bed.sqlite() as url, worker(bed, url, bed.sink.url, connections=CONNECTIONS) as one:
        yield _send(bed, one, bed.sink, "mailbatch, 1 lane, SQLite", 0.0, BDAT, sizes)


def _loops(bed: Bed, sizes: Sizes) -> list[Case]:
    return [
        Case(f"smtplib loop, {rtt * 1000:g} ms", partial(_turn, bed, "smtplib loop", "smtplib loop", rtt, mails))
        for rtt, mails in ((0.0, sizes.medium), (0.01, sizes.stop_and_wait), (0.05, sizes.stop_and_wait // 3))
    ]


def _django(bed: Bed, sizes: Sizes) -> list[Case]:
    po, dm = "django-post_office", "django-mailer"
    ten, twenty = ({"processes": 2, "batch": 1000, "threads": threads} for threads in (10, 20))
    named = "{}, 2 × {} threads"
    wanted = [
        (named.format(po, 10), po, 0.0, sizes.medium, ten),
        (named.format(po, 20), po, 0.0, sizes.medium, twenty),
        (named.format(po, 10), po, 0.01, sizes.medium, ten),
        (named.format(po, 20), po, 0.01, sizes.medium, twenty),
        (named.format(po, 10), po, 0.05, sizes.slow, ten),
        (named.format(po, 20), po, 0.05, sizes.slow, twenty),
        (dm, dm, 0.0, sizes.slow, {}),
        (dm, dm, 0.01, sizes.stop_and_wait // 2, {}),
        (dm, dm, 0.05, sizes.stop_and_wait // 4, {}),
    ]
    return [
        Case(f"{name}, {rtt * 1000:g} ms", partial(_turn, bed, name, who, rtt, mails, **options))
        for name, who, rtt, mails, options in wanted
    ]


def _send(
    bed: Bed,
    one: Worker,
    sink: OwnSink | PostfixSink,
    name: str,
    rtt: float,
    offers: tuple[str, ...],
    sizes: Sizes,
) -> Row:
    """Measure one run of mailbatch by the duration in its report: from taking the lock to counting the end."""

    def measure(mails: int) -> Row:
        one.reserve(mails)
        sink.set(rtt, offers)
        report, cost, database = one.send(mails, beside=bed.postgres_pid)
        beside = None if one.url.startswith("sqlite") else database
        figures = {"lanes": float(one.lanes_of(report))}
        return _row(name, rtt, mails, report["duration"], cost, beside, sink, figures=figures)

    return paced(measure, sizes.seconds, sizes.fast)


def _turn(bed: Bed, name: str, who: str, rtt: float, mails: int, **options: Any) -> Iterator[Row]:
    """Measure one run of a peer, without starting its interpreter and filling its tables."""
    mails = max(mails, 4)
    note = "rendered beforehand: it stores finished messages" if who == "django-mailer" else None
    with bed.database(mails) if who == "smtplib loop" else bed.empty_database() as url:
        bed.sink.set(rtt)
        seconds, cost, database = peer.run(bed, url, bed.sink.port, who, mails, **options)
        yield _row(name, rtt, mails, seconds, cost, database, bed.sink, note=note)


def _row(
    name: str,
    rtt: float,
    mails: int,
    seconds: float,
    cost: Watch,
    database: Watch | None,
    sink: OwnSink | PostfixSink,
    *,
    figures: dict[str, float] | None = None,
    note: str | None = None,
) -> Row:
    seen = sink.seen()
    if seen.mails is not None and seen.mails != mails:
        raise AssertionError(f"{mails} mails were sent, the sink has {seen.mails}")
    return Row(
        section=SECTION,
        name=name,
        count=mails,
        seconds=seconds,
        rtt_ms=rtt * 1000,
        cpu_us=cost.cpu / mails * 1e6,
        sink_cpu_us=seen.cpu / mails * 1e6,
        database_cpu_us=database.cpu / mails * 1e6 if database else None,
        rss_mb=cost.peak_mb,
        processes=cost.processes,
        connections=seen.connections,
        protocol=seen.protocol,
        sink=sink.name,
        mail_bytes=seen.mail_bytes,
        figures=figures or {},
        note=note,
    )


def _lanes(lanes: int) -> str:
    return f"{lanes} lane{'s' * (lanes > 1)}"
