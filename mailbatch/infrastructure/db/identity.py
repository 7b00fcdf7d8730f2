"""Identifies a database, so that two processes can find out whether they use the same one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy as sa

from mailbatch.domain.database import DatabaseIdentity
from mailbatch.domain.errors import StoreError
from mailbatch.infrastructure.db.engine import reading
from mailbatch.infrastructure.db.location import place, qualified
from mailbatch.infrastructure.db.tables import mail_reservations

if TYPE_CHECKING:
    from sqlalchemy.engine import Engine

# Every role may read these. The schema is that of our tables, wherever in its search_path this role finds them.
_WHO = sa.text("""
SELECT d.datname, d.oid,
  (SELECT n.nspname FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
   WHERE c.oid = to_regclass(:table)),
  has_function_privilege(to_regprocedure('pg_catalog.pg_control_system()'), 'EXECUTE')
FROM pg_catalog.pg_database d WHERE d.datname = current_database()
""")
# Every role may execute this function unless that was revoked. If it was, any statement that names the function fails,
# even if the call stands in a branch of a CASE that is not taken. So the call has a statement of its own.
_SYSTEM = sa.text("SELECT system_identifier FROM pg_catalog.pg_control_system()")


def identify(engine: Engine) -> DatabaseIdentity:
    """Return the identity of the database of ``engine``. Ask each time: its URL may lead to another database later.

    Raises ``StoreError`` if the database or its file cannot be read.
    """
    return _of_file(engine) if engine.dialect.name == "sqlite" else _of_server(engine)


def _of_file(engine: Engine) -> DatabaseIdentity:
    path = place(engine)
    try:
        found = Path(path).stat()
    except OSError as error:
        raise StoreError(f"database {path}: {error.strerror}", transient=False) from error
    return DatabaseIdentity(kind="sqlite", system=found.st_dev, number=found.st_ino, name=path)


def _of_server(engine: Engine) -> DatabaseIdentity:
    with reading(engine) as connection:
        name, number, schema, may_ask = connection.execute(
            _WHO, {"table": qualified(connection, mail_reservations)}
        ).one()
        system = connection.execute(_SYSTEM).scalar_one() if may_ask else None
    return DatabaseIdentity(kind="postgresql", system=system, number=number, name=name, schema=schema)
