"""The migrations: up, down and up again, and they say the same as the tables."""

from __future__ import annotations

import shutil
import signal
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest
import sqlalchemy as sa
from sqlalchemy import exc
from support.databases import contents, fill, in_common
from support.long import LONG

from mailbatch.domain.errors import NotMigrated, StoreError
from mailbatch.infrastructure.db import migrate, migrating
from mailbatch.infrastructure.db.engine import connect
from mailbatch.infrastructure.db.migrate import current, downgrade, ensure_migrated, upgrade
from mailbatch.infrastructure.db.revision import head
from mailbatch.infrastructure.db.tables import metadata

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from sqlalchemy.engine import Engine
    from support.databases import Contents

_mails = metadata.tables["mail_reservations"]
# SQLite keeps a statement as it was written, and puts a column that is added later into the line before. It quotes the
# name of a table that was made anew.
_SQLITE = """
    SELECT type, name, tbl_name,
           replace(replace(replace(sql, char(10), ''), char(9), ''), 'TABLE "' || name || '"', 'TABLE ' || name)
    FROM sqlite_master WHERE tbl_name NOT LIKE '%alembic%' ORDER BY 1, 2"""
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


# --- each revision: those that are there, and those that will come ---

REVISIONS = [script.revision for script in migrate._scripts().walk_revisions()][::-1]


@dataclass(frozen=True)
class Place:
    """Where a database is, and the schema of our tables in it."""

    url: str
    schema: str | None

    def upgrade(self, revision: str = "head") -> list[str]:
        return upgrade(self.url, revision, schema=self.schema)

    def downgrade(self, revision: str = "base") -> list[str]:
        return downgrade(self.url, revision, schema=self.schema)


# test_schema.py migrates in a schema, too.
@pytest.fixture(params=["sqlite", "postgresql", pytest.param("in a schema", marks=LONG)])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    if request.param == "sqlite":
        return Place(f"sqlite:///{tmp_path}/app.db", None)
    return Place(
        request.getfixturevalue("empty_postgres_url"), "Mail-Batch" if request.param == "in a schema" else None
    )


@pytest.fixture
def engine(place: Place) -> Iterator[Engine]:
    engine = connect(place.url, place.schema)
    yield engine
    engine.dispose()


def ask(engine: Engine, question: str) -> list[tuple[object, ...]]:
    with engine.connect() as connection:
        return sorted(tuple(row) for row in connection.exec_driver_sql(question))


def test_each_revision_keeps_every_row_on_its_way_up_and_down(place, engine):
    states: dict[str, Contents] = {}
    for revision in REVISIONS:
        before = contents(engine)
        place.upgrade(revision)
        kept, found = in_common(before, contents(engine))
        assert found == kept, revision
        fill(engine, without=before.keys())
        states[revision] = contents(engine)
        assert states[revision].keys() >= before.keys()
    assert all(states[REVISIONS[-1]].values())
    for below, revision in reversed(list(pairwise(REVISIONS))):
        place.downgrade(below)
        after = contents(engine)
        kept, found = in_common(states[revision], after)
        assert found == kept, f"{revision} down to {below}"
        assert after.keys() == states[below].keys()
    place.upgrade()
    ensure_migrated(engine)


def test_files_and_finished_messages_come_and_go_with_their_revision(place, engine):
    place.upgrade()
    fill(engine)
    ids = [row["id"] for row in contents(engine)["mail_reservations"] if row["status"] not in {"pending", "sending"}]
    [file] = contents(engine)["mail_files"]
    new = {"attachments": [{"file": file["id"]}], "message": b"Subject: s", "envelope_sender": "<>", "locale": "pt-BR"}
    old = {"subject": None, "body_text": None}
    with engine.begin() as connection:
        connection.execute(sa.update(_mails).where(_mails.c.id.in_(ids)).values(**new, **old))
    before = contents(engine)
    assert (file["size"], len(ids)) == (9, 5)
    place.downgrade("mailbatch_0007")
    down = contents(engine)
    assert "mail_files" not in down
    assert [table for table in down if len(down[table]) != len(before[table])] == []
    cut = {row["template"] for row in down["mail_reservations"] if row["id"] in ids}
    assert cut == {"a finished message, which only later versions can send"}
    place.upgrade()
    with engine.begin() as connection:
        connection.execute(sa.insert(_mails).values(recipients="a@x.org", message=b"Subject: s"))
        connection.execute(sa.insert(_mails).values(recipients="a@x.org", subject="s", body_text="t", attachments=[{}]))
    with pytest.raises(StoreError, match=r"mails that wait \(2\) have attachments or a finished message"):
        place.downgrade("mailbatch_0007")
    ensure_migrated(engine)


