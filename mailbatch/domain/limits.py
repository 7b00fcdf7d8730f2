"""Limits that several rooms keep to: what a database can store, and what every reader of it can read."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)
LATEST = datetime(9999, 12, 31, tzinfo=UTC)
"""Points in time are from ``EARLIEST`` to before ``LATEST``: databases disagree about other years."""
LAST = LATEST - timedelta(milliseconds=1)
"""The latest moment that is read, and after which a list can continue. SQLite stores milliseconds."""
PRIORITIES = range(-(2**31), 2**31)
"""A 32-bit integer."""
LONGEST_KEY = 255
"""Characters of an idempotency key or a tag."""
