"""Who holds the lock of a job."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """``owner``: who holds the lock of a job, as ``host:pid``. ``expires_in``: seconds; infinite for a key set by hand.

    ``other_database`` describes the database on which the holder works, if it is another one than ours.
    """

    owner: str
    expires_in: float
    other_database: str | None = None