def test_held_back_mails_and_urgent_runs_lose_only_what_the_version_before_does_not_know(place, engine):
    place.upgrade()
    fill(engine)
    runs, pending = metadata.tables["batch_runs"], _mails.c.status == "pending"
    with engine.begin() as connection:
        connection.execute(sa.update(runs).where(runs.c.sent == 1).values(trigger="urgent", held_back=3))
        never = {"retry_at": datetime(9999, 12, 30, tzinfo=UTC), "waits_for": "the tag t is blocked"}
        connection.execute(sa.update(_mails).where(pending).values(**never))
    before = contents(engine)
    place.downgrade("mailbatch_0008")
    down = contents(engine)
    assert down.keys() ^ before.keys() == {"mail_blocks", "relay_quotas"}
    assert [table for table in down if len(down[table]) != len(before[table])] == []
    assert "urgent" not in {run["trigger"] for run in down["batch_runs"]}
    assert {mail["retry_at"] for mail in down["mail_reservations"] if mail["status"] == "pending"} == {None}
    with pytest.raises(exc.IntegrityError), engine.begin() as connection:
        connection.execute(sa.update(runs).values(trigger="urgent"))
    place.upgrade()
    with engine.begin() as connection:
        assert connection.execute(sa.update(runs).values(trigger="urgent")).rowcount == len(down["batch_runs"])
    with pytest.raises(exc.IntegrityError), engine.begin() as connection:
        connection.execute(sa.update(runs).values(trigger="nobody"))


@pytest.mark.parametrize(
    ("refused", "allowed"),
    [
        ({"subject": None, "body_text": None}, {"subject": None, "body_text": None, "message": b"Subject: s"}),
        ({"attachments": {"path": "a.pdf"}}, {"attachments": []}),
    ],
)
def test_after_the_upgrade_the_checks_are_those_of_a_new_table(place, engine, refused, allowed):
    place.upgrade("mailbatch_0007")
    place.upgrade()
    row = {"recipients": "a@x.org", "subject": "s", "body_text": "t"}
    with engine.begin() as connection:
        connection.execute(sa.insert(_mails).values(**row | allowed))
        with pytest.raises(exc.IntegrityError), connection.begin_nested():
            connection.execute(sa.insert(_mails).values(**row | refused))


def test_no_revision_holds_postgresqls_tables_for_long(empty_postgres_url):
    place, engine = Place(empty_postgres_url, None), connect(empty_postgres_url)
    files = "SELECT relname, relfilenode FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"
    checks = "SELECT conrelid::regclass::text, conname, convalidated FROM pg_constraint WHERE contype IN ('c', 'f')"
    for revision in REVISIONS:
        files_before, checks_before = dict(ask(engine, files)), ask(engine, checks)
        place.upgrade(revision)
        there = files_before.keys() - {"mailbatch_alembic_version"}
        rewritten = {name for name, file in ask(engine, files) if name in there and files_before[name] != file}
        assert not rewritten, f"{revision} writes whole tables anew"
        new = [check for check in ask(engine, checks) if check not in checks_before and check[0] in there]
        assert [check for check in new if check[2]] == [], f"{revision} reads whole tables: NOT VALID is missing"
    engine.dispose()


def test_two_hosts_that_migrate_at_once_both_succeed(place, engine):
    with ThreadPoolExecutor(2) as hosts:
        assert list(hosts.map(lambda _: place.upgrade(), range(2))) == [[], []]
    ensure_migrated(engine)


# --- what keeps a revision of SQLite from losing rows ---

REBUILD = """
    from mailbatch.infrastructure.db.rebuilding import rebuild
    rebuild(op.get_bind(), "mail_reservations", lambda sql: sql.replace("claim_no >= 0", "claim_no > -1"))
    with op.batch_alter_table("batch_runs", recreate="always") as batch:
        batch.add_column(sa.Column("colour", sa.Text))
"""


