"""The circuit of a relay. A relay that fails is left alone for a while. Then one mail probes it before all others.

closed ─ failures in a row ─▶ open ─ its time is over, or a run by hand ─▶ half open; then
half open ─ the relay answered the probe ─▶ closed, or ─ the probe failed ─▶ open, for longer.
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
"""A mail that was refused as the probe this often may be the reason itself."""
BETWEEN_PROBES_OF_A_DAY = 3600.0
"""Seconds between two probes of a relay whose quota is for a day or longer."""
MOST_SUSPECTS = 100
_WORDS = {
    Concern.RATE: "it takes no more for now",
    Concern.QUOTA: "our quota there is used up",
    Concern.ACCOUNT: "it does not let us send",
    Concern.SYSTEM: "something is wrong with its own system",
}


class CircuitState(StrEnum):
    """How runs treat a relay."""

    CLOSED = "closed"
    """Mail flows."""
    OPEN = "open"
    """The relay is left alone until a point in time. Then it waits for a probe."""
    HALF_OPEN = "half_open"
    """The probe is on its way."""


class Step(StrEnum):
    """How a run may begin."""

    GO = "go"
    PROBE = "probe"
    LEAVE = "leave"


@dataclass(frozen=True, slots=True, kw_only=True)
class Circuit:
    """A relay's circuit, as the store returned it.

    ``failures``: how often in a row it was opened. ``seconds_left``: until a probe may go, by the clock of the store;
    ``open_until``: the same as a point in time. ``concern``: what the refusal that opened it is about, None after
    faults. ``suspects``: mails that were refused for the relay's reasons, each with how often it was the probe. They
    stay when the circuit closes: if one is refused again while others are accepted, it may be the only one meant.
    """

    relay: str
    state: CircuitState = CircuitState.CLOSED
    failures: int = 0
    reason: str | None = None
    opened_at: datetime | None = None
    open_until: datetime | None = None
    seconds_left: float = 0.0
    concern: Concern | None = None
    suspects: Mapping[UUID, int] = field(default_factory=dict)

    def step(self, *, by_hand: bool) -> Step:
        """Return how a run may begin. A run by hand probes at once; a tick waits until the time is over.

        A half-open circuit counts like an open one whose time is over. The run that probed may have died, and a second
        probe costs only one mail more.
        """
        if self.state is CircuitState.CLOSED:
            return Step.GO
        return Step.PROBE if by_hand or self.seconds_left <= 0 or self.state is CircuitState.HALF_OPEN else Step.LEAVE

    def told(self) -> str:
        """Return why a run ends at once: "the relay <name> is left alone until …: <why>"."""
        until = f"{self.open_until:%Y-%m-%d %H:%M:%S} UTC" if self.open_until else "it is probed"
        return f"the relay {self.relay} is left alone until {until}: {self.reason or 'it failed'}"

    def suspected(self, mails: Collection[UUID], paid: Collection[UUID] = (), *, probed: bool) -> dict[UUID, int]:
        """Return the suspects after ``mails`` were refused for the relay's reasons.

        ``probed``: each of ``mails`` was the probe. ``paid``: mails that lost an attempt; they are no longer suspects.
        """
        kept = probed or self.state is not CircuitState.CLOSED
        known = {mail: probes for mail, probes in self.suspects.items() if mail not in paid} if kept else {}
        for mail in mails:
            known[mail] = known.pop(mail, 0) + probed
        return dict(list(known.items())[-MOST_SUSPECTS:])


@dataclass(frozen=True, slots=True, kw_only=True)
class Outage:
    """Why nothing more is sent to a relay for now.

    ``concern``: what its refusal is about, None after faults. ``asked``: for how many seconds the relay wants no mail.
    ``least``: for how many seconds it gets no mail at least.
    """

    relay: str
    reason: str
    concern: Concern | None = None
    asked: float | None = None
    least: float = 0.0

    @classmethod
    def of_reply(cls, relay: str, reply: Reply, *, why: str | None = None) -> Self:
        """Return the outage for a refusal that holds for every mail. ``why`` replaces the usual text of its concern."""
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
        """Return the text for a run: "the relay is away: <relay>: <why>", or that it takes no mail."""
        what = "is away" if self.concern is None else "takes no mail"
        return f"the relay {what}: {self.relay}: {self.reason}"


@dataclass(frozen=True, slots=True)
class CircuitPolicy:
    """How long a circuit opens: ``first`` seconds, doubled with each failed probe, at most ``longest``.

    If ``longest`` is below the interval of the ticks, each tick is a probe. A time that the relay itself named may be
    longer, up to ``longest_asked``. The ``least`` of an outage overrides all of them.
    """

    first: float = 10.0
    longest: float = 270.0
    longest_asked: float = 3600.0

    def open_for(self, failures: int, jitter: float, asked: float | None = None, least: float = 0.0) -> float:
        """Return for how many seconds the circuit opens the ``failures``-th time in a row.

        ``jitter`` in [0, 1) spreads this over 50–100 %, because runs to one relay must not come back together.
        """
        full = min(self.longest, self.first * 2.0 ** min(max(failures - 1, 0), 64))
        return max(full * (0.5 + 0.5 * jitter), min(asked or 0.0, self.longest_asked), least)
