"""The runs of the last day as bars: which hours sent how much, and how much of it failed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from mailbatch.application.operating_ports import Row

BARS = 48
"""Half hours of a day."""
SLICE = timedelta(minutes=30)
WIDTH, HEIGHT = 960, 160
_GAP = 3
_LEAST = 2.0
"""Height of a part that is not nothing: a single failure among thousands must be seen."""
_PARTS = (("sent", ("sent",)), ("deferred", ("deferred",)), ("failed", ("failed", "in_doubt", "expired")))


@dataclass(frozen=True, slots=True)
class Part:
    """One colour of a bar, in the drawing's units."""

    kind: str
    y: float
    height: float


@dataclass(frozen=True, slots=True)
class Bar:
    """Half an hour. ``told`` is what it says when it is pointed at, or read aloud."""

    x: float
    width: float
    parts: Sequence[Part]
    told: str
    runs: int


@dataclass(frozen=True, slots=True)
class Chart:
    """The drawing, and the sums that it shows."""

    bars: Sequence[Bar]
    ticks: Sequence[tuple[float, str]]
    most: int
    total: dict[str, int]
    runs: int


def draw(runs: Iterable[Row], now: datetime, zone: str) -> Chart:
    """Draw the runs that began within the day before ``now``."""
    first = _floor(now.astimezone(UTC)) - SLICE * (BARS - 1)
    sums = [dict.fromkeys(("runs", *(kind for kind, _ in _PARTS)), 0) for _ in range(BARS)]
    for run in runs:
        place = int((run["started_at"] - first) / SLICE)
        if 0 <= place < BARS and run["started_at"] >= first:
            sums[place]["runs"] += 1
            for kind, names in _PARTS:
                sums[place][kind] += sum(run[name] for name in names)
    most = max(sum(one[kind] for kind, _ in _PARTS) for one in sums)
    wide = WIDTH / BARS
    local = ZoneInfo(zone)
    starts = [(first + SLICE * i).astimezone(local) for i in range(BARS)]
    return Chart(
        bars=[
            Bar(round(i * wide, 2), wide - _GAP, _stack(s, most), _told(starts[i], s), s["runs"])
            for i, s in enumerate(sums)
        ],
        ticks=[
            (round(i * wide, 2), f"{start:%H:%M}")
            for i, start in enumerate(starts)
            if not start.minute and start.hour % 6 == 0
        ],
        most=most,
        total={kind: sum(one[kind] for one in sums) for kind, _ in _PARTS},
        runs=sum(one["runs"] for one in sums),
    )


def _stack(one: dict[str, int], most: int) -> list[Part]:
    parts, y = [], float(HEIGHT)
    for kind, _ in _PARTS:
        if one[kind]:
            height = max(_LEAST, one[kind] / most * (HEIGHT - 3 * _LEAST))
            y -= height
            parts.append(Part(kind, round(y, 2), round(height, 2)))
    return parts


def _told(start: datetime, one: dict[str, int]) -> str:
    counted = ", ".join(f"{one[kind]:,} {kind}" for kind, _ in _PARTS if one[kind]) or "no mail"
    runs = "1 run" if one["runs"] == 1 else f"{one['runs']:,} runs"
    return f"{start:%H:%M}–{start + SLICE:%H:%M}: {counted}, {runs}"


def _floor(when: datetime) -> datetime:
    return when.replace(minute=when.minute // 30 * 30, second=0, microsecond=0)
