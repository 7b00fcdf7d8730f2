"""What a bench run found: rows of figures, what was skipped and why; kept as JSON."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One measurement: how many things in how many seconds, and what they cost. None where it does not apply.

    ``cpu_us``, ``sink_cpu_us``, ``database_cpu_us``: microseconds for each thing, of the sender's processes, of the
    sink's, of the database's. ``rss_mb``: the peak of the largest process. ``rates``: of every round, this one's too.
    ``figures``: what belongs to this measurement alone.
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
        """By which ratios name it."""
        return f"{self.section}/{self.name}" + (f"/{self.rtt_ms:g}" if self.rtt_ms is not None else "")

    @property
    def rate(self) -> float:
        """Things a second."""
        return self.count / self.seconds if self.seconds else 0.0


@dataclass(frozen=True, slots=True)
class Skipped:
    """What could not be measured here, and why: what is missing, or what went wrong."""

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
        """The row of that key, or None."""
        return next((row for row in self.rows if row.key == key), None)

    def save(self, path: Path) -> None:
        """Write it to ``path``, whole or not at all."""
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
    """The row of the middle rate, with the rates of all."""
    from dataclasses import replace

    ranked = sorted(rows, key=lambda row: row.rate)
    return replace(ranked[len(ranked) // 2], rates=[round(row.rate, 1) for row in rows])
