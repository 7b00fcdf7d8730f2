"""Delete the files that no reservation names any more.

To find them all reservations are read, without a lock. Before a file is deleted its row is locked, and reservations are
read once more, because one may have been added that names it. On PostgreSQL a page of files is locked and all
reservations are read: no run and no reservation waits for these locks, unless it names one of these files. On SQLite
nobody can write meanwhile. So files are deleted in portions, and only the reservations are read that were added since.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB

from mailbatch.infrastructure.db.engine import reading, writing
from mailbatch.infrastructure.db.tables import mail_files, mail_reservations
from mailbatch.infrastructure.db.types import now

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.engine import Connection, Engine

    from mailbatch.infrastructure.db.portions import Portions

_f, _r = mail_files.c, mail_reservations.c
FRESH = 3600.0
"""Seconds for which a touched file is not touched again. Otherwise each of many mails would write the file's row."""
KEPT = 86_400.0 + FRESH
"""Seconds for which a file that nobody names is kept after it was touched."""
PAGE = 5_000
"""Files that are looked for at once."""
MOST_BYTES = 4 * 1024 * 1024
"""Bytes of the files of a portion on SQLite, which reads them to delete them: 19 MB take 50 ms."""
_ROWID = sa.literal_column("mail_reservations.rowid", sa.Integer)


@dataclass(frozen=True, slots=True)
class _Page:
    """Files that nobody needs, in the order of their ids. ``last``: row and id of the last reservation (SQLite)."""

    files: Sequence[Any]
    last: Any = None


def purge(engine: Engine, portions: Portions) -> int:
    """Delete the files that no reservation names, and that were not touched for ``KEPT``; return how many.

    Raises ``StoreError``.
    """
    deleted, behind = 0, ""
    while True:
        page = _find(engine, behind)
        if page.files:
            deleted += _delete(engine, portions, page)
        if len(page.files) < PAGE:
            return deleted
        behind = page.files[-1].id


def _find(engine: Engine, behind: str) -> _Page:
    untouched = [_f.id > behind, _untouched()]
    with reading(engine) as connection:
        if not connection.scalar(sa.select(sa.exists().where(*untouched))):
            return _Page([])  # the reservations are read only if there is a file that may go
        unneeded = sa.select(_f.id, _f.size).where(*untouched, _unnamed(connection)).order_by(_f.id).limit(PAGE)
        files = connection.execute(unneeded).all()
        if connection.dialect.name != "sqlite":
            return _Page(files)
        last = sa.select(_ROWID.label("row"), _r.id).select_from(mail_reservations).order_by(_ROWID.desc()).limit(1)
        return _Page(files, connection.execute(last).one_or_none())


def _added_since(connection: Connection, last: Any) -> list[sa.ColumnElement[bool]]:
    """Return the condition that a reservation was added behind ``last``; no condition if that is not known.

    SQLite gives the row number of the last reservation again if that one was deleted.
    """
    if last is None:
        return []
    is_there = sa.exists().where(last.row == _ROWID, _r.id == last.id)
    return [last.row < _ROWID] if connection.scalar(sa.select(is_there)) else []


def _delete(engine: Engine, portions: Portions, page: _Page) -> int:
    if engine.dialect.name == "sqlite":
        return _delete_in_portions(engine, portions, page)
    return _delete_at_once(engine, page)


def _delete_at_once(engine: Engine, page: _Page) -> int:
    with writing(engine) as connection:
        locked = sa.select(_f.id).where(_f.id.in_([file.id for file in page.files]), _untouched()).order_by(_f.id)
        held = connection.scalars(locked.with_for_update(skip_locked=True)).all()
        # A statement of its own, so that it sees what was committed before the locks were taken.
        deletion = sa.delete(mail_files).where(_f.id.in_(held), _unnamed(connection)).returning(_f.id)
        return len(connection.execute(deletion).all()) if held else 0


def _delete_in_portions(engine: Engine, portions: Portions, page: _Page) -> int:
    deleted, rest = 0, page.files
    while rest:
        count = _fitting(rest, portions.size)
        ids, rest = [file.id for file in rest[:count]], rest[count:]
        with portions.open(engine, count) as connection:
            unnamed = _unnamed(connection, *_added_since(connection, page.last))
            deletion = sa.delete(mail_files).where(_f.id.in_(ids), _untouched(), unnamed).returning(_f.id)
            deleted += len(connection.execute(deletion).all())
    return deleted


def _fitting(files: Sequence[Any], most: int) -> int:
    """Return how many of ``files`` the next portion has: one at least."""
    totals = accumulate(file.size for file in files[:most])
    return max(1, sum(1 for total in totals if total <= MOST_BYTES))


def _untouched() -> sa.ColumnElement[bool]:
    return _f.touched_at < now(-KEPT)


def _unnamed(connection: Connection, *which: sa.ColumnElement[bool]) -> sa.ColumnElement[bool]:
    """Return the condition that no reservation names the file, of those ``which`` are meant."""
    if connection.dialect.name == "postgresql":
        named = _named_on_postgresql().where(*which).subquery()
        return sa.not_(sa.exists().where(named.c.id == _f.id))
    # SQLite would read the reservations for each file, if it was a condition on the file.
    named = _named_on_sqlite().where(*which).subquery()
    return _f.id.not_in(sa.select(named.c.id).where(named.c.id.is_not(None)))


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
