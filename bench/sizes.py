"""The number of mails of each measurement: enough for a stable figure, and fewer for slow senders."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """Numbers of mails by the speed of their sender. ``rounds``: of each row; the median counts."""

    rounds: int
    seconds: float
    """Seconds of a run of the whole chain, unless ``fast`` mails are sent sooner."""
    fast: int
    """For mailbatch and smtp-source: the largest number of mails."""
    medium: int
    """For post_office, and smtplib without a round trip."""
    slow: int
    """For django-mailer without a round trip, post_office with one; fewer for a longer round trip."""
    stop_and_wait: int
    """For senders that wait several round trips for each mail on one connection."""
    at_once: int
    """Mails that are due at the same time."""
    backlog: int
    """Rows for reading the whole backlog by pages."""
    drain: int
    """Mails sent in one run, to compare memory and speed at its start and its end."""
    drain_backlog: int
    """Mails in the table of that run."""
    solo: int
    """For composer and statements."""
    tasks: int
    """No-op Celery tasks."""
    ticks: int


FULL = Sizes(
    rounds=3,
    seconds=6.0,
    fast=30_000,
    medium=3_000,
    slow=1_500,
    stop_and_wait=120,
    at_once=10_000,
    backlog=1_000_000,
    drain=300_000,
    drain_backlog=1_000_000,
    solo=20_000,
    tasks=5_000,
    ticks=50,
)
QUICK = Sizes(
    rounds=1,
    seconds=2.0,
    fast=6_000,
    medium=1_000,
    slow=300,
    stop_and_wait=30,
    at_once=10_000,
    backlog=100_000,
    drain=10_000,
    drain_backlog=30_000,
    solo=3_000,
    tasks=1_000,
    ticks=15,
)
TINY = Sizes(
    rounds=1,
    seconds=0.5,
    fast=400,
    medium=200,
    slow=60,
    stop_and_wait=8,
    at_once=300,
    backlog=4_000,
    drain=3_000,
    drain_backlog=4_000,
    solo=200,
    tasks=100,
    ticks=3,
)
