"""Transactions that change many rows for an operator: short ones, between which a run has the database to itself.

A lane waits for the longest of them. How long a row takes depends on the machine, the size of the mails and the other
load. So the number of rows follows the time that the last transaction took.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import sqlalchemy as sa

from mailbatch.infrastructure.db.conditions import SENDING, likely
from mailbatch.infrastructure.db.engine import writing
from mailbatch.infrastructure.db.tables import mail_reservations
from mailbatch.infrastructure.db.types import now

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy.engine import Connection, Engine

FIRST, LEAST, MOST = 50, 5, 500
"""Rows of the first portion, and the fewest and the most of any portion."""
SHORT, LONG = 0.010, 0.025
"""Seconds: after a shorter portion the next has twice as many rows, after a longer one half as many.

A lane that finds SQLite locked asks again after 1, 2, 5, 10, 15, 20 and 25 ms. So a portion of 25 ms makes it wait for
up to 33 ms.
"""
REST = 4.0
"""The rest after a portion, as a multiple of its time. A run then has the database, and keeps 4/5 of its rate."""
LONGEST_REST = 1.0
"""Seconds."""
_UNDER_WAY = sa.select(sa.exists().where(likely(SENDING), mail_reservations.c.lease_until >= now()))


@dataclass(slots=True)
class Portions:
    """Opens portions, and sizes each by how long the previous one took.

    ``clock`` returns seconds; ``pause`` waits for a number of seconds.
    """

    clock: Callable[[], float] = time.monotonic
    pause: Callable[[float], None] = time.sleep
    size: int = FIRST
    """Rows of the next portion."""

    @contextmanager
    def open(self, engine: Engine, rows: int) -> Iterator[Connection]:
        """Open the transaction of a portion of ``rows`` rows. Rest after it if a run sends. Raises ``StoreError``."""
        with writing(engine) as connection:
            # The wait for SQLite's lock is over here, and does not count as time of this portion.
            began = self.clock()
            yield connection
            sending = connection.scalar(_UNDER_WAY)
        took = self.clock() - began
        self.size = _next_size(self.size, rows, took)
        if sending:
            self.pause(min(LONGEST_REST, REST * took))


def _next_size(size: int, rows: int, took: float) -> int:
    if took > LONG:
        return max(LEAST, size // 2)
    # Few rows take little time, but that says nothing about many.
    return min(MOST, 2 * size) if took < SHORT and rows >= size else size
