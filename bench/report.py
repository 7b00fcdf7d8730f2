"""Writes the page: the ratios, then every row, then the machine and how to repeat the measurement."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bench.ratios import Ratio, ratios

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from bench.results import Results, Row

_HOW_TO_READ = """\
- All mails are rendered from one template (1.3 KB of text, 0.8 KB of HTML), each with its own data. A mail has about
  3 KB when it is sent. All senders send the same mails from the same PostgreSQL, which syncs every commit, to the
  same sink.
- *Seconds* count work without start-up. For mailbatch this is the duration in its run report (a warm worker, from
  taking the lock to counting the end), for a peer the call of its own command after its set-up. The whole chain has
  {rounds} rounds, each with all rows. This page shows the round with the median rate; the JSON has the rates of all.
- *CPU* is the user and system time of all processes of the sender (Celery's included) for each mail. The CPU of the
  database and of the sink is shown separately. *Peak RSS* is that of the largest process. *Connections* counts all
  connections that the sink saw in that row. *Protocol* is the one that the sink saw; smtp-sink does not report it.
- A sink with a round trip delays each reply by this time, in order, without delaying the replies behind it. The sink is
  written in Python and shares the cores with the sender: at high rates its CPU is part of the limit.
- mailbatch has {connections} connections in total, with any number of lanes, and {window} mails in flight on each.
  Only the section on connections that find their number has others.
- Slow senders get fewer mails: compare rates, not seconds.
"""
_TITLES = {
    "chain": "Whole chain: PostgreSQL → HTML and text from a template → SMTP sink → every mail marked",
    "connections": "Connections that find their number, after their climb, against four",
    "transport": "Transport alone",
    "composer": "Composer alone",
    "statements": "Database statements alone",
    "latency": "How soon",
    "drain": "A long run",
    "no-ops": "Jobs that do nothing",
}
_COLUMNS: list[tuple[str, Callable[[Row], Any]]] = [
    ("", lambda r: r.name),
    ("round trip", lambda r: None if r.rtt_ms is None else f"{r.rtt_ms:g} ms"),
    ("per second", lambda r: f"{r.rate:,.0f}" if r.rate >= 100 else f"{r.rate:,.1f}"),
    ("count, seconds", lambda r: f"{r.count:,} {r.unit}, {r.seconds:.2f} s"),
    ("CPU µs each", lambda r: _whole(r.cpu_us)),
    ("database CPU", lambda r: _whole(r.database_cpu_us)),
    ("sink CPU", lambda r: _whole(r.sink_cpu_us)),
    ("peak RSS", lambda r: None if r.rss_mb is None else f"{r.rss_mb:.0f} MB"),
    ("connections", lambda r: r.connections),
    ("protocol", lambda r: r.protocol),
    ("bytes", lambda r: r.mail_bytes),
    ("figures", lambda r: ", ".join(f"{k} {v:,.4g}" for k, v in r.figures.items()) or None),
    ("note", lambda r: r.note),
]


def page(results: Results) -> str:
    """Return the Markdown of docs/benchmarks.md."""
    return "\n".join(_page(results)) + "\n"


def lines(results: Results) -> Iterator[str]:
    """Yield the ratios as lines for a terminal."""
    for one in ratios(results):
        if one.value is not None or one.target is not None:
            yield f"{_value(one):>10}  {_target(one):>9} {_mark(one):3} {one.what} ({one.detail})"


def line(row: Row) -> str:
    """Return one row as a line for a terminal."""
    shown = [f"{title} {value}" for title, of in _COLUMNS[1:] if (value := of(row)) not in {None, ""}]
    return f"{row.section}: {row.name}: " + ", ".join(shown)


def _page(results: Results) -> Iterator[str]:
    machine = results.machine
    yield "# Benchmarks"
    yield ""
    yield "<!-- Written by `make bench` from bench/results/latest.json; change bench/report.py, not this page. -->"
    yield ""
    yield (
        f"This is one run of `make bench` on {machine['date']}. Sender, database and sink ran on one machine "
        f"({machine['cpu']}, {machine['cores']} cores). Another machine has other speeds, but similar ratios. "
        "[performance.md](performance.md) shows the cost of each part."
        if results.mode == "full"
        else f"A {results.mode} run on {machine['date']}: for a first impression only."
    )
    yield from ("", "## Ratios", "")
    shown = list(ratios(results))
    yield from _table(
        ["", "measured", "target", "", "from"],
        [[r.what, _value(r), _target(r), _mark(r), r.detail] for r in shown if r.target is not None],
    )
    yield from ("", "### Against each peer", "")
    yield from _table(
        ["", "times as fast", "mails a second"],
        [[r.what, _value(r), r.detail] for r in shown if r.target is None and r.value is not None],
    )
    for section, title in _TITLES.items():
        rows = [row for row in results.rows if row.section == section]
        if rows:
            yield from ("", f"## {title}", "")
            yield from _rows(rows)
    yield from _words(results)


def _words(results: Results) -> Iterator[str]:
    machine = results.machine
    rounds = max((len(row.rates) for row in results.rows), default=1)
    yield from ("", "## How to read it", "")
    yield from _HOW_TO_READ.format(rounds=max(rounds, 1), **machine["settings"]).splitlines()
    if results.skipped:
        yield from ("", f"### Skipped ({len(results.skipped)})", "")
        yield from (f"- {one.what}: {one.why}" for one in results.skipped)
    yield from ("", "## Machine and versions", "")
    yield from _table(["", ""], [[key, _flat(value)] for key, value in machine.items()])
    yield from ("", "## How to repeat it", "")
    yield from (
        "```",
        "apt install postfix postgresql   # smtp-sink and smtp-source; PostgreSQL's programs (nothing is started)",
        (
            "make bench                       # this page and bench/results/latest.json; "
            f"it took {results.seconds / 60:.0f} minutes here"
        ),
        "make bench-quick                 # less than three minutes, prints only",
        "```",
    )


def _rows(rows: Sequence[Row]) -> Iterator[str]:
    used = [(title, of) for title, of in _COLUMNS if any(of(row) not in {None, ""} for row in rows)]
    yield from _table([title for title, _ in used], [[of(row) for _, of in used] for row in rows])


def _table(head: Sequence[str], body: Iterable[Sequence[Any]]) -> Iterator[str]:
    yield "| " + " | ".join(head) + " |"
    yield "|" + "---|" * len(head)
    for cells in body:
        yield "| " + " | ".join("–" if cell is None else str(cell).replace("|", "/") for cell in cells) + " |"


def _value(ratio: Ratio) -> str:
    if ratio.value is None:
        return "–"
    return (
        f"{ratio.value:.1f}{ratio.unit}" if ratio.value >= 10 or ratio.unit != "×" else f"{ratio.value:.2f}{ratio.unit}"
    )


def _target(ratio: Ratio) -> str:
    return "" if ratio.target is None else f"{'≤' if ratio.at_most else '≥'} {ratio.target:g}{ratio.unit}"


def _mark(ratio: Ratio) -> str:
    return {True: "yes", False: "no", None: ""}[ratio.met]


def _whole(value: float | None) -> str | None:
    return None if value is None else f"{value:,.0f}"


def _flat(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{k} {v}" for k, v in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
