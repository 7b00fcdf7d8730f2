"""A point in time that a database holds in a form, or in a year, that Python cannot read."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Self

from mailbatch.domain.limits import EARLIEST, LAST


class OddMoment(datetime):
    """The nearest point in time that can be read; ``stored`` is what the database holds in its place.

    A list continues after ``stored``, because the database sorts by that.
    """

    stored: Any = None

    @classmethod
    def near(cls, when: datetime, stored: Any) -> Self:
        """Return ``when``, moved into the years 1970 to 9999, as the reading of ``stored``."""
        inside = min(max(when, EARLIEST), LAST)
        odd = cls.fromisoformat(inside.isoformat())
        odd.stored = stored
        return odd
