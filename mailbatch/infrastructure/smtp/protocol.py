"""Which of the three dialogues a relay is spoken to in, and how that is lowered for a relay that cannot keep up."""

from __future__ import annotations

import logging
from enum import IntEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Container

_ENOUGH = 2
"""Sessions lost in a dialogue that never worked, before it is given up."""

logger = logging.getLogger(__name__)


class Protocol(IntEnum):
    """The dialogues, from the slowest to the fastest."""

    DATA = 0
    """One command at a time (RFC 5321)."""
    PIPELINING = 1
    """A body and the next mail's MAIL, RCPT and DATA in one write: one round trip a mail (RFC 2920 §3.1)."""
    BDAT = 2
    """Whole mails, one behind the other, without waiting for replies (RFC 3030 and RFC 2920)."""

    @classmethod
    def offered(cls, features: Container[str]) -> Protocol:
        """The fastest that a relay with these extensions (in small letters) understands."""
        if "pipelining" not in features:
            return cls.DATA
        return cls.BDAT if "chunking" in features else cls.PIPELINING


class Manners:
    """What has been learnt of a relay; shared by all connections to it, and kept as long as the process lives."""

    def __init__(self, best: Protocol = Protocol.BDAT) -> None:
        self._best = best
        self._proven: set[Protocol] = set()
        self._suspicions = 0

    def choose(self, features: Container[str]) -> Protocol:
        """The dialogue for a new connection."""
        return min(self._best, Protocol.offered(features))

    def prove(self, protocol: Protocol) -> None:
        """A mail was answered in it."""
        self._proven.add(protocol)

    def suspect(self, protocol: Protocol, relay: str, reason: str, *, likely: bool) -> None:
        """A session broke in it. Before any mail was answered in it, the dialogue itself may be why.

        ``likely``: what came was not what a relay says that merely goes away.
        """
        if protocol in self._proven:
            return
        self._suspicions += 1
        if likely or self._suspicions >= _ENOUGH:
            self.step_down(protocol, relay, reason)

    def step_down(self, protocol: Protocol, relay: str, reason: str) -> None:
        """Use a slower one than ``protocol`` from now on."""
        if protocol is Protocol.DATA or self._best < protocol:
            return
        self._best = Protocol(protocol - 1)
        self._suspicions = 0
        logger.warning(
            "%s: offers %s but chokes on it, %s from now on: %s", relay, protocol.name, self._best.name, reason
        )