@pytest.fixture
def a_revision_that(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Puts a revision on top of ours."""

    def add(does: str) -> None:
        folder = tmp_path / "migrations"
        shutil.copytree(migrate.folder(), folder)
        (folder / "versions" / "extra.py").write_text(
            "import sqlalchemy as sa\nfrom alembic import op\n"
            f"revision = 'mailbatch_extra'\ndown_revision = '{head()}'\n"
            f"def upgrade():\n    {does.strip()}\n"
        )
        monkeypatch.setattr(migrate, "folder", lambda: folder)

    return add


def test_the_revision_that_every_process_asks_for_is_the_last_one_of_the_scripts():
    assert migrate.revisions()[-1] == head()


@pytest.fixture
def sqlite(tmp_path: Path) -> Iterator[Engine]:
    """A migrated SQLite database with rows in every state."""
    url = f"sqlite:///{tmp_path}/app.db"
    upgrade(url)
    engine = connect(url)
    fill(engine)
    yield engine
    engine.dispose()


def test_a_table_that_is_made_anew_keeps_its_rows_and_all_that_hangs_on_it(sqlite, a_revision_that):
    with sqlite.begin() as connection:
        for own in (
            "ALTER TABLE mail_reservations ADD COLUMN order_id INTEGER DEFAULT 7",
            "CREATE INDEX of_the_shop ON mail_reservations (order_id)",
            "CREATE VIEW shop_mails AS SELECT id, status FROM mail_reservations",
            "CREATE TRIGGER shop AFTER DELETE ON mail_reservations BEGIN UPDATE batch_runs SET pid = 42; END",
        ):
            connection.exec_driver_sql(own)
    before, made = contents(sqlite), set(ddl(sqlite)["all"])
    a_revision_that(REBUILD)
    upgrade(str(sqlite.url))
    kept, found = in_common(before, contents(sqlite))
    assert found == kept
    changed = {row[1]: row[3] for row in made ^ set(ddl(sqlite)["all"])}
    assert changed.keys() == {"mail_reservations", "batch_runs"}
    assert "claim_no > -1" in next(row[3] for row in ddl(sqlite)["all"] if row[1] == "mail_reservations")
    with sqlite.begin() as connection:
        connection.execute(sa.delete(metadata.tables["mail_reservations"]))
        assert connection.exec_driver_sql("SELECT count(*) FROM shop_mails").scalar() == 0
    assert contents(sqlite)["mail_attempts"] == []
    assert {row["pid"] for row in contents(sqlite)["batch_runs"]} == {42}


def test_a_table_that_is_not_as_a_revision_expects_it_stays_as_it_is(sqlite, a_revision_that):
    a_revision_that(REBUILD.replace("claim_no >= 0", "no such text"))
    with pytest.raises(StoreError, match="the table mail_reservations is not as this revision expects it"):
        upgrade(str(sqlite.url))


@pytest.mark.parametrize(
    ("does", "expected"),
    [
        ("op.execute('DELETE FROM mail_attempts WHERE claim_no = 2')", "7 rows of mail_attempts in .* would be lost"),
        ("op.execute('UPDATE run_errors SET run_id = 1')", "3 rows of run_errors in .* would refer to nothing"),
    ],
)
def test_a_revision_that_would_lose_rows_changes_nothing(sqlite, a_revision_that, does, expected):
    before, revision = contents(sqlite), current(sqlite)
    a_revision_that(does)
    with pytest.raises(StoreError, match=expected):
        upgrade(str(sqlite.url))
    assert contents(sqlite) == before
    assert current(sqlite) == revision


@pytest.mark.parametrize("database_url", ["sqlite", "postgresql"], indirect=True)
def test_a_migration_that_is_killed_in_the_middle_leaves_nothing_behind(database_url, a_revision_that):
    engine = connect(database_url)
    fill(engine)
    before, made, revision = contents(engine), ddl(engine), current(engine)
    a_revision_that(
        "op.add_column('mail_reservations', sa.Column('colour', sa.Text)); "
        "op.execute('DELETE FROM mail_attempts'); import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    )
    script = (
        "import pathlib, sys; from mailbatch.infrastructure.db import migrate; "
        "migrate.folder = lambda: pathlib.Path(sys.argv[1]); migrate.upgrade(sys.argv[2])"
    )
    killed = subprocess.run([sys.executable, "-c", script, str(migrate.folder()), database_url], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert (contents(engine), ddl(engine), current(engine)) == (before, made, revision)
    engine.dispose()


def test_rows_that_referred_to_nothing_before_do_not_stop_a_migration(sqlite, a_revision_that):
    with closing(sqlite3.connect(sqlite.url.database)) as other, other:
        other.execute("DELETE FROM batch_runs")
    a_revision_that(REBUILD)
    upgrade(str(sqlite.url))
    assert len(contents(sqlite)["run_errors"]) == 3


def test_a_table_in_use_is_not_waited_for_without_end(postgres_url, a_revision_that, monkeypatch):
    monkeypatch.setattr(migrating, "_LOCK_TIMEOUT", "300ms")
    a_revision_that("op.add_column('mail_reservations', sa.Column('colour', sa.Text))")
    engine = connect(postgres_url)
    with engine.connect() as reader:
        reader.execute(sa.select(metadata.tables["mail_reservations"])).all()
        with pytest.raises(StoreError, match="lock timeout; something else uses the table for long"):
            upgrade(postgres_url)
    upgrade(postgres_url)
    engine.dispose()
