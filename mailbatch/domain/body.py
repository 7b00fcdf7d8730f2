"""The bytes of a message that are not all in memory: bytes and contents in a row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mailbatch.domain.content import Lines, lines_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mailbatch.domain.content import LineContent


@dataclass(frozen=True, slots=True, repr=False)
class Body:
    """A message in parts: header, boundaries and small parts as bytes, what is large as content.

    Each part is whole lines: it begins at the beginning of a line, and ends with CRLF. So each content is looked
    through once, whichever parts stand before it. ``len`` is the number of bytes, ``held`` how many of them are in
    memory.
    """

    parts: tuple[bytes | LineContent, ...]
    size: int
    held: int
    lines: Lines

    @classmethod
    def of(cls, *parts: bytes | LineContent) -> Body:
        """Return ``parts`` in a row. The first one begins with the header."""
        held = sum(len(part) for part in parts if isinstance(part, bytes))
        kept = sum(part.size for part in parts if not isinstance(part, bytes))
        lines = sum((lines_of(part) if isinstance(part, bytes) else part.lines for part in parts), Lines())
        return cls(parts, held + kept, held, lines)

    def __len__(self) -> int:
        return self.size

    def isascii(self) -> bool:
        """Return whether no byte is above 127."""
        return self.lines.are_ascii

    def pieces(self) -> Iterator[bytes]:
        """Yield the bytes in order. Raises what reading the contents raises."""
        for part in self.parts:
            if isinstance(part, bytes):
                yield part
            else:
                yield from part.pieces()


def bytes_held(data: bytes | Body) -> int:
    """Return how many bytes of a message's data are in memory."""
    return len(data) if isinstance(data, bytes) else data.held
