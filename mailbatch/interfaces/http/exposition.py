"""The metrics in Prometheus' format. They come from the database: no files, no counters in a process.

A metric that is unknown at the moment (the database is away) is left out.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeHistogramMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
)
from prometheus_client.registry import Collector

from mailbatch.domain.errors import StoreError
from mailbatch.domain.figures import DURATIONS, LAGS
from mailbatch.domain.run import RunOutcome

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from datetime import datetime

    from prometheus_client.core import Metric

    from mailbatch.application.looking.metrics import Measure
    from mailbatch.domain.census import Census
    from mailbatch.domain.figures import Figures, Histogram, JobFigures

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
FRESH = 10.0
"""Seconds during which the same text is returned: several scrapers cost the database one read."""
_CIRCUITS = ("closed", "half_open", "open")
# The label of a job is `batch`, because Prometheus adds its own label `job` to everything that it scrapes.


@dataclass(slots=True)
class Exposition:
    """The text of ``/metrics``. A call returns bytes that are at most ``FRESH`` seconds old; it never raises.

    ``interval``: the longest time between two ticks of send-all, in seconds. ``connections``: the connections of all
    lanes and hosts to each relay, if they are counted.
    """

    measure: Measure
    version: str
    interval: float
    connections: Callable[[], Mapping[str, int]] = dict
    clock: Callable[[], float] = time.monotonic
    _guard: threading.Lock = field(default_factory=threading.Lock)
    _text: bytes = b""
    _until: float = float("-inf")

    def __call__(self) -> bytes:
        """Return the metrics in Prometheus' text format 0.0.4."""
        with self._guard:
            if self.clock() >= self._until:
                registry = CollectorRegistry()
                registry.register(_Reading(self))
                self._text = generate_latest(registry)
                self._until = self.clock() + FRESH
            return self._text


class _Reading(Collector):
    def __init__(self, exposition: Exposition) -> None:
        self._of = exposition

    def describe(self) -> list[Metric]:
        """Return nothing. Otherwise the registry would read the database once more for the names."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Yield all families, the most important first."""
        yield InfoMetricFamily("mailbatch", "The version of mailbatch.", value={"version": self._of.version})
        yield _gauge("mailbatch_schedule_interval_seconds", "Longest time between two ticks.", self._of.interval)
        try:
            census, figures, unanswered = self._of.measure()
        except StoreError:
            yield _gauge("mailbatch_database_up", "Whether the database could be asked.", 0)
            return
        yield _gauge("mailbatch_database_up", "Whether the database could be asked.", 1)
        yield from _of_reservations(census, figures)
        yield _gauge(
            "mailbatch_unanswered_seconds",
            "How long a run has had mails under way and got no answer to any; 0 without such a run.",
            unanswered,
        )
        yield from _of_runs(figures.jobs, figures.since)
        yield from _of_relays(figures, self._of.connections())


def _of_reservations(census: Census, figures: Figures) -> Iterator[Metric]:
    states = GaugeMetricFamily("mailbatch_reservations", "Reservations by state; capped, see _exact.", labels=["state"])
    for state, count in census.counts.items():
        states.add_metric([state.value], count)
    yield states
    yield _gauge("mailbatch_reservations_exact", "0 if a count met its cap and is at least that.", census.exact)
    yield _gauge("mailbatch_due", "Reservations that are due and wait.", census.due)
    yield _gauge("mailbatch_oldest_due_seconds", "How long the oldest of them has been due.", census.oldest_due_seconds)
    oldest = figures.in_doubt_oldest
    yield _gauge("mailbatch_in_doubt_oldest_seconds", "How long the oldest mail in doubt has been so.", oldest)
    refused = GaugeMetricFamily(
        "mailbatch_recent_refusals",
        "Tries of the last 15 minutes that ended otherwise than accepted, by class of the reply; 10,000 at most.",
        labels=["outcome", "class"],
    )
    for (outcome, kind), count in sorted(figures.refusals.items()):
        refused.add_metric([outcome, kind], count)
    yield refused
    lags = GaugeHistogramMetricFamily(
        "mailbatch_recent_lag_seconds",
        "From due to sent, of the mails sent in the last 15 minutes; of the newest 10,000.",
    )
    lags.add_metric([], _buckets(figures.lags, LAGS), figures.lags.total)
    yield lags


