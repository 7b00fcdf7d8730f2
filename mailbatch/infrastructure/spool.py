"""Keeps contents in one temporary file that has no name, so that they cost no memory and a kill leaves nothing."""

from __future__ import annotations

import os
import tempfile
import threading
import weakref
from collections import deque
from contextlib import contextmanager
from dataclasses import dataclass, field
from heapq import heappop, heappush
from typing import TYPE_CHECKING

from mailbatch.domain.content import PIECE, Lines, LineScan
from mailbatch.domain.errors import ResourceAway

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path


class Spool:
    """One file. It is opened for the first content, and closed when nobody holds the spool or its contents.

    The file is a row of blocks of ``PIECE`` bytes. A content has some of them. They are used again when nobody holds
    the content any more, so the file is never larger than what was in use at once. Several threads may use a spool.
    ``folder``: where the file is; None: where Python keeps temporary files (``TMPDIR``).
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._fd = -1
        self.blocks = 0
        """How many blocks the file has."""
        self._free: list[int] = []
        """Blocks that no content has; a heap, so that the first ones are used first."""
        self._returned: deque[list[int]] = deque()
        """Blocks of contents that ended. The garbage collector calls ``append``, at any time and in any thread."""
        self._lock = threading.Lock()

    def put(self, pieces: Iterable[bytes]) -> Spooled:
        """Store ``pieces``, of any size, as one content.

        Raises:
            ResourceAway: they cannot be stored. What ``pieces`` raises is raised too. Nothing is kept then.
        """
        scan, size, blocks = LineScan(), 0, list[int]()
        self._open()
        try:
            for block in _blocks_of(pieces):
                blocks.append(self._take())
                self._write(block, blocks[-1])
                scan.add(block)
                size += len(block)
        except BaseException:
            self._returned.append(blocks)
            raise
        spooled = Spooled(size, scan.lines(), tuple(blocks), self)
        weakref.finalize(spooled, self._returned.append, blocks).atexit = False
        return spooled

    def _take(self) -> int:
        """Return a block that no content has."""
        with self._lock:
            while self._returned:
                for block in self._returned.popleft():
                    heappush(self._free, block)
            if self._free and len(self._free) == self.blocks:
                self._free.clear()
                self.blocks = 0
                os.ftruncate(self._fd, 0)
            if self._free:
                return heappop(self._free)
            self.blocks += 1
            return self.blocks - 1

    def _write(self, data: bytes, block: int) -> None:
        offset = block * PIECE
        with self._failing():
            while data:
                written = os.pwrite(self._fd, data, offset)
                data, offset = data[written:], offset + written

    def _open(self) -> None:
        with self._lock, self._failing():
            if self._fd < 0:
                with tempfile.TemporaryFile(prefix="mailbatch-", dir=self._folder) as file:
                    self._fd = os.dup(file.fileno())
                weakref.finalize(self, os.close, self._fd)

    def read(self, block: int, size: int) -> bytes:
        """Return the first ``size`` bytes of ``block``. Raises ``ResourceAway``."""
        with self._failing():
            data = os.pread(self._fd, size, block * PIECE)
        if len(data) < size:
            raise ResourceAway([f"the temporary file in {self._where()} has lost a part of its bytes"])
        return data

    @contextmanager
    def _failing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            what = f"a temporary file in {self._where()} cannot be used: {error.strerror or error}"
            raise ResourceAway([f"{what}; make room there, or set MAILBATCH_SPOOL_DIR"]) from error

    def _where(self) -> str:
        return str(self._folder or tempfile.tempdir or "the temporary folder")


@dataclass(frozen=True, slots=True, weakref_slot=True, eq=False)
class Spooled:
    """A content in the spool: the port ``LineContent``."""

    size: int
    lines: Lines
    _blocks: tuple[int, ...] = field(repr=False)
    _spool: Spool = field(repr=False)

    def pieces(self) -> Iterator[bytes]:
        """Yield the bytes in order. Raises ``ResourceAway``."""
        left = self.size
        for block in self._blocks:
            yield self._spool.read(block, min(left, PIECE))
            left -= PIECE


def _blocks_of(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Cut ``pieces`` anew: each block has ``PIECE`` bytes, the last one perhaps fewer."""
    begun = bytearray()
    for piece in pieces:
        for start in range(0, len(piece), PIECE):
            begun += piece[start : start + PIECE]
            if len(begun) >= PIECE:
                yield bytes(begun[:PIECE])
                del begun[:PIECE]
    if begun:
        yield bytes(begun)
