"""Reads the header of a finished message into its fields, each as it stands (RFC 5322 §2.2)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mailbatch.domain.redaction.lines import quoted
from mailbatch.infrastructure.mime.headers import LONGEST_LINE

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

BREAK = re.compile(rb"\r\n|\r|\n")
"""A line end of any kind. A bare CR is one, because some programs read it so."""
LONGEST_HEADER = 2**21
"""The largest header in bytes: more than a list of 40,000 recipients has."""

_END = re.compile(rb"(\A|\r\n|\r(?!\n)|\n)(?:\r\n|\r|\n)")
_LINE = re.compile(rb"[^\r\n]*+(?:\r\n|\r|\n|\Z)")
# RFC 5322 §4.5: blanks before the colon are obsolete. Some programs read such a field, so we do.
_NAME = re.compile(rb"([!-9;-~]+)[ \t]*:")
_MBOX = re.compile(rb">?From [^\r\n]*+(?:\r\n|\r|\n)?")
_LONGEST_SHOWN = 40
_ENCODING = "Content-Transfer-Encoding"


@dataclass(frozen=True, slots=True)
class Field:
    """One field. ``raw`` is all of it as it was given, line ends included; ``name`` is as written."""

    name: str
    raw: bytes

    def is_named(self, *names: str) -> bool:
        """Return whether this is one of ``names``, which are in lower case."""
        return self.name.lower() in names

    @property
    def text(self) -> str:
        """The value on one line. Raises ``ValueError`` if it is not UTF-8 (RFC 6532 §3.2)."""
        try:
            return BREAK.sub(b"", self.raw.partition(b":")[2]).decode().strip(" \t")
        except UnicodeDecodeError:
            raise ValueError(f"{self.name}: is not UTF-8; write encoded words (RFC 2047)") from None


def header_end(data: bytes) -> tuple[int, int] | None:
    """Return where the header of ``data`` ends, and where the body begins; None if there is no empty line."""
    found = _END.search(data)
    return (found.end(1), found.end()) if found else None


def read_header(block: bytes) -> list[Field]:
    """Return the fields of ``block``, which is a header without the empty line behind it.

    A line "From …" at the beginning is left out: a mail folder (mbox) has it between its messages.

    Raises:
        ValueError: one line that says which line of the header is no field.
    """
    if len(block) > LONGEST_HEADER:
        raise ValueError(f"its header has {len(block)} bytes; at most {LONGEST_HEADER} are read")
    if b"\x00" in block:
        raise ValueError("its header has a NUL byte")
    mbox = _MBOX.match(block)
    return list(_fields(block, mbox.end() if mbox else 0))


def _fields(block: bytes, start: int) -> Iterator[Field]:
    name, raw = "", list[bytes]()
    for number, line in enumerate(_lines(block, start), 2 if start else 1):
        if line[:1] in (b" ", b"\t") and raw:
            raw.append(line)
            continue
        if raw:
            yield Field(name, b"".join(raw))
        found = _NAME.match(line)
        if not found:
            raise ValueError(f"line {number} of its header is no field: {_shown(line)}")
        name, raw = found[1].decode(), [line]
    if raw:
        yield Field(name, b"".join(raw))


def _lines(block: bytes, start: int) -> Iterator[bytes]:
    while start < len(block) and (found := _LINE.match(block, start)):
        yield found[0]
        start = found.end()


def texts(fields: Sequence[Field], name: str) -> list[str]:
    """Return the values of the fields ``name``. Raises ``ValueError`` as ``Field.text`` does."""
    return [field.text for field in fields if field.is_named(name)]


def with_encoding(fields: Sequence[Field], encoding: str) -> list[Field]:
    """Return ``fields`` with this Content-Transfer-Encoding in place of theirs, or behind them."""
    new = Field(_ENCODING, f"{_ENCODING}: {encoding}\r\n".encode())
    at = next((n for n, one in enumerate(fields) if one.is_named(_ENCODING.lower())), len(fields))
    return [*fields[:at], new, *[one for one in fields[at:] if not one.is_named(_ENCODING.lower())]]


def written(fields: Sequence[Field]) -> bytes:
    """Return ``fields`` with CRLF line ends, and with lines of at most 998 bytes (RFC 5322 §2.1.1).

    A longer line is folded at a blank. Raises ``ValueError`` if it has none.
    """
    lines = [line for field in fields for line in _folded(field)]
    return b"".join([line + b"\r\n" for line in lines])


def _folded(field: Field) -> Iterator[bytes]:
    for line in BREAK.split(field.raw.removesuffix(b"\n").removesuffix(b"\r")):
        rest = line
        while len(rest) > LONGEST_LINE:
            at = max(rest.rfind(b" ", 1, LONGEST_LINE + 1), rest.rfind(b"\t", 1, LONGEST_LINE + 1))
            if at < 0 or not rest[:at].strip() or not rest[at:].strip():
                raise ValueError(
                    f"{field.name} has a word of more than {LONGEST_LINE - 1} bytes, which no line can hold"
                )
            yield rest[:at]
            rest = rest[at:]
        yield rest


def _shown(line: bytes) -> str:
    return quoted(line.rstrip(b"\r\n").decode("utf-8", "backslashreplace"), _LONGEST_SHOWN)
