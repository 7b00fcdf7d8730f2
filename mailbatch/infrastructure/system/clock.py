"""Measures time independently of the wall clock, and makes ids that sort by time."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING

from uuid_utils.compat import uuid7

if TYPE_CHECKING:
    from uuid import UUID

_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class SystemClock:
    """The port ``Clock``. On Linux it goes on while the machine is suspended."""

    monotonic = staticmethod(partial(time.clock_gettime, _CLOCK))
    """Return the seconds since the machine was started. It is called several times for each mail."""

    def sleep(self, seconds: float) -> None:
        """Wait for so many seconds."""
        time.sleep(seconds)


def new_id() -> UUID:
    """Return a UUID of version 7 (RFC 9562 §5.7): such ids sort by the time at which they were made."""
    return uuid7()
