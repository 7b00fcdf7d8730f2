"""Files that mails share, each stored once: the adapter of the port ``Files``, and what an ``Intake`` does with them.

A file must not be purged while a reservation that names it is not yet committed. So a transaction that names a file
locks the file's row, in a mode that conflicts only with a deletion (``unneeded_files``).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING

import sqlalchemy as sa

from mailbatch.domain.errors import StoreError
from mailbatch.domain.rows import StoredFile
from mailbatch.infrastructure.db import unneeded_files
from mailbatch.infrastructure.db.contents import StoredContent
from mailbatch.infrastructure.db.engine import reading
from mailbatch.infrastructure.db.portions import Portions
from mailbatch.infrastructure.db.rows import all_of, columns_of, first_of
from mailbatch.infrastructure.db.tables import mail_files
from mailbatch.infrastructure.db.types import now, upsert
from mailbatch.infrastructure.db.unneeded_files import FRESH

if TYPE_CHECKING:
    from collections.abc import Collection

    from sqlalchemy.engine import Connection, Engine

    from mailbatch.domain.content import Content

_f = mail_files.c
_TRIES = 10
"""How often to try again if the row with the same content vanishes before it can be locked."""


@dataclass(frozen=True, slots=True)
class SqlFiles:
    """The port ``Files`` on PostgreSQL and SQLite."""

    engine: Engine
    portions: Portions = field(default_factory=Portions)

    def find(self, file_id: str) -> StoredFile | None:
        """Read what is known of a file; see the port."""
        statement = sa.select(*columns_of(StoredFile, mail_files)).where(_f.id == file_id)
        with reading(self.engine) as connection:
            return first_of(StoredFile, connection, statement)

    def some(self, ids: Collection[str]) -> dict[str, StoredFile]:
        """Read what is known of some files; see the port."""
        if not ids:
            return {}
        statement = sa.select(*columns_of(StoredFile, mail_files)).where(_f.id.in_(ids))
        with reading(self.engine) as connection:
            return {file.id: file for file in all_of(StoredFile, connection, statement)}

    def content(self, file: StoredFile) -> Content:
        """Return the content of a file, which is read in pieces; see the port."""
        return StoredContent(self.engine, _f.content, _f.id == file.id, file.size, f"attachments: file {file.id}")

    def purge(self) -> int:
        """Delete what nobody needs; see the port."""
        return unneeded_files.purge(self.engine, self.portions)


def store(connection: Connection, content: bytes, filename: str | None, content_type: str | None) -> str:
    """Store a file, or touch the one with the same content, in the transaction of ``connection``; return its id."""
    own = sha256(content).hexdigest()
    values = {"id": own, "content": content, "filename": filename, "content_type": content_type}
    # The row that prevented the INSERT may be purged or rolled back before it is locked. Then this row can be inserted.
    for _ in range(_TRIES):
        if touch(connection, [own]):
            return own
        insert = upsert(connection, mail_files).values(values).on_conflict_do_nothing().returning(_f.id)
        if connection.execute(insert).first() is not None:
            return own
    raise StoreError(f"file {own} can neither be stored nor locked: it is stored and deleted again", transient=True)


def touch(connection: Connection, ids: Collection[str]) -> dict[str, int]:
    """Keep files from being purged until the transaction of ``connection`` ends, and for a day after that.

    Return the sizes in bytes of those that exist, by their ids.
    """
    stale = sa.select(_f.id).where(_f.id.in_(ids), _f.touched_at < now(-FRESH))
    # SKIP LOCKED: a row that another transaction touches now is left to it, so that two never wait for each other.
    stale = stale.with_for_update(key_share=True, skip_locked=True)
    # This UPDATE comes first: on SQLite it starts the write transaction of an application that has only read so far.
    connection.execute(sa.update(mail_files).where(_f.id.in_(stale)).values(touched_at=now()))
    held = sa.select(_f.id, _f.size).where(_f.id.in_(ids)).with_for_update(read=True, key_share=True)
    return {row.id: row.size for row in connection.execute(held)}
