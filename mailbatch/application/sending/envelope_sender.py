"""Reads the envelope sender that a caller names (RFC 5321 §4.5.5)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mailbatch.application.ports.system import AddressReader


def read_envelope_sender(text: str, read_addresses: AddressReader) -> str:
    """Return the one address of ``text`` without angle brackets; an empty text for ``<>``: nothing is returned.

    Raises:
        ValueError: one line that says what to write.
    """
    if text.strip() == "<>":
        return ""
    read = read_addresses(text)
    if len(read) != 1 or read[0].display_name:
        raise ValueError(f"{ascii(text)[:80]} must be one address without a name, or <>")
    return read[0].addr_spec
