"""The migrations: up, down and up again, and they say the same as the tables."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import uuid4

import pytest
import sqlalchemy as sa

from mailbatch.domain.errors import NotMigrated
from mailbatch.infrastructure.db.engine import connect
from mailbatch.infrastructure.db.migrate import current, downgrade, ensure_migrated, head, upgrade
from mailbatch.infrastructure.db.tables import metadata

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from sqlalchemy.engine import Engine

_SQLITE = "SELECT type, name, tbl_name, sql FROM sqlite_master WHERE tbl_name NOT LIKE '%alembic%' ORDER BY 1, 2"
_POSTGRESQL = {
    "columns": """
        SELECT c.relname, a.attname, a.attnum, format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attgenerated,
               pg_get_expr(d.adbin, d.adrelid)
        FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
        LEFT JOIN pg_attrdef d ON (d.adrelid, d.adnum) = (a.attrelid, a.attnum)
        WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'r' AND a.attnum > 0 ORDER BY 1, 3""",
    "constraints": """
        SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint
        WHERE connamespace = 'public'::regnamespace ORDER BY 1, 2""",
    "indexes": "SELECT tablename, indexname, indexdef FROM pg_indexes WHERE schemaname = 'public' ORDER BY 1, 2",
    "tables": """
        SELECT relname, relkind, reloptions FROM pg_class
        WHERE relnamespace = 'public'::regnamespace AND relkind NOT IN ('i') ORDER BY 1""",
}


def ddl(engine: Engine) -> dict[str, list[tuple[object, ...]]]:
    """All that the database itself says of its schema."""
    statements = {"all": _SQLITE} if engine.dialect.name == "sqlite" else _POSTGRESQL
    with engine.connect() as connection:
        found = {name: [tuple(row) for row in connection.exec_driver_sql(sql)] for name, sql in statements.items()}
    return {name: [row for row in rows if "alembic" not in str(row[0])] for name, rows in found.items()}


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], str]:
    """Makes the URL of a database without tables."""

    def make() -> str:
        if request.param == "sqlite":
            return f"sqlite:///{tmp_path / uuid4().hex}.db"
        server = request.getfixturevalue("postgres_server")
        name = server.create_database()
        request.addfinalizer(lambda: server.drop_database(name))
        return server.url(name)

    return make


def test_migrations_make_what_the_tables_say(empty_url):
    by_migration, by_tables = empty_url(), empty_url()
    upgrade(by_migration)
    one, other = connect(by_migration), connect(by_tables)
    with other.begin() as connection:
        metadata.create_all(connection)
    assert ddl(one) == ddl(other)
    assert any("ck_mail_reservations_lease" in str(rows) for rows in ddl(one).values())
    one.dispose()
    other.dispose()


def test_the_way_up_down_and_up_again_leads_to_the_same_place(empty_url):
    url = empty_url()
    engine = connect(url)
    upgrade(url)
    first = ddl(engine)
    with engine.begin() as connection:
        connection.execute(
            sa.insert(metadata.tables["mail_reservations"]).values(recipients="a@x.org", subject="s", body_text="t")
        )
    downgrade(url)
    assert not any(rows for rows in ddl(engine).values())
    with pytest.raises(NotMigrated, match="run `mailbatch migrate`"):
        ensure_migrated(engine)
    upgrade(url)
    assert ddl(engine) == first
    assert current(engine) == head()
    upgrade(url)
    ensure_migrated(engine)
    engine.dispose()
