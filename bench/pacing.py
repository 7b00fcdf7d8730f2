"""How many mails fill the wanted seconds: found by shorter runs first, so that nobody slow is given too many."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.results import Row

PROBE = 256
"""Mails of the first, shortest run: some groups for each lane, else one lane takes them all."""
STEP = 16
"""So much longer is a next run at most: the first ones hardly get into their stride."""


def paced(measure: Callable[[int], Row], seconds: float, most: int) -> Row:
    """The first run that takes ``most`` mails, or most of ``seconds``; the others only foretell its size.

    A run that is much shorter shows how somebody starts: opening connections, the first mail alone, the second lane.
    """
    mails = min(PROBE, most)
    while True:
        row = measure(mails)
        if mails >= most or row.seconds > seconds * 0.7:
            return row
        mails = min(most, int(mails * min(STEP, seconds / max(row.seconds, 0.01))))
