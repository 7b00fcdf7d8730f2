"""Our revision has a table of its own; an application's ``alembic_version`` is read with care and kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa
from support.databases import OLDER, SINCE_0002, contents, fill, in_common, make_alembic_version, make_older

from mailbatch.batch.job import make_job
from mailbatch.bootstrap import Parts
from mailbatch.config import Settings
from mailbatch.domain.errors import JobExecError, NotMigrated
from mailbatch.domain.reservation import Status
from mailbatch.domain.run import RunOutcome
from mailbatch.infrastructure.db.engine import connect
from mailbatch.infrastructure.db.migrate import current, downgrade, ensure_migrated, upgrade
from mailbatch.infrastructure.db.revision import head
from mailbatch.interfaces.cli import main

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from sqlalchemy.engine import Engine


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database without tables."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/app.db"
    found: str = request.getfixturevalue("empty_postgres_url")
    return found


@pytest.fixture
def engine(url: str) -> Iterator[Engine]:
    engine = connect(url)
    yield engine
    engine.dispose()


@dataclass(frozen=True)
class Done:
    """How a command ended, and all that it printed."""

    exit_code: int
    output: str


@pytest.fixture
def run(
    url: str, redis_url: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[..., Done]:
    """Runs a mailbatch command in this process."""
    env = {"DATABASE_URL": url, "REDIS_URL": redis_url, "SENDER": "a@example.com", "SMTP_URL": "smtp://127.0.0.1:1"}
    for name, value in env.items():
        monkeypatch.setenv(f"MAILBATCH_{name}", value)

    def run(*arguments: str) -> Done:
        code = main.run(list(arguments))
        return Done(code, "".join(capfd.readouterr()))

    return run


def execute(engine: Engine, *statements: str) -> None:
    with engine.begin() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)


def application_is_at(engine: Engine, *revisions: str) -> None:
    """An application with a table of its own, migrated by its own Alembic."""
    with engine.begin() as connection:
        make_alembic_version(connection, *revisions)
        connection.exec_driver_sql("CREATE TABLE orders (id INTEGER PRIMARY KEY, total INTEGER)")
        connection.exec_driver_sql("INSERT INTO orders VALUES (1, 42)")


def rows_of(engine: Engine, table: str) -> list[tuple[Any, ...]]:
    with engine.connect() as connection:
        return [tuple(row) for row in connection.exec_driver_sql(f"SELECT * FROM {table} ORDER BY 1")]  # noqa: S608


def tables_of(engine: Engine) -> set[str]:
    with engine.connect() as connection:
        return set(sa.inspect(connection).get_table_names())


# --- beside an application's Alembic ---


@pytest.mark.parametrize("revision", ["9c1f0b7e2d11", "0001", "0002", "mailbatch"])
def test_an_application_that_migrated_first_keeps_its_revision_and_gets_our_tables(url, engine, run, revision):
    application_is_at(engine, revision)
    with pytest.raises(NotMigrated, match="has no mailbatch tables; run `mailbatch migrate`"):
        ensure_migrated(engine)
    if revision == "0002":
        doctor = run("doctor")
        assert doctor.exit_code == 1
        assert "has no mailbatch tables; run `mailbatch migrate`" in doctor.output
    done = run("migrate")
    assert done.exit_code == 0
    assert f"from nothing to revision {head()}" in done.output
    assert "note" not in done.output
    ensure_migrated(engine)
    assert rows_of(engine, "alembic_version") == [(revision,)]
    assert rows_of(engine, "orders") == [(1, 42)]
    downgrade(url)
    assert rows_of(engine, "alembic_version") == [(revision,)]
    assert tables_of(engine) == {"alembic_version", "orders"}


def test_a_first_migration_leaves_no_trace_in_alembic_version(url, engine):
    upgrade(url)
    assert "alembic_version" not in tables_of(engine)
    assert rows_of(engine, "mailbatch_alembic_version") == [(head(),)]


# --- databases of the version before ---


@pytest.mark.parametrize("revision", ["0001", "0002"])
def test_a_database_of_the_version_before_is_taken_over_with_all_its_rows(url, engine, run, revision):
    make_older(url, revision)
    fill(engine, without=SINCE_0002 if revision == "0001" else ())
    before = contents(engine)
    assert {row["status"] for row in before["mail_reservations"]} == set(Status)
    assert current(engine) == revision
    with pytest.raises(NotMigrated, match=f"is at revision {revision}, .* run `mailbatch migrate`"):
        ensure_migrated(engine)
    done = run("migrate")
    assert done.exit_code == 0
    assert f"from {revision} to revision {head()}" in done.output
    assert rows_of(engine, "alembic_version") == []
    kept, found = in_common(before, contents(engine))
    assert found == kept
    ensure_migrated(engine)
    assert "already" in run("migrate").output


@pytest.mark.parametrize("revision", ["0001", "0002"])
def test_the_way_back_leaves_what_the_version_before_needs(url, engine, revision):
    make_older(url, revision)
    fill(engine, without=SINCE_0002 if revision == "0001" else ())
    before, tables = contents(engine), tables_of(engine)
    upgrade(url)
    assert downgrade(url, OLDER[revision]) == []
    assert rows_of(engine, "alembic_version") == [(revision,)]
    assert tables_of(engine) == tables
    kept, found = in_common(before, contents(engine))
    assert found == kept
    upgrade(url)
    assert rows_of(engine, "alembic_version") == []
    ensure_migrated(engine)


def test_the_way_back_step_by_step_names_each_revision(url, engine):
    upgrade(url)
    for revision in ("0002", "0001"):
        downgrade(url, OLDER[revision])
        assert rows_of(engine, "alembic_version") == [(revision,)]
        assert current(engine) == revision
    downgrade(url)
    assert tables_of(engine) == {"alembic_version"}
    assert rows_of(engine, "alembic_version") == []


@pytest.mark.parametrize(
    "others",
    [
        ["INSERT INTO alembic_version VALUES ('9c1f0b7e2d11')"],
        ["CREATE TABLE orders (id INTEGER PRIMARY KEY)"],
    ],
    ids=["a second row", "a table of others"],
)
def test_a_row_that_may_be_the_applications_stays_and_one_line_says_what_to_run(url, engine, run, others):
    make_older(url)
    execute(engine, *others)
    before = rows_of(engine, "alembic_version")
    done = run("migrate")
    assert done.exit_code == 0
    assert done.output.count("\n") == 2
    assert "DELETE FROM alembic_version WHERE version_num = '0002'" in done.output
    assert rows_of(engine, "alembic_version") == before
    ensure_migrated(engine)
    assert "DELETE" not in run("migrate").output


@pytest.mark.parametrize("revision", ["9c1f0b7e2d11", "0001"])
def test_a_row_that_does_not_name_the_shape_of_our_tables_is_the_applications(url, engine, revision):
    make_older(url)
    execute(engine, f"UPDATE alembic_version SET version_num = '{revision}'")  # noqa: S608
    assert upgrade(url) == []
    assert rows_of(engine, "alembic_version") == [(revision,)]
    ensure_migrated(engine)


def test_tables_without_any_row_are_taken_over(url, engine):
    make_older(url)
    execute(engine, "DROP TABLE alembic_version")
    upgrade(url)
    ensure_migrated(engine)
    assert "alembic_version" not in tables_of(engine)


def test_a_column_that_somebody_added_to_our_tables_does_not_hide_them(url, engine):
    make_older(url)
    execute(engine, "ALTER TABLE mail_reservations ADD COLUMN order_id INTEGER")
    upgrade(url)
    ensure_migrated(engine)


def test_the_way_back_is_told_from_an_application_that_has_alembic_version(url, engine):
    application_is_at(engine, "9c1f0b7e2d11")
    upgrade(url)
    assert downgrade(url, "mailbatch_0002") == [
        "alembic_version holds 9c1f0b7e2d11, not ours: no earlier mailbatch can work beside it"
    ]
    assert rows_of(engine, "alembic_version") == [("9c1f0b7e2d11",)]
    assert current(engine) == "mailbatch_0002"


# --- what is not ours, or not whole ---


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (
            "CREATE TABLE mail_reservations (id INTEGER PRIMARY KEY, room TEXT)",
            "a table mail_reservations that is not mailbatch's (it has no column attempts)",
        ),
        ("CREATE VIEW mail_traces AS SELECT 1 AS reservation_id", "a table mail_traces that is not mailbatch's"),
    ],
    ids=["a table", "a view"],
)
def test_a_table_of_others_with_our_name_is_named_and_nothing_is_changed(engine, run, made, expected):
    execute(engine, made)
    before = tables_of(engine)
    for command in ("migrate", "doctor", "status"):
        done = run(command)
        assert done.exit_code != 0
        assert expected in done.output
        assert "Traceback" not in done.output
    assert tables_of(engine) == before


def test_a_table_of_others_beside_those_of_an_earlier_version_is_not_called_a_later_one_of_ours(url, engine, run):
    make_older(url)
    execute(engine, "CREATE TABLE incidents (id INTEGER PRIMARY KEY, room TEXT)")
    done = run("migrate")
    assert done.exit_code != 0
    assert "a table incidents that is not mailbatch's; rename it, or use another database" in done.output


def test_an_index_of_others_with_a_name_of_ours_costs_a_line(engine, run):
    execute(engine, "CREATE TABLE orders (id INTEGER)", "CREATE INDEX ix_batch_runs_job ON orders (id)")
    done = run("migrate")
    assert done.exit_code == 1
    [line] = done.output.splitlines()
    assert "ix_batch_runs_job" in line
    assert "has this name: rename it, or keep mailbatch's tables apart" in line
    assert tables_of(engine) == {"orders"}


@pytest.mark.parametrize("lost", ["batch_schedule", "run_reports"])
def test_a_database_that_lost_some_of_our_tables_is_told_which(url, engine, run, lost):
    make_older(url)
    execute(engine, f"DROP TABLE {lost}")
    for command in ("migrate", "status"):
        done = run(command)
        assert done.exit_code != 0
        assert f"lacks {lost}" in done.output


@pytest.mark.parametrize("rows", [["mailbatch_0001", "mailbatch_0002"], ["mailbatch_0002", "mailbatch_9999"]])
def test_two_rows_in_our_version_table_are_one_line(url, engine, run, rows):
    upgrade(url)
    execute(engine, "DELETE FROM mailbatch_alembic_version")
    for row in rows:
        execute(engine, f"INSERT INTO mailbatch_alembic_version VALUES ('{row}')")  # noqa: S608
    for command in ("migrate", "status"):
        done = run(command)
        assert done.exit_code != 0
        assert f"has 2 rows ({', '.join(rows)})" in done.output
        assert "Traceback" not in done.output


def test_a_database_of_a_newer_mailbatch_is_left_alone(url, engine, run):
    upgrade(url)
    execute(engine, "UPDATE mailbatch_alembic_version SET version_num = 'mailbatch_9999'")
    for command in ("migrate", "doctor", "status"):
        done = run(command)
        assert done.exit_code != 0
        assert "it was migrated by a newer mailbatch: upgrade this one" in done.output
        assert "Traceback" not in done.output


def test_a_revision_that_no_mailbatch_wrote_is_not_called_newer(url, engine, run):
    upgrade(url)
    execute(engine, "UPDATE mailbatch_alembic_version SET version_num = '9c1f0b7e2d11'")
    for command in ("migrate", "status"):
        done = run(command)
        assert done.exit_code != 0
        assert "holds 9c1f0b7e2d11, which no mailbatch has written; write the revision of the tables" in done.output


def test_a_worker_that_was_not_restarted_begins_no_run_on_newer_tables(url, engine):
    upgrade(url)
    parts = Parts(Settings(database_url=url))
    job = make_job(parts, "nightly", lambda _run: None, lock=False)
    assert job().outcome is RunOutcome.COMPLETED
    execute(engine, "UPDATE mailbatch_alembic_version SET version_num = 'mailbatch_9999'")
    with pytest.raises(JobExecError, match="it was migrated by a newer mailbatch: upgrade this one"):
        job()
    assert len(contents(engine)["batch_runs"]) == 1
    parts.close()


def test_an_application_that_migrates_at_the_same_moment_is_not_waited_for(empty_postgres_url):
    engine = connect(empty_postgres_url)
    with engine.connect() as application:
        make_alembic_version(application, "0002")
        application.exec_driver_sql("CREATE TABLE orders (id INTEGER PRIMARY KEY)")
        assert upgrade(empty_postgres_url) == []
        application.commit()
    assert rows_of(engine, "alembic_version") == [("0002",)]
    ensure_migrated(engine)
    engine.dispose()


def test_every_role_may_read_our_revision(postgres_server, empty_postgres_url):
    upgrade(empty_postgres_url)
    engine = connect(empty_postgres_url)
    execute(engine, "CREATE ROLE visitor")
    try:
        with engine.connect() as connection:
            connection.exec_driver_sql("SET ROLE visitor")
            assert connection.exec_driver_sql("SELECT * FROM mailbatch_alembic_version").all() == [(head(),)]
    finally:
        execute(engine, "DROP ROLE visitor")
        engine.dispose()


@pytest.mark.parametrize(
    ("lost", "expected"),
    [
        ("DROP TABLE run_reports", "lacks run_reports; restore what is missing from a backup"),
        ("ALTER TABLE operator_actions DROP COLUMN actor", "lacks operator_actions.actor;"),
    ],
)
def test_a_revision_without_its_tables_is_told(url, engine, run, lost, expected):
    upgrade(url)
    execute(engine, lost)
    for command in ("migrate", "doctor"):
        done = run(command)
        assert done.exit_code != 0
        assert expected in done.output


@pytest.mark.skipif(head() == "mailbatch_0002", reason="there is no later revision")
def test_tables_of_a_later_revision_without_their_row_are_not_taken_for_older_ones(url, engine, run):
    upgrade(url)
    execute(engine, "DELETE FROM mailbatch_alembic_version")
    for command in ("migrate", "status"):
        done = run(command)
        assert done.exit_code != 0
        assert "of a later revision, and no row in mailbatch_alembic_version; restore that table" in done.output


# --- the command ---


def test_the_way_down_is_gone_only_when_it_was_agreed_to(url, engine, run):
    run("migrate")
    refused = run("migrate", "--to", "mailbatch_0002")
    assert refused.exit_code == 1
    assert "going down to mailbatch_0002 removes what came after it" in refused.output
    assert "add --yes to do it" in refused.output
    ensure_migrated(engine)
    done = run("migrate", "--to", "mailbatch_0002", "--yes")
    assert done.exit_code == 0
    assert rows_of(engine, "alembic_version") == [("0002",)]
    assert "run `mailbatch migrate`" in run("status").output
    assert run("migrate", "--json").exit_code == 0
    ensure_migrated(engine)


def test_a_revision_that_is_none_is_refused_with_those_that_there_are(run):
    done = run("migrate", "--to", "0002")
    assert done.exit_code == 2
    assert "there is no revision 0002; there are base, mailbatch_0001, mailbatch_0002" in done.output


def test_it_can_be_gone_up_to_a_revision(url, engine, run):
    assert run("migrate", "--to", "mailbatch_0001").exit_code == 0
    assert current(engine) == "mailbatch_0001"
    assert run("migrate", "--to", head()).exit_code == 0
    ensure_migrated(engine)
