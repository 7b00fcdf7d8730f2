"""Files that mails share, in memory."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from hashlib import sha256
from typing import TYPE_CHECKING

from mailbatch.domain.content import PIECE
from mailbatch.domain.errors import CannotCompose
from mailbatch.domain.rows import StoredFile

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from support.fake_tables import FakeTables

DAY = timedelta(days=1)


@dataclass(frozen=True)
class KeptFile:
    """A row of ``mail_files``."""

    row: StoredFile
    content: bytes
    touched_at: datetime


@dataclass
class FakeContent:
    """The port ``Content`` over a file that may go meanwhile."""

    tables: FakeTables
    file: StoredFile

    @property
    def size(self) -> int:
        return self.file.size

    def pieces(self) -> Iterator[bytes]:
        if self.file.id not in self.tables.files:
            raise CannotCompose([f"attachments: file {self.file.id}: was deleted or changed while it was read"])
        whole = self.tables.files[self.file.id].content
        yield from (whole[start : start + PIECE] for start in range(0, len(whole), PIECE))


@dataclass
class FakeFiles:
    """The port ``Files``. ``reads`` counts how often the content of each file was asked for."""

    tables: FakeTables
    reads: dict[str, int] = field(default_factory=dict)

    def find(self, file_id: str) -> StoredFile | None:
        found = self.tables.files.get(file_id)
        return found and found.row

    def some(self, ids: Collection[str]) -> dict[str, StoredFile]:
        return {own: self.tables.files[own].row for own in ids if own in self.tables.files}

    def content(self, file: StoredFile) -> FakeContent:
        self.reads[file.id] = self.reads.get(file.id, 0) + 1
        return FakeContent(self.tables, file)

    def purge(self) -> int:
        lists = [row.attachments or () for row in self.tables.reservations.values()]
        named = {entry.get("file") for entries in lists for entry in entries if isinstance(entry, dict)}
        old = [own for own, kept in self.tables.files.items() if kept.touched_at < self.tables.now - DAY]
        gone = [own for own in old if own not in named]
        for own in gone:
            del self.tables.files[own]
        return len(gone)


def store(tables: FakeTables, content: bytes, filename: str | None, content_type: str | None) -> str:
    """Store a file as an ``Intake`` does."""
    own = sha256(content).hexdigest()
    if not touch(tables, [own]):
        row = StoredFile(id=own, filename=filename, content_type=content_type, size=len(content))
        tables.files[own] = KeptFile(row, content, tables.now)
    return own


def touch(tables: FakeTables, ids: Collection[str]) -> dict[str, int]:
    """Touch files as an ``Intake`` does."""
    found = {own: tables.files[own].row.size for own in ids if own in tables.files}
    tables.files |= {own: replace(tables.files[own], touched_at=tables.now) for own in found}
    return found
