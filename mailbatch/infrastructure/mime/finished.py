"""Makes a finished message ready for the wire: adds what is missing, takes out Bcc, encodes what SMTP cannot carry."""

from __future__ import annotations

from email.utils import format_datetime
from itertools import chain
from typing import TYPE_CHECKING

from mailbatch.domain.body import Body
from mailbatch.domain.content import ContentInMemory
from mailbatch.domain.errors import CannotCompose
from mailbatch.domain.written_message import WrittenMessage
from mailbatch.infrastructure.mime.addresses import read_addresses
from mailbatch.infrastructure.mime.fields import header_fields
from mailbatch.infrastructure.mime.headers import address_field
from mailbatch.infrastructure.mime.message_envelope import HIDDEN, author_of
from mailbatch.infrastructure.mime.message_header import LONGEST_HEADER, Field, header_end, read_header, written
from mailbatch.infrastructure.mime.region import has_long_line
from mailbatch.infrastructure.mime.rewriting import Rewritten, rewritten
from mailbatch.infrastructure.mime.structure import read_structure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from mailbatch.domain.content import Content, LineContent
    from mailbatch.domain.written_message import Additions
    from mailbatch.infrastructure.mime.structure import Structure

_ADDRESSES = frozenset(
    (
        *("from", "sender", "reply-to", "to", "cc"),
        *("resent-from", "resent-sender", "resent-to", "resent-cc", "resent-reply-to"),
    )
)
_OF_THE_STRUCTURE = ("content-", "mime-version")


class FinishedWriter:
    """Writes finished messages (the port ``MessageWriter``). ``put`` keeps bytes that are too many for memory."""

    def __init__(self, put: Callable[[Iterable[bytes]], LineContent]) -> None:
        self._put = put

    def __call__(self, message: bytes | Content, additions: Additions) -> WrittenMessage:
        """Return ``message`` as it goes on the wire.

        Raises:
            CannotCompose: one line that says what cannot be sent, and in which part.
            ContentUnavailable: ``message`` cannot be read, or not be kept.
        """
        try:
            if isinstance(message, bytes):
                return self._written_in_memory(message, additions)
            return self._written(message, additions)
        except ValueError as error:
            raise CannotCompose([f"message: {error}"]) from error

    def _written_in_memory(self, message: bytes, additions: Additions) -> WrittenMessage:
        end, start = header_end(message) or (len(message), len(message))
        fields, body = read_header(message[:end]), ContentInMemory(message[start:])
        structure = read_structure(fields, body.pieces())
        kept = _kept(structure, additions)
        header = written(kept)
        data = b"".join([header, b"\r\n", *rewritten(body.pieces(), structure.edits)])
        return _result(kept, structure, header, data, additions)

    def _written(self, message: Content, additions: Additions) -> WrittenMessage:
        """Write a large message: it is read once, and kept once, also if its body must change."""
        block, rest = _split(message.pieces())
        fields, body = read_header(block), self._put(rest)
        structure = read_structure(fields, body.pieces())
        kept = _kept(structure, additions)
        header = written(kept)
        if structure.edits or not body.lines.are_whole:
            body = Rewritten(body, structure.edits)
        return _result(kept, structure, header, Body.of(header + b"\r\n", body), additions)


def message_problem(message: bytes) -> str | None:
    """Return why no relay would get ``message``, in one line; None if it can be sent. The port ``MessageCheck``."""
    try:
        end, start = header_end(message) or (len(message), len(message))
        fields = read_header(message[:end])
        written(_own_fields(read_structure(fields, ContentInMemory(message[start:]).pieces())))
    except ValueError as error:
        return str(error)
    return None


def _split(pieces: Iterator[bytes]) -> tuple[bytes, Iterable[bytes]]:
    """Return the header, and the pieces of the body."""
    data = b""
    for piece in pieces:
        data += piece
        found = header_end(data)
        # A CR at the end may be the first half of CR LF.
        if found and not (found[1] == len(data) and data.endswith(b"\r")):
            return data[: found[0]], chain([data[found[1] :]], pieces)
        if len(data) > LONGEST_HEADER:
            break
    return data, ()


def _result(
    fields: Sequence[Field], structure: Structure, header: bytes, data: bytes | Body, additions: Additions
) -> WrittenMessage:
    return WrittenMessage(
        data=data,
        author=author_of(fields) if additions.needs_author else None,
        has_utf8_header=structure.has_utf8_header or not header.isascii(),
    )


def _kept(structure: Structure, additions: Additions) -> list[Field]:
    """Return the header for the wire."""
    names = {one.name.lower() for one in structure.fields}
    added = [Field(name, raw.encode()) for name, raw in _missing(names, structure, additions)]
    return [*_own_fields(structure), *added]


def _own_fields(structure: Structure) -> list[Field]:
    """Return the fields that the message has and that go on the wire. No field of a signed message changes."""
    kept = [one for one in structure.fields if not one.is_named(*HIDDEN)]
    if not structure.is_signed:
        return [_in_ascii(one) for one in kept]
    if has_long_line(b"".join([one.raw for one in kept])):
        raise ValueError("its header has a line of more than 998 bytes, and a signature covers it")
    return kept


def _missing(names: set[str], structure: Structure, additions: Additions) -> Iterator[tuple[str, str]]:
    """Yield the fields that every message has (RFC 5322 §3.6) and this one has not."""
    if "from" not in names:
        if not additions.sender:
            raise ValueError("has no From; write one, or set MAILBATCH_SENDER")
        yield "From", address_field("From", read_addresses(additions.sender))
    if "date" not in names:
        yield "Date", f"Date: {format_datetime(additions.date)}\r\n"
    if "message-id" not in names:
        yield "Message-ID", f"Message-ID: <{additions.message_id}>\r\n"
    if "mime-version" not in names and structure.is_encoded:
        yield "MIME-Version", "MIME-Version: 1.0\r\n"
    if additions.auto_submitted and "auto-submitted" not in names:
        yield "Auto-Submitted", "Auto-Submitted: auto-generated\r\n"


def _in_ascii(field: Field) -> Field:
    """Return ``field`` in encoded words if it is in UTF-8, because many relays do not take that (RFC 6531)."""
    if field.raw.isascii():
        return field
    name, text = field.name, field.text
    if name.lower().startswith(_OF_THE_STRUCTURE):
        return field
    try:
        if name.lower() in _ADDRESSES:
            return Field(name, address_field(name, read_addresses(text)).encode())
        return Field(name, "".join(header_fields(name, text)).encode())
    except (ValueError, CannotCompose):
        return field
