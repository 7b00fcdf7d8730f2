"""A point in time that a database holds in a form, or in a year, that is not ours."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Self

from mailbatch.domain.reservation import EARLIEST, LATEST

LAST = LATEST - timedelta(milliseconds=1)
"""The last moment that is read, and that a list can go on behind."""


class OddMoment(datetime):
    """The nearest point in time that everybody can read; ``stored`` is what the database holds in its place.

    A list goes on behind what is stored, because that is what the database sorts by.
    """

    stored: Any = None

    @classmethod
    def near(cls, when: datetime, stored: Any) -> Self:
        """Return ``when``, within 1970–9999, as what is read of ``stored``."""
        inside = min(max(when, EARLIEST), LAST)
        odd = cls.fromisoformat(inside.isoformat())
        odd.stored = stored
        return odd
