"""Finds by short runs how many mails fill the wanted seconds, so that a slow sender does not get too many."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.results import Row

PROBE = 256
"""Mails of the first, shortest run: a few groups for each lane, otherwise one lane takes all of them."""
STEP = 16
"""The next run is at most this many times longer, because the first runs do not reach their full rate."""


def paced(measure: Callable[[int], Row], seconds: float, most: int) -> Row:
    """Return the first run with ``most`` mails or most of ``seconds``. The runs before it only predict its size.

    A much shorter run shows only the start of a sender: opening connections, the first mail alone, the second lane.
    """
    mails = min(PROBE, most)
    while True:
        row = measure(mails)
        if mails >= most or row.seconds > seconds * 0.7:
            return row
        mails = min(most, int(mails * min(STEP, seconds / max(row.seconds, 0.01))))
