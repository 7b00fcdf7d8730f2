"""Reads a file whose path the caller gives: a regular file that is not too large. Links are followed."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

LARGEST = 1_000_000_000
"""Bytes of a value at most on SQLite, and about as many on PostgreSQL."""


def read_given(path: Path, most: int = LARGEST) -> bytes:
    """Return the content of the file, ``most`` bytes at most.

    A FIFO would wait for a writer, and a device may have no end.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no regular file, is larger, or changes while it is read.
    """
    _ensure_regular(path.stat())
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        state = os.fstat(descriptor)
        _ensure_regular(state)
        if state.st_size > most:
            raise ValueError(f"has {state.st_size} bytes; at most {most} can be sent")
        content = file.read(state.st_size + 1)
    if len(content) != state.st_size:
        raise ValueError("was changed while it was read")
    return content


def _ensure_regular(state: os.stat_result) -> None:
    if not stat.S_ISREG(state.st_mode):
        raise ValueError("is no regular file")
