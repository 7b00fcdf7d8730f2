"""What the overview shows, read once for all viewers: an open console must not slow the worker."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Generic, TypeVar

from mailbatch.domain.job_name import SEND_ALL
from mailbatch.domain.reservation import Status
from mailbatch.domain.selection import Selection
from mailbatch.interfaces.console import chart
from mailbatch.interfaces.console.health import Check, of_beat, of_database, of_redis, of_relay, of_runs

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from mailbatch.application.looking.inquire import JobStatus, Progress
    from mailbatch.application.looking.next_run import NextRun
    from mailbatch.application.ports.reports import Measures, Reports
    from mailbatch.application.ports.stores import Reservations
    from mailbatch.bootstrap import Parts
    from mailbatch.domain.census import Census
    from mailbatch.domain.figures import Histogram
    from mailbatch.domain.finding import Finding
    from mailbatch.domain.rows import RunRow
    from mailbatch.domain.run import Pause

FRESH, FRESH_DAY = 1.5, 15.0
"""Seconds during which a snapshot of the present, and one of the last day, is shown to all viewers."""
MOST_RUNS = 2000
"""Runs of the last day that the chart reads at most; with more it begins later."""
CAP = 100_000

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Now:
    """The present, as it was ``at``. ``silence``: seconds without any reply of the relay, if that is too long."""

    at: datetime
    pause: Pause
    running: bool
    silence: float | None
    progress: Progress | None
    next_run: NextRun
    last_run: RunRow | None
    census: Census
    warnings: Sequence[Finding]
    checks: Sequence[Check]


@dataclass(frozen=True, slots=True, kw_only=True)
class Day:
    """The last day and the last hour. ``lag``: the times within which half and 95 % of the last mails were sent."""

    chart: chart.Chart
    whole: bool
    hour: Mapping[str, int]
    lag: tuple[str, str] | None
    refusals: Mapping[tuple[str, str], int]


@dataclass(slots=True)
class Cached(Generic[T]):
    """A value that is read at most every ``fresh`` seconds. While one thread reads it, the others wait."""

    look: Callable[[], T]
    fresh: float
    _found: tuple[float, T] | None = None
    _guard: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, *, at_most: float | None = None) -> T:
        """Return the last value, or read it again if it is older than ``at_most`` (default: ``fresh``) seconds."""
        with self._guard:
            if self._found is None or time.monotonic() - self._found[0] > (at_most or self.fresh):
                found = self.look()
                self._found = time.monotonic(), found
            return self._found[1]

    def forget(self) -> None:
        """Read it again next time, because something was changed."""
        with self._guard:
            self._found = None


class Snapshots:
    """The two snapshots of one application."""

    def __init__(self, parts: Parts) -> None:
        zone, stores = parts.settings.timezone, parts.stores
        self.now = Cached(lambda: look(parts.operating.job_status(SEND_ALL), parts.ensure_migrated, zone), FRESH)
        self.day = Cached(lambda: look_back(stores.reports, stores.measures, stores.reservations, zone), FRESH_DAY)


def look(standing: JobStatus, ensure_migrated: Callable[[], None], zone: str) -> Now:
    """Return the present, as every other screen shows it. Raises ``StoreError``."""
    snapshot = standing.snapshot
    return Now(
        at=datetime.now(UTC),
        pause=standing.pause,
        running=standing.running,
        silence=snapshot.silence,
        progress=standing.progress,
        next_run=standing.next_run,
        last_run=standing.last_run,
        census=standing.census,
        warnings=standing.warnings,
        checks=[
            of_database(ensure_migrated),
            of_redis(snapshot.redis_error),
            of_relay(standing.relay, zone, standing.warnings),
            of_beat(standing.next_run),
            of_runs(standing.warnings),
        ],
    )


def look_back(reports: Reports, measures: Measures, reservations: Reservations, zone: str) -> Day:
    """Return the last day. Raises ``StoreError``."""
    now = datetime.now(UTC)
    runs = reports.runs(SEND_ALL, MOST_RUNS)
    figures = measures.figures()
    since = now - timedelta(hours=1)
    hour = {s.value: reservations.count(Selection(status=s, since=since), CAP) for s in (Status.SENT, Status.FAILED)}
    return Day(
        chart=chart.draw(runs, now, zone),
        whole=len(runs) < MOST_RUNS or runs[-1].started_at < now - timedelta(days=1),
        hour=hour,
        lag=lag_told(figures.lags),
        refusals=figures.refusals,
    )


def lag_told(lags: Histogram) -> tuple[str, str] | None:
    """Return how long half and nearly all of the mails took from due to sent, each as a clause; None without mails."""
    from mailbatch.domain.figures import LAGS
    from mailbatch.interfaces.console.formatting import span

    def told(share: float, most: str, rest: str) -> str:
        wanted = lags.counts[-1] * share
        for count, upper in zip(lags.counts, LAGS, strict=False):
            if count >= wanted:
                return f"{most} within {span(upper)}"
        return f"more than {rest} took over {span(LAGS[-1])}"

    return (told(0.5, "half", "half"), told(0.95, "nearly all (95 %)", "5 %")) if lags.counts[-1] else None
