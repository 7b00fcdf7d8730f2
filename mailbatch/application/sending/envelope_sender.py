"""Decides the envelope sender of a mail: the address to which a mail server returns what it cannot deliver."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mailbatch.domain.errors import CannotCompose
from mailbatch.domain.redaction.lines import quoted

if TYPE_CHECKING:
    from uuid import UUID

    from mailbatch.application.ports.system import AddressReader
    from mailbatch.domain.return_path import ReturnPath


def returns_to(
    given: str | None, reservation_id: UUID, return_path: ReturnPath | None, read_addresses: AddressReader
) -> str | None:
    """Return the envelope sender of a reservation whose column ``envelope_sender`` holds ``given``.

    An empty text: the mail is not returned. None: neither the mail nor the settings name one, so its author is it.

    Raises:
        CannotCompose: ``given`` is no address.
    """
    if given and given.strip():
        try:
            return read_envelope_sender(given, read_addresses)
        except ValueError as error:
            raise CannotCompose([f"envelope_sender: {error}"]) from error
    return return_path.address(reservation_id) if return_path is not None else None


def read_envelope_sender(text: str, read_addresses: AddressReader) -> str:
    """Return the one address of ``text`` without angle brackets; an empty text for ``<>``: nothing is returned.

    RFC 5321 §4.5.5.

    Raises:
        ValueError: one line that says what to write.
    """
    if text.strip() == "<>":
        return ""
    read = read_addresses(text)
    if len(read) != 1 or read[0].display_name:
        raise ValueError(f"{quoted(text, 80)} must be one address without a name, or <>")
    return read[0].addr_spec
