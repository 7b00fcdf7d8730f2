"""The figures that a monitoring system reads: sums of the runs, lags of the mails, refusals, circuits."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime


DURATIONS = (0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 150.0, 300.0, 600.0, 1800.0, 3600.0)
"""Upper ends, in seconds, of the classes into which runs are counted by their duration."""
LAGS = (1.0, 5.0, 15.0, 60.0, 150.0, 300.0, 600.0, 1800.0, 3600.0, 21_600.0, 86_400.0)
"""And of those of mails, by the time from due to sent."""
RECENT = 900.0
"""Seconds for which a mail that was sent or refused counts as recent."""


@dataclass(frozen=True, slots=True)
class Histogram:
    """How many lie at or below each upper end (the last stands for all of them), and their sum."""

    counts: Sequence[int]
    total: float

    def __add__(self, other: Histogram) -> Histogram:
        counts = tuple(a + b for a, b in zip(self.counts, other.counts, strict=True))
        return Histogram(counts, self.total + other.total)


@dataclass(frozen=True, slots=True, kw_only=True)
class JobFigures:
    """The figures of one job.

    Counts begin at ``Figures.since``. ``started_at``: the last run that was not held back by a
    pause; ``durations``: of runs that did something.
    """

    job: str
    paused: bool
    running: bool
    last_tick_at: datetime | None = None
    next_tick_at: datetime | None = None
    started_at: datetime | None = None
    silent: float | None = None
    finished_at: datetime | None = None
    outcome: str | None = None
    remaining: int = 0
    runs: Mapping[str, int] = field(default_factory=dict)
    items: Mapping[str, int] = field(default_factory=dict)
    durations: Histogram = Histogram((0,) * (len(DURATIONS) + 1), 0.0)


@dataclass(frozen=True, slots=True)
class CircuitFigures:
    """Whether a relay is left alone: ``closed``, ``open`` or ``half_open``; failures in a row."""

    relay: str
    state: str
    failures: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """All figures at one moment.

    ``since``: midnight in UTC of the day, or of the day on which a run began that still goes on: sums that begin anew
    when no run is cut in two. ``refusals``: recent ones by outcome and class of the reply (``4xx``, ``5xx``, ``none``),
    of each outcome the newest 10,000 at most; ``lags``: as many of the mails sent recently.
    """

    since: datetime
    jobs: Sequence[JobFigures]
    refusals: Mapping[tuple[str, str], int]
    lags: Histogram
    in_doubt_oldest: float | None
    circuits: Sequence[CircuitFigures]
