"""The ports to the machine in memory: the watchdog, and a folder of files."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from mailbatch.domain.content import PIECE
from mailbatch.domain.errors import CannotCompose, ResourceAway
from mailbatch.domain.file_rules import NO_FOLDER, path_parts, path_problem

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator

    from mailbatch.domain.message import Claim


@dataclass
class FakeWatchdog:
    """The port ``Watchdog``. ``ended``: on this host, the mails whose composing ended a process, with their claims."""

    ended: set[Claim] = field(default_factory=set)
    now_composing: Claim | None = None
    renew_every: float = 1.0
    _known: set[Claim] = field(default_factory=set)

    def begin(self) -> None:
        self._known = set(self.ended)

    def renew(self) -> None:
        self._known = set(self.ended)

    def end(self) -> None:
        self._known = set()

    def composing(self, claim: Claim) -> None:
        self.now_composing = claim

    def composed(self) -> None:
        self.now_composing = None

    def condemned(self, claim: Claim) -> str | None:
        last = replace(claim, claim_no=claim.claim_no - 1)
        if last not in self._known:
            return None
        self._known.discard(last)
        self.ended.discard(last)
        return "composing it ended its process"


@dataclass
class FakeFolder:
    """The port ``Folder``. ``files``: contents by path; none: it may not be mounted. None: there is no such folder."""

    files: dict[str, bytes] | None = field(default_factory=dict)
    label: str = "attachments"

    @contextmanager
    def open(self, path: str) -> Iterator[FakeOpenFile]:
        if self.files is None:
            raise CannotCompose([f"{self.label}: {path}: {NO_FOLDER}"])
        if wrong := path_problem(path):
            raise CannotCompose([f"{self.label}: {path}: {wrong}"])
        if not self.files:
            raise ResourceAway([f"{self.label}: the folder is empty; is its file system mounted?"])
        found = "/".join(path_parts(path))
        if found not in self.files:
            raise CannotCompose([f"{self.label}: {path}: is not there"])
        yield FakeOpenFile(self.files, found, f"{self.label}: {path}")


class FakeOpenFile:
    """The port ``OpenFile``."""

    def __init__(self, files: dict[str, bytes], path: str, shown: str) -> None:
        self._files, self._path, self._shown = files, path, shown
        self._content = files[path]

    @property
    def size(self) -> int:
        return len(self._content)

    @property
    def version(self) -> Hashable:
        return self._path, self._content

    def pieces(self) -> Iterator[bytes]:
        for start in range(0, len(self._content), PIECE):
            yield self._content[start : start + PIECE]
        if self._files.get(self._path) != self._content:
            raise CannotCompose([f"{self._shown}: was changed while it was read"])
