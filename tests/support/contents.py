"""Contents of messages, in the pieces that a test wants."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from mailbatch.domain.content import Lines, lines_of

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True)
class Cut:
    """A content that comes in ``parts``."""

    parts: tuple[bytes, ...]

    @property
    def size(self) -> int:
        """How many bytes it has."""
        return sum(map(len, self.parts))

    @property
    def lines(self) -> Lines:
        """What its lines are like."""
        return lines_of(b"".join(self.parts))

    def pieces(self) -> Iterator[bytes]:
        """Yield the parts."""
        yield from self.parts


@dataclass(frozen=True)
class Breaking:
    """A content of ``size`` bytes in lines, of which ``readable`` can be read: then reading raises ``OSError``."""

    size: int = 400_000
    readable: int = 200_000
    lines: ClassVar[Lines] = Lines()

    def pieces(self) -> Iterator[bytes]:
        """Yield the bytes that can be read, then raise."""
        line = b"x" * 98 + b"\r\n"
        for start in range(0, self.readable, 10_000):
            yield line * (min(10_000, self.readable - start) // 100)
        raise OSError(5, "Input/output error")
