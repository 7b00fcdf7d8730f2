"""The circuit of a relay: after faults in a row it is left alone for a while, then asked by one mail before all others.

closed ─ faults in a row ─▶ open ─ its time is over, or a run by hand ─▶ half open; then
half open ─ the probe went ─▶ closed, or ─ the probe failed ─▶ open, for longer.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Self

from mailbatch.domain.reply_kinds import DAY, Concern, hinted, kind_of

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from datetime import datetime
    from uuid import UUID

    from mailbatch.domain.outcome import Reply

PROBES_ALONE = 3
"""A mail that was the probe so often, and heard each time that the relay takes none, may be the reason itself."""
BETWEEN_PROBES_OF_A_DAY = 3600.0
"""Seconds between two probes of a relay whose quota is that of a day or more."""
MOST_SUSPECTS = 100
_WORDS = {
    Concern.RATE: "it takes no more for now",
    Concern.QUOTA: "our quota there is used up",
    Concern.ACCOUNT: "it does not let us send",
    Concern.SYSTEM: "something is wrong with its own system",
}


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
    be made; ``open_until`` is the same as a point in time. ``concern``: of what the refusal speaks that opened it, None
    after faults. ``suspects``: mails to which the relay said so, each with the number of probes that it was; they stay
    when it closes, because who hears it again while others go may be the only one for whom it is meant.
    """

    relay: str
    state: CircuitState = CircuitState.CLOSED
    failures: int = 0
    reason: str | None = None
    opened_at: datetime | None = None
    open_until: datetime | None = None
    left: float = 0.0
    concern: Concern | None = None
    suspects: Mapping[UUID, int] = field(default_factory=dict)

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

    def suspected(self, mails: Collection[UUID], paid: Collection[UUID] = (), *, probed: bool) -> dict[UUID, int]:
        """The suspects after ``mails`` heard again that the relay takes none; ``probed``: each as a probe, alone.

        Those that ``paid`` for it are none any more.
        """
        kept = probed or self.state is not CircuitState.CLOSED
        known = {mail: probes for mail, probes in self.suspects.items() if mail not in paid} if kept else {}
        for mail in mails:
            known[mail] = known.pop(mail, 0) + probed
        return dict(list(known.items())[-MOST_SUSPECTS:])


@dataclass(frozen=True, slots=True, kw_only=True)
class Outage:
    """Why nothing more is sent to a relay for now.

    ``concern``: of what its refusal speaks, None after faults. In seconds: ``asked`` is for how long it wants to be
    left alone, ``least`` for how long it is.
    """

    relay: str
    reason: str
    concern: Concern | None = None
    asked: float | None = None
    least: float = 0.0

    @classmethod
    def of_reply(cls, relay: str, reply: Reply, *, why: str | None = None) -> Self:
        """After a refusal that holds for every mail."""
        kind = kind_of(reply)
        concern = kind.concern if kind.concern in _WORDS else Concern.ACCOUNT
        return cls(
            relay=relay,
            reason=f"{why or _WORDS[concern]}: {reply}",
            concern=concern,
            asked=hinted(reply),
            least=BETWEEN_PROBES_OF_A_DAY if (kind.period or 0.0) >= DAY else 0.0,
        )

    def told(self) -> str:
        """How a run says it: "the relay is away: <relay>: <why>", or that it takes no mail."""
        what = "is away" if self.concern is None else "takes no mail"
        return f"the relay {what}: {self.relay}: {self.reason}"


@dataclass(frozen=True, slots=True)
class CircuitPolicy:
    """For how long a circuit opens: ``first`` seconds, doubled with each failed probe, at most ``longest``.

    With ``longest`` below the interval of the ticks each tick is a probe at least; a time that the relay itself named
    may be longer, up to ``longest_asked``; ``least`` of an outage goes before all of them.
    """

    first: float = 10.0
    longest: float = 270.0
    longest_asked: float = 3600.0

    def open_for(self, failures: int, jitter: float, asked: float | None = None, least: float = 0.0) -> float:
        """Seconds for which the circuit opens for the ``failures``-th time in a row.

        ``jitter`` in [0, 1) spreads them over 50–100 %: runs against one relay must not come back together.
        """
        full = min(self.longest, self.first * 2.0 ** min(max(failures - 1, 0), 64))
        return max(full * (0.5 + 0.5 * jitter), min(asked or 0.0, self.longest_asked), least)
