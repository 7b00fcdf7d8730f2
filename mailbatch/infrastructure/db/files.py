"""Files that mails share, each stored once: the adapter of the port ``Files``, and what an ``Intake`` does with them.

A file must not be purged while a reservation that names it is not yet committed. So a transaction that names a file
locks the file's row, in a mode that conflicts only with a deletion. ``purge`` locks the rows that it will delete, and
then checks once more that no reservation names them.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB

from mailbatch.domain.errors import StoreError
from mailbatch.domain.rows import StoredFile
from mailbatch.infrastructure.db.contents import StoredContent
from mailbatch.infrastructure.db.engine import reading, writing
from mailbatch.infrastructure.db.rows import all_of, columns_of, first_of
from mailbatch.infrastructure.db.tables import mail_files, mail_reservations
from mailbatch.infrastructure.db.types import now, upsert

if TYPE_CHECKING:
    from collections.abc import Collection

    from sqlalchemy.engine import Connection, Engine

    from mailbatch.domain.content import Content

_f, _r = mail_files.c, mail_reservations.c
FRESH = 3600.0
"""Seconds for which a touched file is not touched again. Otherwise each of many mails would write the file's row."""
KEPT = 86_400.0 + FRESH
"""Seconds for which a file that nobody names is kept after it was touched."""
_PAGE = 5_000
_TRIES = 10
"""How often to try again if the row with the same content vanishes before it can be locked."""


@dataclass(frozen=True, slots=True)
class SqlFiles:
    """The port ``Files`` on PostgreSQL and SQLite."""

    engine: Engine

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
        deleted = 0
        while (page := self._purge_page()) == _PAGE:
            deleted += page
        return deleted + page

    def _purge_page(self) -> int:
        with reading(self.engine) as connection:
            if not connection.scalar(sa.select(sa.exists().where(_untouched()))):
                return 0  # the reservations are read only if there is a file that may go
            ids = connection.scalars(sa.select(_f.id).where(_untouched(), _unnamed(connection)).limit(_PAGE)).all()
        with writing(self.engine) as connection:
            locked = sa.select(_f.id).where(_f.id.in_(ids), _untouched()).order_by(_f.id)
            held = connection.scalars(locked.with_for_update(skip_locked=True)).all()
            # A statement of its own, so that it sees what was committed before the locks were taken.
            gone = sa.delete(mail_files).where(_f.id.in_(held), _unnamed(connection)).returning(_f.id)
            return len(connection.execute(gone).all()) if held else 0


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


def _untouched() -> sa.ColumnElement[bool]:
    return _f.touched_at < now(-KEPT)


def _unnamed(connection: Connection) -> sa.ColumnElement[bool]:
    """Return the condition that no reservation names the file."""
    named = (_named_on_postgresql if connection.dialect.name == "postgresql" else _named_on_sqlite)().subquery()
    return sa.not_(sa.exists().where(named.c.id == _f.id))


def _named_on_postgresql() -> sa.Select[Any]:
    nothing = sa.cast(sa.literal("[]", sa.Text), JSONB)
    entries = sa.case((sa.func.jsonb_typeof(_r.attachments) == "array", _r.attachments), else_=nothing)
    each = sa.func.jsonb_array_elements(entries).table_valued(sa.column("value", JSONB), name="each")
    named = sa.select(each.c.value.op("->>")("file").label("id"))
    return named.select_from(mail_reservations.join(each, sa.true())).where(_r.attachments.is_not(None))


def _named_on_sqlite() -> sa.Select[Any]:
    stored = sa.type_coerce(_r.attachments, sa.Text)
    is_array = sa.and_(sa.func.json_valid(stored), sa.func.json_type(stored) == "array")
    each = sa.func.json_each(sa.case((is_array, stored), else_="[]")).table_valued("value", "type", name="each")
    entry = sa.case((each.c.type == "object", each.c.value))
    named = sa.select(sa.func.json_extract(entry, "$.file").label("id"))
    return named.select_from(mail_reservations.join(each, sa.true())).where(_r.attachments.is_not(None))
