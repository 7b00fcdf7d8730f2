"""The chart of the last day: mails sent, deferred and failed in each half hour."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from mailbatch.interfaces.console.formatting import state

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from mailbatch.domain.rows import RunRow

BARS = 48
"""Half hours of a day."""
SLICE = timedelta(minutes=30)
WIDTH, HEIGHT = 100.0, 160
"""In percent of the page's width, and in pixels."""
_GAP = 0.3
_LEAST = 2.0
"""The smallest height of a part above zero: one failure among thousands must be visible."""
_PARTS = (("sent", ("sent",)), ("deferred", ("deferred",)), ("failed", ("failed", "in_doubt", "expired")))
"""The colours of a bar, from the bottom, and the counts of each."""
_NAMES = tuple(name for _, names in _PARTS for name in names)


@dataclass(frozen=True, slots=True)
class Part:
    """One colour of a bar, in the units of the drawing."""

    kind: str
    y: float
    height: float


@dataclass(frozen=True, slots=True)
class Bar:
    """Half an hour. ``label`` is what it says when it is pointed at, or read aloud."""

    x: float
    width: float
    parts: Sequence[Part]
    label: str
    runs: int


@dataclass(frozen=True, slots=True)
class Chart:
    """The chart, and the sums that it shows."""

    bars: Sequence[Bar]
    ticks: Sequence[tuple[float, str]]
    most: int
    total: dict[str, int]
    runs: int


def draw(runs: Iterable[RunRow], now: datetime, zone: str) -> Chart:
    """Draw the runs that began within the day before ``now``."""
    first = _floor(now.astimezone(UTC)) - SLICE * (BARS - 1)
    sums = [dict.fromkeys(("runs", *_NAMES), 0) for _ in range(BARS)]
    for run in runs:
        place = int((run.started_at - first) / SLICE)
        if 0 <= place < BARS and run.started_at >= first:
            sums[place]["runs"] += 1
            for name in _NAMES:
                sums[place][name] += getattr(run, name)
    most = max(sum(one[name] for name in _NAMES) for one in sums)
    wide = WIDTH / BARS
    local = ZoneInfo(zone)
    starts = [(first + SLICE * i).astimezone(local) for i in range(BARS)]
    return Chart(
        bars=[
            Bar(round(i * wide, 2), round(wide - _GAP, 2), _stack(s, most), _told(starts[i], s), s["runs"])
            for i, s in enumerate(sums)
        ],
        ticks=[
            (round(i * wide, 2), f"{start:%H:%M}")
            for i, start in enumerate(starts)
            if not start.minute and start.hour % 6 == 0
        ],
        most=most,
        total={kind: sum(one[name] for one in sums for name in names) for kind, names in _PARTS},
        runs=sum(one["runs"] for one in sums),
    )


def _stack(one: dict[str, int], most: int) -> list[Part]:
    parts, y = [], float(HEIGHT)
    for kind, names in _PARTS:
        if many := sum(one[name] for name in names):
            height = max(_LEAST, many / most * (HEIGHT - 3 * _LEAST))
            y -= height
            parts.append(Part(kind, round(y, 2), round(height, 2)))
    return parts


def _told(start: datetime, one: dict[str, int]) -> str:
    counted = ", ".join(f"{one[name]:,} {state(name)}" for name in _NAMES if one[name]) or "no mail"
    runs = "1 run" if one["runs"] == 1 else f"{one['runs']:,} runs"
    return f"{start:%H:%M}–{start + SLICE:%H:%M}: {counted}, {runs}"


def _floor(when: datetime) -> datetime:
    return when.replace(minute=when.minute // 30 * 30, second=0, microsecond=0)
