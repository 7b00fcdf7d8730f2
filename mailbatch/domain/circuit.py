"""The circuit of a relay: after faults in a row it is left alone for a while, then asked by one mail before all others.

closed ─ faults in a row ─▶ open ─ its time is over, or a run by hand ─▶ half open; then
half open ─ the probe went ─▶ closed, or ─ the probe failed ─▶ open, for longer.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime


class CircuitState(StrEnum):
    """What is done with a relay."""

    CLOSED = "closed"
    """It is well: mail flows."""
    OPEN = "open"
    """It is left alone until a point in time, then it waits for a probe."""
    HALF_OPEN = "half_open"
    """One mail is on its way to find out."""


class Step(StrEnum):
    """How a run may begin."""

    GO = "go"
    PROBE = "probe"
    LEAVE = "leave"


@dataclass(frozen=True, slots=True, kw_only=True)
class Circuit:
    """A relay's circuit, as it was read.

    ``failures``: how often in a row it was opened. ``left``: seconds, by the clock of who keeps it, until a probe may
    be made; ``open_until`` is the same as a point in time.
    """

    relay: str
    state: CircuitState = CircuitState.CLOSED
    failures: int = 0
    reason: str | None = None
    opened_at: datetime | None = None
    open_until: datetime | None = None
    left: float = 0.0

    def step(self, *, by_hand: bool) -> Step:
        """How a run may begin. One that somebody asked for finds out at once; a tick waits for the time to come.

        Half open counts as open whose time is over: whoever was probing may have died of it, and a second probe is
        one mail more.
        """
        if self.state is CircuitState.CLOSED:
            return Step.GO
        return Step.PROBE if by_hand or self.left <= 0 or self.state is CircuitState.HALF_OPEN else Step.LEAVE

    def told(self) -> str:
        """Why a run ends at once: "the relay <name> is left alone until …: <why>"."""
        until = f"{self.open_until:%Y-%m-%d %H:%M:%S} UTC" if self.open_until else "it is probed"
        return f"the relay {self.relay} is left alone until {until}: {self.reason or 'it failed'}"


@dataclass(frozen=True, slots=True)
class CircuitPolicy:
    """For how long a circuit opens: ``first`` seconds, doubled with each failed probe, at most ``longest``.

    With ``longest`` below the interval of the ticks each tick is a probe at least; a time that the relay itself named
    may be longer, up to ``longest_asked``.
    """

    first: float = 10.0
    longest: float = 270.0
    longest_asked: float = 3600.0

    def open_for(self, failures: int, jitter: float, asked: float | None = None) -> float:
        """Seconds for which the circuit opens for the ``failures``-th time in a row.

        ``jitter`` in [0, 1) spreads them over 50–100 %: runs against one relay must not come back together.
        """
        full = min(self.longest, self.first * 2.0 ** min(max(failures - 1, 0), 64))
        return max(full * (0.5 + 0.5 * jitter), min(asked or 0.0, self.longest_asked))
