"""Reads how a finished message is made up, in one pass over its bytes, and finds what SMTP cannot carry of it.

Attachments are looked at in blocks and never held. The standard library's parser is the measure in the tests, but is
not used, because it holds a message several times. Boundaries, defaults and tolerances are those of that parser.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mailbatch.infrastructure.mime.entity import read_entity
from mailbatch.infrastructure.mime.message_header import LONGEST_HEADER, with_encoding, written
from mailbatch.infrastructure.mime.part_header import HEADER_LINE, PartHeader
from mailbatch.infrastructure.mime.region import Edit, Region, has_long_line

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from mailbatch.infrastructure.mime.entity import Entity
    from mailbatch.infrastructure.mime.message_header import Field

BLOCK = 65_536
"""About how many bytes are looked at in one go."""
MOST_PARTS = 1_000
DEEPEST = 100
"""How many multiparts and messages may be inside each other."""

_LINE = re.compile(rb"[^\r\n]*+(?:\r\n|\r|\n|\Z)")
_BREAK_AT_END = re.compile(rb"(?:\r\n|\r|\n)\Z")
# The first is ten times as fast.
_DASHES = re.compile(rb"\n--")
_DASHES_AFTER_CR = re.compile(rb"[\r\n]--")


@dataclass(frozen=True, slots=True)
class Structure:
    """What must change in the body of a message, in the order of its bytes.

    ``fields``: the header of the message, with another Content-Transfer-Encoding if its body is encoded.
    ``is_encoded``: a part is encoded anew. ``is_signed``: a signature covers header and body. ``has_utf8_header``: the
    header of a part is not ASCII (RFC 6532).
    """

    edits: Sequence[Edit]
    fields: Sequence[Field]
    is_encoded: bool
    is_signed: bool
    has_utf8_header: bool


@dataclass(slots=True)
class _Multipart:
    """A multipart that is being read, and how many parts it had so far."""

    entity: Entity
    parts: int = 0


def read_structure(fields: Sequence[Field], body: Iterable[bytes]) -> Structure:
    """Return what must change in ``body``, which comes in pieces of any size; ``fields`` are the message's header.

    Raises:
        ValueError: one line that names the part and says what is wrong with it.
    """
    reader = _Reader(fields)
    for block, begins_line in _blocks(body):
        reader.read(block, begins_line=begins_line)
    return reader.structure()


def _blocks(pieces: Iterable[bytes]) -> Iterator[tuple[bytes, bool]]:
    """Cut ``pieces`` anew behind line ends; yield each block, and whether it begins at the beginning of a line.

    Only a line that is longer than a block is cut within.
    """
    rest, begins_line = b"", True
    for piece in pieces:
        data = rest + piece
        # A CR at the end may be the first half of CR LF.
        last = len(data) - data.endswith(b"\r")
        cut = max(data.rfind(b"\n", 0, last), data.rfind(b"\r", 0, last)) + 1
        if not cut and len(data) > BLOCK:
            cut = last
        if cut:
            yield data[:cut], begins_line
            begins_line = data[cut - 1] in b"\r\n"
        rest = data[cut:]
    if rest:
        yield rest, begins_line


class _Reader:
    """Reads a body block by block. It is either in the header of a part (``_header``) or in a region."""

    def __init__(self, fields: Sequence[Field]) -> None:
        self._offset = 0
        """Where in the body the block begins."""
        self._edits: list[Edit] = []
        self._new_headers: dict[int, Edit] = {}
        """By where each begins; a header may be written again for a second reason."""
        self._multiparts: list[_Multipart] = []
        self._boundaries: dict[bytes, int] = {}
        """Of which of them each boundary is."""
        self._parts = 0
        self._header: PartHeader | None = None
        self._break = b""
        """The line end at the end of the region so far. It belongs to the boundary if one follows."""
        self._top = read_entity(fields)
        self._encoding: str | None = None
        self._has_utf8_header = False
        self._region = Region(self._top, 0)
        self._begin_body(self._top, 0)

    def read(self, block: bytes, *, begins_line: bool) -> None:
        """Read the next block."""
        at = 0
        while at < len(block):
            if begins_line and (found := self._boundary_at(block, at)):
                at = self._read_boundary(at, *found)
            elif self._header is not None:
                at = self._read_header_line(self._header, block, at, begins_line=begins_line)
            else:
                end = self._find_boundary(block, at)
                self._extend(block[at:end])
                at = end
            begins_line = True
        self._offset += len(block)

    def structure(self) -> Structure:
        """Return what was found, after the last block."""
        if self._header is not None:
            self._end_header(self._header, self._offset)
        self._region.add(self._break)
        self._end_region(is_gap=self._region.is_epilogue)
        fields = self._top.fields if self._encoding is None else with_encoding(self._top.fields, self._encoding)
        edits = sorted([*self._edits, *self._new_headers.values()], key=lambda edit: (edit.start, edit.end))
        is_encoded = any(edit.how != "bytes" for edit in edits)
        return Structure(edits, fields, is_encoded, self._top.is_signed, self._has_utf8_header)

    # --- boundaries ----------------------------------------------------------------------------------------------

    def _find_boundary(self, block: bytes, at: int) -> int:
        """Return where the next line begins that is a boundary; the end of the block if there is none."""
        if self._multiparts:
            dashes = _DASHES_AFTER_CR if b"\r--" in block else _DASHES
            for found in dashes.finditer(block, at):
                if self._boundary_at(block, found.start() + 1):
                    return found.start() + 1
        return len(block)

    def _boundary_at(self, block: bytes, at: int) -> tuple[int, bool, int] | None:
        """Return whose boundary the line at ``at`` is, whether it is the last one, and where the line ends."""
        if not (self._multiparts and block.startswith(b"--", at) and (found := _LINE.match(block, at))):
            return None
        name = found[0][2:].rstrip(b" \t\r\n")
        if (depth := self._boundaries.get(name)) is not None:
            return depth, False, found.end()
        if name.endswith(b"--") and (depth := self._boundaries.get(name[:-2])) is not None:
            return depth, True, found.end()
        return None

    def _read_boundary(self, at: int, depth: int, is_last: bool, end: int) -> int:  # noqa: FBT001 - as it was found
        """End what is read, because the line at ``at`` is a boundary; return where the line ends."""
        if self._header is not None:
            self._end_header(self._header, self._offset + at)
        # Before the end of a multipart that had no part stands all of its text: programs show that.
        is_before_parts = self._region.is_preamble and depth == len(self._multiparts) - 1 and not is_last
        self._end_region(is_gap=self._region.is_epilogue or is_before_parts)
        multipart = self._multiparts[depth]
        self._keep_multiparts(depth if is_last else depth + 1)
        if is_last:
            self._region = Region(multipart.entity, self._offset + end, is_epilogue=True)
        else:
            multipart.parts += 1
            self._begin_header(self._offset + end, multipart.entity, multipart.parts)
        return end

    def _keep_multiparts(self, depth: int) -> None:
        del self._multiparts[depth:]
        self._boundaries = {}
        for n, one in enumerate(self._multiparts):
            # If two have the same boundary, the outer one counts.
            self._boundaries.setdefault(one.entity.boundary or b"", n)

    # --- headers -------------------------------------------------------------------------------------------------

    def _begin_header(self, start: int, parent: Entity, part: int | None = None) -> None:
        """Begin to read the header of a part of ``parent``, or of the message in it."""
        self._parts += 1
        if self._parts > MOST_PARTS:
            raise ValueError(f"it has more than {MOST_PARTS} parts")
        if parent.depth >= DEEPEST:
            raise ValueError(f"its parts are inside each other more than {DEEPEST} times")
        number = parent.number if part is None else f"{parent.number}.{part}".removeprefix(".")
        self._header = PartHeader(start, parent, number, is_message=part is None)

    def _read_header_line(self, header: PartHeader, block: bytes, at: int, *, begins_line: bool) -> int:
        """Read a line of a header; return where the next one begins."""
        found = _LINE.match(block, at)
        line = found[0] if found else b""
        end = at + len(line)
        if not begins_line and header.lines:
            header.lines[-1] += line
        elif line in {b"\r\n", b"\n", b"\r"}:
            self._end_header(header, self._offset + at, self._offset + end)
            return end
        elif not HEADER_LINE.match(line):
            self._end_header(header, self._offset + at)
            return at
        else:
            header.lines.append(line)
        header.size += len(line)
        if header.size > LONGEST_HEADER:
            raise ValueError(f"the header of part {header.number} has more than {LONGEST_HEADER} bytes")
        return end

    def _end_header(self, header: PartHeader, end: int, body: int | None = None) -> None:
        """Take in a header, which ends at ``end``; the body behind it begins at ``body``."""
        entity = read_entity(
            list(header.fields()),
            header.number,
            header.parent.default_type if not header.is_message else "text/plain",
            is_message=header.is_message,
            is_signed=header.parent.signs_below,
            depth=header.parent.depth + 1,
            header=(header.start, end),
            has_separator=body is not None,
        )
        self._header = None
        self._check_header(entity, b"".join(header.lines))
        self._begin_body(entity, end if body is None else body)

    def _check_header(self, entity: Entity, data: bytes) -> None:
        if b"\x00" in data:
            raise ValueError(f"the header of {entity} has a NUL byte")
        if not data.isascii():
            self._has_utf8_header = True
            if not _is_utf8(data):
                raise ValueError(f"the header of {entity} is not UTF-8; write it in ASCII (RFC 2047, RFC 2231)")
        if not has_long_line(data):
            return
        if entity.is_signed:
            raise ValueError(f"the header of {entity} has a line of more than 998 bytes, and a signature covers it")
        self._rewrite_header(entity)

    def _rewrite_header(self, entity: Entity, encoding: str | None = None) -> None:
        fields = entity.fields if encoding is None else with_encoding(entity.fields, encoding)
        try:
            new = written(fields)
        except ValueError as error:
            raise ValueError(f"the header of {entity}: {error}") from None
        start, end = entity.header
        self._new_headers[start] = Edit(start, end, new=new if entity.has_separator else new + b"\r\n")

    # --- regions -------------------------------------------------------------------------------------------------

    def _begin_body(self, entity: Entity, start: int) -> None:
        self._region = Region(entity, start)
        self._break = b""
        if entity.is_message:
            self._begin_header(start, entity)
        elif entity.boundary is not None:
            self._region.is_preamble = True
            self._multiparts.append(_Multipart(entity))
            self._boundaries.setdefault(entity.boundary, len(self._multiparts) - 1)

    def _extend(self, data: bytes) -> None:
        data = self._break + data
        found = _BREAK_AT_END.search(data, max(len(data) - 2, 0))
        self._break = found[0] if found else b""
        self._region.add(data.removesuffix(self._break))

    def _end_region(self, *, is_gap: bool) -> None:
        """Decide what must change in the region. ``is_gap``: no program shows it, so it can be left out."""
        region, self._break = self._region, b""
        edit = region.edit_of_gap() if is_gap else region.edit()
        if edit is None:
            return
        self._edits.append(edit)
        if edit.how in {"bytes", edit.decode}:
            return
        if region.entity is self._top:
            self._encoding = edit.how
        else:
            self._rewrite_header(region.entity, edit.how)


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True
