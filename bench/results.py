"""The results of a bench run: rows of figures, and skipped measurements with their reason; stored as JSON."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One measurement: a number of items, the seconds, and the cost. A value that does not apply is None.

    ``cpu_us``, ``sink_cpu_us``, ``database_cpu_us``: microseconds for each item, of the processes of the sender, the
    sink and the database. ``rss_mb``: the peak of the largest process. ``rates``: of every round, this one included.
    ``figures``: values of this measurement only.
    """

    section: str
    name: str
    count: int
    seconds: float
    unit: str = "mails"
    rtt_ms: float | None = None
    cpu_us: float | None = None
    sink_cpu_us: float | None = None
    database_cpu_us: float | None = None
    rss_mb: float | None = None
    processes: int | None = None
    connections: int | None = None
    protocol: str | None = None
    sink: str | None = None
    mail_bytes: int | None = None
    figures: dict[str, float] = field(default_factory=dict)
    rates: list[float] = field(default_factory=list)
    note: str | None = None

    @property
    def key(self) -> str:
        """The key by which ratios name this row."""
        return f"{self.section}/{self.name}" + (f"/{self.rtt_ms:g}" if self.rtt_ms is not None else "")

    @property
    def rate(self) -> float:
        """Items a second."""
        return self.count / self.seconds if self.seconds else 0.0


@dataclass(frozen=True, slots=True)
class Skipped:
    """A measurement that was not made, with the reason: a missing program, or an error."""

    what: str
    why: str
    failed: bool = False


@dataclass(slots=True)
class Results:
    """All of one run."""

    machine: dict[str, Any]
    mode: str
    rows: list[Row] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    seconds: float = 0.0

    def get(self, key: str) -> Row | None:
        """Return the row with that key, or None."""
        return next((row for row in self.rows if row.key == key), None)

    def save(self, path: Path) -> None:
        """Write the results to ``path`` atomically."""
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(".tmp")
        unfinished.write_text(json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n")
        unfinished.replace(path)


def load(path: Path) -> Results:
    """Read what ``save`` wrote."""
    stored = json.loads(path.read_text())
    rows = [Row(**row) for row in stored.pop("rows")]
    skipped = [Skipped(**one) for one in stored.pop("skipped")]
    return Results(**stored, rows=rows, skipped=skipped)


def median(rows: Sequence[Row]) -> Row:
    """Return the row with the median rate, with the rates of all rows."""
    from dataclasses import replace

    ranked = sorted(rows, key=lambda row: row.rate)
    return replace(ranked[len(ranked) // 2], rates=[round(row.rate, 1) for row in rows])
