"""Ports of what holds back mails whose time has come: gates, limits, quotas."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import date, datetime

    from mailbatch.domain.claimed import ClaimedMail
    from mailbatch.domain.gate import NotBefore
    from mailbatch.domain.message import Claim
    from mailbatch.domain.rate import Asked, Grant
    from mailbatch.domain.rows import BlockRow


class Gate(Protocol):
    """Decides which mails must not go yet. It is asked once for each claimed group, before composing.

    Each method may raise ``StoreError``: what the gate goes by cannot be read.
    """

    def ask(self, mails: Sequence[ClaimedMail], now: datetime) -> Mapping[Claim, NotBefore]:
        """Return those of ``mails`` that are held back, each with until when and why. The others may go."""

    def reopen(self, limit: int) -> int:
        """Make up to ``limit`` mails due again that waited without a time until this gate opens. Return how many."""


class Blocks(Protocol):
    """The tags whose mails are held back until an operator lifts the block. Every method may raise ``StoreError``."""

    def blocked(self) -> frozenset[str]:
        """Return the tags that are blocked now."""

    def all(self) -> Sequence[BlockRow]:
        """Return every block, by tag."""

    def block(self, tag: str, by: str, note: str | None) -> bool:
        """Block ``tag``. Return False if it was blocked already."""

    def lift(self, tag: str) -> bool:
        """Lift the block of ``tag``. Its mails become due by ``reopen``. Return False if it was not blocked."""

    def reopen(self, limit: int) -> int:
        """Make up to ``limit`` mails of lifted blocks due again, in a transaction of its own. Return how many."""


class RateLimits(Protocol):
    """What all lanes and hosts may send under limits that they share."""

    def take(self, asked: Sequence[Asked]) -> list[Grant]:
        """Let go, for each of ``asked``, whom its limit allows: see ``domain.rate.grant``. Never raises."""

    def give_back(self, given: Sequence[Asked]) -> None:
        """Give back what was granted for the ``weights`` of ``given``, and not used. Never raises."""


class Quotas(Protocol):
    """How many mails went through a relay on a day. Every method may raise ``StoreError``."""

    def take(self, relay: str, day: date, most: int, wanted: int) -> int:
        """Count up to ``wanted`` more, but no more than ``most`` on ``day``. Return how many were counted."""

    def give_back(self, relay: str, day: date, count: int) -> None:
        """Count ``count`` less: they were not sent."""

    def used(self, relay: str, day: date) -> int:
        """Return how many were counted."""
