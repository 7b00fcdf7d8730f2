"""The header of a part of a finished message, or of a message inside it, while its lines are read.

Unlike the header of the whole message, it is read as the standard library reads it: no line is refused.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mailbatch.infrastructure.mime.message_header import Field

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mailbatch.infrastructure.mime.entity import Entity

# The standard library's idea of a line that belongs to a header.
HEADER_LINE = re.compile(rb"([!-9;-~]*):|[ \t]")


@dataclass(slots=True)
class PartHeader:
    """The header of a part, or of a message inside, that is being read from ``start`` on."""

    start: int
    parent: Entity
    number: str
    is_message: bool
    lines: list[bytes] = field(default_factory=list)
    size: int = 0

    def fields(self) -> Iterator[Field]:
        """Yield the fields of the lines so far."""
        raw: list[bytes] = []
        for line in self.lines:
            if raw and line[:1] not in {b" ", b"\t"}:
                yield _field(raw)
                raw = []
            raw.append(line)
        if raw:
            yield _field(raw)


def _field(raw: Sequence[bytes]) -> Field:
    found = HEADER_LINE.match(raw[0])
    return Field((found[1] or b"").decode() if found else "", b"".join(raw))
