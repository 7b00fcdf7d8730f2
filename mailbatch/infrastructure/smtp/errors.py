"""The ways in which a connection to a relay fails."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mailbatch.domain.errors import MailbatchError

if TYPE_CHECKING:
    from mailbatch.domain.outcome import Reply


class RelayError(MailbatchError):
    """The relay cannot be used; the text is the reason, in one line.

    ``hopeless``: trying again soon is useless or harmful (refused password, untrusted certificate). ``reply``: the
    relay's reply, if a reply ended the connection.
    """

    def __init__(self, reason: str, *, hopeless: bool = False, reply: Reply | None = None) -> None:
        super().__init__(reason)
        self.hopeless = hopeless
        self.reply = reply


class HungUp(RelayError):
    """The connection has ended, by the relay or on the way."""


class HandshakeTimeout(RelayError):
    """A step of opening the connection took longer than it may."""


class NoSlot(RelayError):
    """The connection limit of the relay is reached."""


class ProtocolViolation(RelayError):
    """The relay did what it must not do in an extension that it offers: it does not master it."""


class ChunkReadAsCommands(ProtocolViolation):
    """The relay refused a chunk (RFC 3030) and read its bytes as commands."""


class PhaseTimeout(ProtocolViolation):
    """The relay took longer than a phase of the dialogue may take."""
