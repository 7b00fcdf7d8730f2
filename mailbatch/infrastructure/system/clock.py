"""Time that passes, whatever the wall clock says; and ids that sort by time."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from uuid_utils.compat import uuid7

if TYPE_CHECKING:
    from uuid import UUID

_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class SystemClock:
    """The port ``Clock``: goes on while the machine is suspended, where the system can tell (Linux)."""

    def monotonic(self) -> float:
        """Seconds since the machine was started."""
        return time.clock_gettime(_CLOCK)

    def sleep(self, seconds: float) -> None:
        """Wait."""
        time.sleep(seconds)


def new_id() -> UUID:
    """A UUID of version 7 (RFC 9562 §5.7): ids sort by the time at which they were made, without coordination."""
    return uuid7()
