"""Our tables in a PostgreSQL schema of their own: named in every statement, whatever the search path is."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session
from support.api import Api
from support.databases import contents, fill, in_common, make_older

from mailbatch import client
from mailbatch.config import Settings
from mailbatch.domain.errors import InvalidReservation, NotMigrated
from mailbatch.infrastructure.db.engine import connect
from mailbatch.infrastructure.db.identity import identify
from mailbatch.infrastructure.db.migrate import current, downgrade, ensure_migrated, upgrade
from mailbatch.infrastructure.db.revision import head
from mailbatch.interfaces.cli import main

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from sqlalchemy.engine import Engine

ODD_NAMES = ["mail", "Mail-Batch", "select", 'a"b', "a.b", "o'x", "Ünï:x", "with blank", "{}$1", "a\\b", "x" * 63]
LETTER: dict[str, Any] = {"to": "ada@example.com", "subject": "Hello", "text": "Hello."}


@pytest.fixture
def url(empty_postgres_url: str) -> str:
    """A database in which nothing is found by a name without a schema."""
    engine = sa.create_engine(empty_postgres_url)
    with engine.begin() as connection:
        connection.execute(sa.text(f"ALTER DATABASE {engine.url.database} SET search_path TO ''"))
    engine.dispose()
    return empty_postgres_url


@pytest.fixture
def app(url: str) -> Iterator[Engine]:
    """The application's own engine."""
    engine = sa.create_engine(url)
    yield engine
    engine.dispose()


@pytest.fixture
def say(
    url: str, redis_url: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> Callable[..., tuple[int, str]]:
    """Runs a command in this process, in the schema Mail-Batch or another."""
    settings = {
        "DATABASE_URL": url,
        "REDIS_URL": redis_url,
        "SENDER": "a@example.com",
        "SMTP_URL": "smtp://127.0.0.1:1",
    }
    for name, value in settings.items():
        monkeypatch.setenv(f"MAILBATCH_{name}", value)
    monkeypatch.chdir(tmp_path)

    def say(*arguments: str, schema: str = "Mail-Batch") -> tuple[int, str]:
        monkeypatch.setenv("MAILBATCH_DATABASE_SCHEMA", schema)
        code = main.run(list(arguments))
        return code, "".join(capfd.readouterr())

    return say


def schemas(engine: Engine) -> dict[str, int]:
    """How many tables each schema has."""
    question = "SELECT schemaname, count(*) FROM pg_tables WHERE schemaname !~ '^pg_|^information' GROUP BY 1"
    with engine.connect() as connection:
        return {row[0]: row[1] for row in connection.exec_driver_sql(question)}


@pytest.mark.parametrize("name", ODD_NAMES)
def test_any_name_is_made_used_and_left(url, app, name):
    assert Settings(database_url=url, database_schema=name).database_schema == name
    upgrade(url, schema=name)
    assert schemas(app).keys() == {name}
    engine = connect(url, name)
    ensure_migrated(engine)
    fill(engine)
    with app.begin() as connection:
        mail = client.reserve(connection, **LETTER, key="k", schema=name)
        assert client.reserve(connection, **LETTER, key="k", schema=name) == mail
        assert client.cancel(connection, mail, schema=name)
    assert mail in {row["id"] for row in contents(engine)["mail_reservations"]}
    engine.dispose()
    downgrade(url, schema=name)
    assert schemas(app) == {}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (" mail", "without blanks around it"),
        ("mail\n", "without blanks around it"),
        ("ma\x00il", "without control characters"),
        ("a%b", "must not contain [, ] or %"),
        ("a[b", "must not contain [, ] or %"),
        ("ü" * 32, "must have at most 63 bytes"),
        ("pg_mail", "must not be one of PostgreSQL's own schemas"),
        ("information_schema", "must not be one of PostgreSQL's own schemas"),
    ],
)
def test_a_name_that_cannot_be_is_refused_at_the_start_in_one_line(url, app, monkeypatch, capfd, name, expected):
    if "\x00" not in name:
        monkeypatch.setenv("MAILBATCH_DATABASE_URL", url)
        monkeypatch.setenv("MAILBATCH_DATABASE_SCHEMA", name)
        assert main.run(["status"]) == 2
        [line] = capfd.readouterr().err.splitlines()
        assert "MAILBATCH_DATABASE_SCHEMA=" in line
        assert expected in line
    with app.begin() as connection, pytest.raises(InvalidReservation, match="schema: must"):
        client.reserve(connection, **LETTER, schema=name)


