"""Ports to the machine and to the grammars of mail: the clock, address lists, header fields."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mailbatch.domain.content import Content
    from mailbatch.domain.message import Address, MessageEnvelope
    from mailbatch.domain.seen_message import SeenMessage


class Clock(Protocol):
    """A clock that only runs forward, and a way to wait."""

    def monotonic(self) -> float:
        """Return the seconds since some point. They go on while the machine is suspended."""

    def sleep(self, seconds: float) -> None:
        """Wait for so many seconds."""


class AddressReader(Protocol):
    """Reads RFC 5322 address lists."""

    def __call__(self, text: str) -> list[Address]:
        """Return the mailboxes of ``text`` in order. Raises ``ValueError`` with one line that names a wrong one."""


class EnvelopeReader(Protocol):
    """Reads from a finished message (RFC 5322) to whom it goes."""

    def __call__(self, message: bytes) -> MessageEnvelope:
        """Return its recipients, and the message without its Bcc. Raises ``InvalidReservation``."""


class MessageCheck(Protocol):
    """Knows what a finished message (RFC 5322) may be made up of."""

    def __call__(self, message: bytes) -> str | None:
        """Return one line that says why ``message`` could not be sent to any relay; None if it could."""


class MessageReader(Protocol):
    """Reads finished messages for people."""

    def __call__(self, message: bytes | Content) -> SeenMessage:
        """Return what a reader sees of ``message``. Raise ``ValueError`` with one line if it cannot be read."""


class HeaderCheck(Protocol):
    """Knows the grammars of header fields."""

    def __call__(self, headers: Mapping[str, str | Sequence[str]]) -> list[str]:
        """Return one line for each of ``headers`` that cannot be written. Names and texts are checked elsewhere."""