def _of_runs(jobs: Sequence[JobFigures], since: datetime) -> Iterator[Metric]:
    yield from _states_of_jobs(jobs)
    created = since.timestamp()
    sends = CounterMetricFamily(
        "mailbatch_sends", "What became of mails, since midnight UTC.", labels=["batch", "outcome"]
    )
    runs = CounterMetricFamily("mailbatch_runs", "Runs that ended, since midnight UTC.", labels=["batch", "outcome"])
    took = HistogramMetricFamily(
        "mailbatch_run_duration_seconds", "Duration of runs that did something, since midnight UTC.", labels=["batch"]
    )
    for job in jobs:
        for outcome, count in job.items.items():
            sends.add_metric([job.job, outcome], count, created=created)
        for outcome in RunOutcome:
            if outcome is not RunOutcome.SKIPPED:  # leaves no row
                runs.add_metric([job.job, outcome.value], job.runs.get(outcome, 0), created=created)
        took.add_metric([job.job], _buckets(job.durations, DURATIONS), job.durations.total)
    yield from (sends, runs, took)


def _states_of_jobs(jobs: Sequence[JobFigures]) -> Iterator[Metric]:
    told: list[tuple[str, str, Callable[[JobFigures], float | None]]] = [
        ("paused", "Whether ticks start no runs.", lambda job: job.paused),
        ("running", "Whether a run is in progress.", lambda job: job.running),
        ("last_tick_timestamp_seconds", "When beat ticked last.", lambda job: _unix(job.last_tick_at)),
        ("next_tick_timestamp_seconds", "When beat means to tick next.", lambda job: _unix(job.next_tick_at)),
        ("last_run_start_timestamp_seconds", "When the last run began.", lambda job: _unix(job.started_at)),
        ("last_run_end_timestamp_seconds", "When a run ended last.", lambda job: _unix(job.finished_at)),
        ("last_run_age_seconds", "Time since the last run began, by the database's clock.", lambda job: job.silent),
        ("last_run_remaining", "What it left due and unsent.", lambda job: job.remaining),
    ]
    for name, help_, value in told:
        family = GaugeMetricFamily(f"mailbatch_{name}", help_, labels=["batch"])
        for job in jobs:
            if (known := value(job)) is not None:
                family.add_metric([job.job], known)
        yield family
    last = GaugeMetricFamily("mailbatch_last_run_outcome", "1 for how the last run ended.", labels=["batch", "outcome"])
    for job in jobs:
        for outcome in RunOutcome if job.outcome else ():
            last.add_metric([job.job, outcome.value], job.outcome == outcome.value)
    yield last


def _of_relays(figures: Figures, connections: Mapping[str, int]) -> Iterator[Metric]:
    state = GaugeMetricFamily(
        "mailbatch_relay_circuit", "1 for the state of a relay's circuit.", labels=["relay", "state"]
    )
    failures = GaugeMetricFamily("mailbatch_relay_failures", "Its faults in a row.", labels=["relay"])
    for circuit in figures.circuits:
        for name in _CIRCUITS:
            state.add_metric([circuit.relay, name], circuit.state == name)
        failures.add_metric([circuit.relay], circuit.failures)
    used = GaugeMetricFamily(
        "mailbatch_relay_connections", "Connections of all lanes; counted under RELAY_CONNECTIONS.", labels=["relay"]
    )
    for relay, count in connections.items():
        used.add_metric([relay], count)
    yield from (state, failures, used)


def _gauge(name: str, help_: str, value: float | None) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, help_, value=0 if value is None else value)


def _buckets(histogram: Histogram, ends: Sequence[float]) -> list[tuple[str, float]]:
    return list(zip([*map(str, ends), "+Inf"], map(float, histogram.counts), strict=True))


def _unix(when: datetime | None) -> float | None:
    return when.timestamp() if when is not None else None