def test_sqlite_has_no_schemas(sqlite_url, monkeypatch, capfd):
    monkeypatch.setenv("MAILBATCH_DATABASE_URL", sqlite_url)
    monkeypatch.setenv("MAILBATCH_DATABASE_SCHEMA", "mail")
    assert main.run(["status"]) == 2
    [line] = capfd.readouterr().err.splitlines()
    assert line == "mailbatch: MAILBATCH_DATABASE_SCHEMA=mail: must not be set for SQLite, which has no schemas"
    engine = sa.create_engine(sqlite_url)
    with engine.begin() as connection, pytest.raises(InvalidReservation, match="sqlite has no schemas"):
        client.reserve(connection, **LETTER, schema="main")
    with engine.begin() as connection:
        client.reserve(connection, **LETTER)
    engine.dispose()


def test_every_command_works_in_it(say, app, tmp_path):
    code, output = say("migrate")
    assert code == 0
    assert f", schema Mail-Batch from nothing to revision {head()}" in output
    (tmp_path / "m.csv").write_text("recipients,subject,body_text\nann@example.com,Hi,Text\n")
    code, output = say("reserve", "--to", "b@example.com", "--subject", "s", "--text", "t", "--json")
    assert code == 0, output
    mail = json.loads(output)["id"]
    for command in (
        ["import", "m.csv"],
        ["status"],
        ["list"],
        ["show", mail],
        ["explain", mail],
        ["plan"],
        ["duplicates"],
        ["runs"],
        ["cancel", mail],
        ["restore", mail],
        ["cancel", "--to", "ann@example.com", "--yes"],
        ["delete", "--status", "cancelled", "--yes"],
        ["pause"],
        ["resume"],
        ["actions"],
        ["purge", "--older-than", "1"],
    ):
        code, output = say(*command)
        assert code == 0, f"{command}: {output}"
        assert "relation" not in output
    assert ", schema Mail-Batch, tables at revision" in say("doctor")[1]
    assert schemas(app).keys() == {"Mail-Batch"}


def test_the_api_and_the_console_work_in_it(url, redis_url):
    upgrade(url, schema="Mail-Batch")
    with Api({"database_url": url, "database_schema": "Mail-Batch", "redis_url": redis_url}) as api:
        [mail] = api.reserve()
        assert api.get(f"/api/reservations/{mail}")["status"] == "pending"
        for page in ("/", "/reservations", f"/reservations/{mail}", "/runs", "/schedule", "/duplicates", "/metrics"):
            assert api.client.get(page).status_code == 200, page


def test_two_installations_in_one_database_do_not_see_each_other(url):
    upgrade(url, schema="one")
    upgrade(url, schema="other")
    one, other = connect(url, "one"), connect(url, "other")
    fill(one)
    assert not any(contents(other).values())
    assert [identify(engine).schema for engine in (one, other)] == ["one", "other"]
    downgrade(url, schema="other")
    with pytest.raises(NotMigrated, match="schema other has no mailbatch tables"):
        ensure_migrated(other)
    ensure_migrated(one)
    assert all(contents(one).values())
    with one.begin(), other.begin():
        upgrade(url, schema="other")
    one.dispose()
    other.dispose()


def test_the_migration_of_one_schema_does_not_wait_for_that_of_another(url):
    from mailbatch.infrastructure.db.migrating import migrating

    with migrating(url, "one"):
        upgrade(url, schema="other")


