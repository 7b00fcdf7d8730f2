"""Writes a message of Python's ``email`` package as bytes, and mends the header fields that the package breaks.

It folds a long word into encoded words, or at a comma or semicolon inside of it: programs that read List-Unsubscribe,
References or In-Reply-To undo neither. Some versions encode the comma between two mailboxes, and one is lost.
"""

from __future__ import annotations

from email.headerregistry import AddressHeader
from email.message import Message
from typing import TYPE_CHECKING, Any

from mailbatch.domain.address_list import address_list
from mailbatch.domain.errors import InvalidReservation
from mailbatch.infrastructure.mime.addresses import read_addresses
from mailbatch.infrastructure.mime.headers import address_field, ascii_field
from mailbatch.infrastructure.mime.message_header import Field, header_end, read_header

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mailbatch.domain.message import Address

_OF_THE_STRUCTURE = ("content-", "mime-version")


def message_bytes(message: Message | bytes) -> bytes:
    """Return ``message`` as bytes, with CRLF line ends if the ``email`` package writes it.

    Raises:
        InvalidReservation: it is neither bytes nor a message of the ``email`` package, or that cannot write it.
    """
    if isinstance(message, bytes | bytearray | memoryview):
        return bytes(message)
    if not isinstance(message, Message):
        raise InvalidReservation([f"message: must be an EmailMessage or bytes, not {type(message).__name__}"])
    # mangle_from_ would change the text, and with it what a signature covers.
    policy = message.policy.clone(linesep="\r\n", mangle_from_=False)
    try:
        return _mended(message.as_bytes(policy=policy), list(message.raw_items()))
    except Exception as error:
        # The package raises whatever its parts raise: KeyError, UnicodeEncodeError, AttributeError.
        why = " ".join(f"{type(error).__name__}: {error}".split())
        raise InvalidReservation([f"message: the email package cannot write it ({why})"]) from error


def _mended(data: bytes, given: Sequence[tuple[str, Any]]) -> bytes:
    """Return ``data`` with each field of its header as it was ``given``, by name and value."""
    end, _ = header_end(data) or (len(data), len(data))
    try:
        fields = read_header(data[:end])
    except ValueError:  # the reader of the message says what is wrong with it
        return data
    if [one.name for one in fields] != [name for name, _ in given]:
        return data
    return b"".join([*(_field(one, value).raw for one, (_, value) in zip(fields, given, strict=True)), data[end:]])


def _field(written: Field, given: Any) -> Field:
    try:
        if isinstance(given, AddressHeader):
            return _with_addresses(written, given)
        return _with_words(written, str(given))
    except ValueError:  # what was given is no address, or not to be written in ASCII: it stays as it is
        return written


def _with_addresses(written: Field, given: Any) -> Field:
    pairs = [(one.display_name, one.addr_spec) for one in given.addresses]
    text = address_list("message", pairs) if pairs else ""
    wanted: Sequence[Address] = read_addresses(text) if text else ()
    if not wanted or given.groups != tuple(one for one in given.groups if one.display_name is None):
        return written
    return written if _specs(written) == [one.addr_spec for one in wanted] else _new(written, wanted)


def _specs(written: Field) -> list[str]:
    try:
        return [one.addr_spec for one in read_addresses(written.text)]
    except ValueError:
        return []


def _new(written: Field, addresses: Sequence[Address]) -> Field:
    return Field(written.name, address_field(written.name, addresses).encode())


def _with_words(written: Field, given: str) -> Field:
    """Return the field with the words of ``given``, if they are ASCII and were changed."""
    if not given.isascii() or "=?" in given or written.name.lower().startswith(_OF_THE_STRUCTURE):
        return written
    text = " ".join(given.split())
    if " ".join(written.text.split()) == text:
        return written
    return Field(written.name, ascii_field(written.name, text).encode())
