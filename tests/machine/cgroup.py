"""A memory cgroup: what runs in it gets so much memory, and the kernel kills what asks for more."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Self
from uuid import uuid4

from support.waiting import wait_until

if TYPE_CHECKING:
    from types import TracebackType

V1, V2 = Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup")


class MemoryGroup:
    """A group of ``size`` bytes. Raises ``OSError`` where none can be made."""

    def __init__(self, size: int) -> None:
        old = (V1 / "cgroup.procs").exists()
        self._folder = (V1 if old else V2) / f"mailbatch-{uuid4().hex[:8]}"
        self._limit = self._folder / ("memory.limit_in_bytes" if old else "memory.max")
        self._events = self._folder / ("memory.oom_control" if old else "memory.events")
        self._size = size
        if not old:
            (V2 / "cgroup.subtree_control").write_text("+memory")

    def __enter__(self) -> Self:
        self._folder.mkdir()
        try:
            self._limit.write_text(str(self._size))
        except OSError:
            self._folder.rmdir()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        wait_until(self._removed, 10, "the cgroup is empty")

    @property
    def under(self) -> tuple[str, ...]:
        """The words that start a command inside of it."""
        return ("sh", "-c", f'echo $$ >{self._folder}/cgroup.procs && exec "$@"', "sh")

    def kills(self) -> int:
        """How many processes the kernel has killed in it for want of memory."""
        found = re.search(r"^oom_kill (\d+)", self._events.read_text(), re.MULTILINE)
        assert found, f"{self._events} does not count them"
        return int(found[1])

    def _removed(self) -> bool:
        try:
            self._folder.rmdir()
        except OSError:
            return False
        return True