def test_a_session_of_the_application_stays_as_it_was(url, app):
    upgrade(url, schema="mail")
    own = sa.Table("orders", sa.MetaData(), sa.Column("id", sa.Integer, primary_key=True))
    tenant = app.execution_options(schema_translate_map={None: "tenant"})
    with tenant.begin() as connection:
        connection.execute(sa.schema.CreateSchema("tenant"))
        own.create(connection)
    with Session(tenant) as session, session.begin():
        client.reserve(session, **LETTER, schema="mail")
        session.execute(sa.insert(own).values(id=1))
        with pytest.raises(InvalidReservation):
            client.reserve(session, to="nobody", subject="s", text="t", schema="mail")
        session.execute(sa.insert(own).values(id=2))
    with app.connect() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM tenant.orders").scalar() == 2
        assert connection.exec_driver_sql("SELECT count(*) FROM mail.mail_reservations").scalar() == 1
        assert connection.exec_driver_sql("SHOW search_path").scalar() == '""'


def test_a_schema_that_may_not_be_made_costs_a_line_that_says_who_can(url, app, say):
    with app.begin() as connection:
        connection.exec_driver_sql("CREATE ROLE poor LOGIN")
    try:
        poor = str(app.url.set(username="poor"))
        with pytest.raises(NotMigrated, match='CREATE SCHEMA "Mail-Batch" AUTHORIZATION poor'):
            upgrade(poor, schema="Mail-Batch")
        with app.begin() as connection:
            connection.exec_driver_sql('CREATE SCHEMA "Mail-Batch" AUTHORIZATION poor')
        upgrade(poor, schema="Mail-Batch")
    finally:
        with app.begin() as connection:
            connection.exec_driver_sql("DROP OWNED BY poor")
            connection.exec_driver_sql("DROP ROLE poor")


def test_tables_of_the_version_before_are_found_in_the_schema_in_which_they_are(url, app):
    make_older(url, schema="mail")
    engine = connect(url, "mail")
    fill(engine)
    before = contents(engine)
    assert current(engine) == "0002"
    assert upgrade(url, schema="mail") == []
    kept, found = in_common(before, contents(engine))
    assert found == kept
    assert "alembic_version" not in sa.inspect(app).get_table_names(schema="mail")
    downgrade(url, "mailbatch_0002", schema="mail")
    with app.connect() as connection:
        assert connection.exec_driver_sql("SELECT * FROM mail.alembic_version").all() == [("0002",)]
    engine.dispose()


def test_new_tables_are_not_made_elsewhere_than_the_old_ones(empty_postgres_url):
    make_older(empty_postgres_url)
    engine = sa.create_engine(empty_postgres_url)
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE SCHEMA mailbatch")  # the role's own name: first in the search path
    with pytest.raises(NotMigrated, match=r"are in the schema public, .* set MAILBATCH_DATABASE_SCHEMA=public"):
        upgrade(empty_postgres_url)
    upgrade(empty_postgres_url, schema="public")
    assert sa.inspect(engine).get_table_names(schema="mailbatch") == []
    engine.dispose()


def test_a_row_that_an_application_with_its_tables_in_another_schema_may_have_written_stays(empty_postgres_url):
    make_older(empty_postgres_url)
    engine = sa.create_engine(empty_postgres_url)
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE SCHEMA shop")
        connection.exec_driver_sql("CREATE TABLE shop.orders (id integer)")
    [note] = upgrade(empty_postgres_url)
    assert "DELETE FROM alembic_version WHERE version_num = '0002'" in note
    with engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT * FROM alembic_version").all() == [("0002",)]
    engine.dispose()


def test_two_installations_of_the_version_before_are_no_strangers_to_each_other(empty_postgres_url):
    make_older(empty_postgres_url)
    make_older(empty_postgres_url, schema="other")
    assert upgrade(empty_postgres_url) == []
    assert upgrade(empty_postgres_url, schema="other") == []
