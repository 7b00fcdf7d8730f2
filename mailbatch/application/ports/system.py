"""Ports to the machine and to the grammars of mail: the clock, address lists, header fields."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mailbatch.domain.message import Address


class Clock(Protocol):
    """Time that passes, whatever the wall clock says."""

    def monotonic(self) -> float:
        """Seconds since some point; goes on while the machine is suspended."""

    def sleep(self, seconds: float) -> None:
        """Wait."""


class AddressReader(Protocol):
    """Reads RFC 5322 address lists."""

    def __call__(self, text: str) -> list[Address]:
        """The mailboxes of ``text`` in order; ``ValueError`` with one line that names the one that is none."""


class HeaderCheck(Protocol):
    """Knows the grammars of header fields."""

    def __call__(self, headers: Mapping[str, str | Sequence[str]]) -> list[str]:
        """One line for each of ``headers`` that cannot be written; their names and texts have been checked."""
