"""The ways in which a connection to a relay fails, and how the log says it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from mailbatch.domain.errors import MailbatchError

if TYPE_CHECKING:
    from mailbatch.domain.outcome import Reply

_ADDRESS = re.compile(r"[^\s<>@]+@[^\s<>@]+")


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
    """The relay broke the rules of SMTP, or of an extension that it offers."""


class ChunkReadAsCommands(ProtocolViolation):
    """The relay refused a chunk (RFC 3030) and read its bytes as commands."""


class BodyUnreadable(RelayError):
    """Our own bytes of a mail cannot be read to their end. It is not the relay's fault, but the connection must end.

    If the connection did not end, the relay would wait for the rest, or take the next bytes for it.
    """


class PhaseTimeout(ProtocolViolation):
    """The relay took longer than a phase of the dialogue may take."""


def system_words(error: Exception) -> str:
    """Return what the system says of an error, without its number."""
    return getattr(error, "strerror", None) or getattr(error, "reason", None) or str(error) or type(error).__name__


def masked(reason: str) -> str:
    """Return ``reason`` without mail addresses: relays quote them, and logs are read by more people than mails."""
    return _ADDRESS.sub("<address>", reason)
