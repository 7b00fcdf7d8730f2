"""The ratios of one run, each with its target if there is one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bench.results import Results, Row


@dataclass(frozen=True, slots=True)
class Ratio:
    """``value`` is None if one of its rows is missing. ``target``: smallest good value; ``at_most``: the largest."""

    what: str
    value: float | None
    target: float | None = None
    at_most: bool = False
    unit: str = "×"
    detail: str = ""

    @property
    def met(self) -> bool | None:
        """Return whether the target is reached; None without a target or a value."""
        if self.value is None or self.target is None:
            return None
        return self.value <= self.target if self.at_most else self.value >= self.target


TWO, ONE = "chain/mailbatch, 2 lanes", "chain/mailbatch, 1 lane"
PO10, PO20 = "chain/django-post_office, 2 × 10 threads", "chain/django-post_office, 2 × 20 threads"
AUTO = "connections/auto"
SOURCE = "smtp-source, 4 sessions"


def ratios(results: Results) -> Iterator[Ratio]:
    """Yield first the ratios with a target, in their order, then the peers at every round trip."""
    of = _Reader(results)
    yield of.rates(
        "whole chain, 0 ms, 2 lanes, against django-post_office (2 × 10 threads)", f"{TWO}/0", f"{PO10}/0", 12
    )
    yield of.rates(
        "whole chain, 0 ms, 2 lanes, PIPELINING to smtp-sink, as a share of smtp-source",
        f"{TWO}, to smtp-sink/0",
        f"chain/{SOURCE}/0",
        0.30,
    )
    yield of.rates(
        "whole chain, 10 ms, 4 connections, against django-post_office (2 × 20 threads)", f"{TWO}/10", f"{PO20}/10", 8
    )
    yield _far(results, f"{TWO}/50", f"{TWO}/0")
    yield _one_a_round_trip(results, f"{TWO}, no CHUNKING/50")
    yield of.rates(
        "1 lane, 50 ms, PIPELINING only, connections that find their number against 4",
        f"{AUTO}, no CHUNKING/50",
        "connections/4, no CHUNKING/50",
        4,
    )
    yield of.rates(
        "1 lane, 50 ms, BDAT, such connections, as a share of their 0 ms speed", f"{AUTO}/50", f"{AUTO}/0", 0.85
    )
    yield of.rates(
        "strict mode, 10 ms, such connections against 4", f"{AUTO}, strict/10", "connections/4, strict/10", 3
    )
    yield of.inverse_cpu(
        "composer against EmailMessage (MIME alone)",
        "composer/mailbatch, MIME alone",
        "composer/EmailMessage, MIME alone",
        25,
    )
    yield of.ratio(
        "transport alone, CPU per mail, against reused smtplib",
        "transport/mailbatch/0",
        "transport/smtplib, 1 reused connection/0",
        lambda row: row.cpu_us,
        0.25,
        at_most=True,
    )
    yield of.rates("2 lanes on this machine against 1", f"{TWO}/0", f"{ONE}/0", 1.4)
    due = results.get("latency/due at the same instant, 2 lanes/0")
    source = results.get(f"latency/{SOURCE}/0")
    yield Ratio(
        f"{due.count if due else 10_000} due mails, from the call to the last 250, against smtp-source",
        due.figures["last_250_s"] / source.seconds if due and source else None,
        5,
        at_most=True,
        detail=f"{due.figures['last_250_s']:.2f} s against {source.seconds:.2f} s" if due and source else "",
    )
    drain = next((row for row in results.rows if row.section == "drain"), None)
    yield Ratio(
        "memory that a lane gains between mail 2,000 and the end",
        drain.figures["rss_growth_mb"] if drain else None,
        8,
        at_most=True,
        unit=" MB",
        detail=drain.name if drain else "",
    )
    walk = results.get("statements/claiming a backlog page by page")
    yield Ratio(
        "last page of a backlog against its first",
        walk.figures["last_ms"] / walk.figures["first_ms"] if walk else None,
        1.2,
        at_most=True,
        detail=f"{walk.count:,} rows" if walk else "",
    )
    yield of.rates("strict mode (nothing is ever repeated) against the default, 0 ms", f"{ONE}, strict/0", f"{ONE}/0")
    yield of.rates("strict mode against the default, 10 ms", f"{ONE}, strict/10", f"{ONE}/10")
    for rtt in ("0", "10", "50"):
        for peer in (PO10, PO20, "chain/django-mailer", "chain/smtplib loop"):
            yield of.rates(
                f"whole chain, {rtt} ms, 2 lanes, against {peer.removeprefix('chain/')}",
                f"{TWO}/{rtt}",
                f"{peer}/{rtt}",
            )


@dataclass(frozen=True, slots=True)
class _Reader:
    results: Results

    def ratio(
        self,
        what: str,
        over: str,
        under: str,
        of: Callable[[Row], float | None],
        target: float | None = None,
        *,
        at_most: bool = False,
    ) -> Ratio:
        rows = self.results.get(over), self.results.get(under)
        a, b = (of(row) if row else None for row in rows)
        return Ratio(what, a / b if a is not None and b else None, target, at_most, detail=_beside(*rows, of))

    def rates(self, what: str, over: str, under: str, target: float | None = None) -> Ratio:
        return self.ratio(what, over, under, lambda row: row.rate, target)

    def inverse_cpu(self, what: str, ours: str, theirs: str, target: float) -> Ratio:
        return self.ratio(what, theirs, ours, lambda row: row.cpu_us, target)


def _beside(a: Row | None, b: Row | None, of: Callable[[Row], float | None]) -> str:
    if a is None or b is None:
        return "not measured"
    return f"{of(a):,.0f} against {of(b):,.0f}"


def _far(results: Results, far: str, near: str) -> Ratio:
    what = "whole chain, 50 ms, BDAT, as a share of the lesser of its 0 ms speed and connections × window / round trip"
    a, b = results.get(far), results.get(near)
    if a is None or b is None:
        return Ratio(what, None, 0.7, detail="not measured")
    settings = results.machine["settings"]
    in_flight = settings["connections"] * settings["window"] / 0.05
    lesser, which = min((b.rate, "its 0 ms speed"), (in_flight, "connections × window / round trip"))
    return Ratio(
        what, a.rate / lesser, 0.7, detail=f"{a.rate:,.0f} against {lesser:,.0f}, {which}; spoken: {a.protocol}"
    )


def _one_a_round_trip(results: Results, key: str) -> Ratio:
    what = "whole chain, 50 ms, PIPELINING only, as a share of one mail a round trip for each connection"
    row = results.get(key)
    if row is None:
        return Ratio(what, None, 0.9, detail="not measured")
    bound = results.machine["settings"]["connections"] / 0.05
    return Ratio(what, row.rate / bound, 0.9, detail=f"{row.rate:,.1f} against {bound:,.0f}; spoken: {row.protocol}")
