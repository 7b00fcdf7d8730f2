"""How many mails each measurement takes: enough for a steady figure, and no more of those who are slow."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """Mails, by how fast whoever sends them is; ``rounds`` of each row whose median counts."""

    rounds: int
    seconds: float
    """That a run of the whole chain shall last, unless ``fast`` mails are sent sooner."""
    fast: int
    """mailbatch and smtp-source, at most."""
    medium: int
    """post_office, smtplib without a round trip."""
    slow: int
    """django-mailer without a round trip, post_office with one; multiplied down as the round trip grows."""
    stop_and_wait: int
    """Those who wait some round trips for each mail on one connection."""
    at_once: int
    """Due at the same instant."""
    backlog: int
    """Of the paging walk."""
    drain: int
    """Sent in one run, for memory and speed from the first to the last."""
    drain_backlog: int
    """Among so many."""
    solo: int
    """Composer, statements."""
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
