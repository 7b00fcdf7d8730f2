"""Roles with what ``mailbatch grants`` prints for them, and no more: they do what they are for, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

import psycopg
import pytest
import sqlalchemy as sa
from psycopg import errors, sql
from support.api import MAIL, OPERATE, READ, Api

from mailbatch.client import reserve
from mailbatch.domain.errors import KeyConflict
from mailbatch.infrastructure.db.grants import Duty, needed
from mailbatch.infrastructure.db.migrate import upgrade
from mailbatch.infrastructure.db.tables import VERSION_TABLE, metadata

if TYPE_CHECKING:
    from collections.abc import Iterator


Say = Callable[..., tuple[int, str, str]]
LETTER = ("--to", "ada@example.com", "--subject", "Hello", "--text", "Hello.")
NEVER = [
    "UPDATE mailbatch_alembic_version SET version_num = 'x'",
    "DELETE FROM mailbatch_alembic_version",
    "DROP TABLE mail_reservations",
    "TRUNCATE mail_reservations CASCADE",
    "ALTER TABLE mail_reservations ADD COLUMN x text",
    "CREATE INDEX ON mail_reservations (subject)",
]


@pytest.fixture(params=[None, "Mail-Batch"], ids=["public", "own schema"])
def schema(request: pytest.FixtureRequest) -> str | None:
    return request.param


@pytest.fixture
def owner_url(empty_postgres_url: str, schema: str | None) -> str:
    upgrade(empty_postgres_url, schema=schema)
    return empty_postgres_url


@pytest.fixture
def acting(owner_url: str, schema: str | None, say: Say) -> Iterator[Callable[[Duty], tuple[Say, str]]]:
    """Makes a role of that duty; runs commands as it. Returns its URL, too."""
    roles: list[str] = []
    of_schema = {"DATABASE_SCHEMA": schema} if schema else {}

    def make(duty: Duty) -> tuple[Say, str]:
        role = f"{duty} {uuid4().hex[:8]}"
        roles.append(role)
        code, out, err = say("grants", duty.value, "--to", role, DATABASE_URL=owner_url, **of_schema)
        assert (code, err) == (0, "")
        owner_does(owner_url, f'CREATE ROLE "{role}" LOGIN')
        owner_does(owner_url, out)
        url = owner_url.replace("mailbatch@", f"{role.replace(' ', '%20')}@")
        return partial(say, DATABASE_URL=url, LOG_LEVEL="CRITICAL", SENDER="shop@example.com", **of_schema), url

    yield make
    for role in roles:
        owner_does(owner_url, f'DROP OWNED BY "{role}"')
        owner_does(owner_url, f'DROP ROLE "{role}"')


def owner_does(url: str, statements: str) -> None:
    with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute(sql.SQL(statements))


def all_done(ask: Say, *commands: str) -> None:
    for command in commands:
        code, out, err = ask(*command.split())
        assert code == 0, (command, out, err)


def all_refused(ask: Say, *commands: str) -> None:
    for command in commands:
        code, out, err = ask(*command.split())
        assert code == 1, (command, out, err)
        assert err.count("\n") == 1, err
        assert "permission denied for table" in err, err
        assert "mailbatch grants" in err


def database_refuses(url: str, schema: str | None, *statements: str) -> None:
    with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute(sql.SQL("SET search_path TO {}").format(sql.Identifier(schema or "public")))
        for statement in statements:
            with pytest.raises(errors.InsufficientPrivilege):
                connection.execute(sql.SQL(statement))


def test_a_role_that_reserves_does_that_and_cannot_read_what_it_reserved(acting, schema, tmp_path):
    ask, url = acting(Duty.RESERVE)
    code, first, _ = ask("reserve", *LETTER, "--key", "k")
    assert code == 0
    code, again, err = ask("reserve", *LETTER, "--key", "k")
    assert (code, again, err) == (0, first, "(it was reserved before, under this key)\n")
    code, again, _ = ask("reserve", *LETTER[:-1], "other", "--key", "k")
    assert (code, again) == (0, first), "uncompared"
    (tmp_path / "m.csv").write_text(
        "recipients,subject,body_text,idempotency_key\na@example.com,s,t,k\nb@example.com,s,t,l\n"
    )
    code, out, err = ask("import", "m.csv")
    assert (code, out, err) == (0, "1 imported, 1 known before\n", "")
    engine = sa.create_engine(url)
    mail = {"to": "c@example.com", "subject": "s", "text": "t", "schema": schema}
    with engine.begin() as connection:
        assert str(reserve(connection, **mail, key="k")) == first.strip()
        own = reserve(connection, **mail)
        assert reserve(connection, **mail, id=own) == own
        with pytest.raises(KeyConflict, match="is taken by another reservation"):
            reserve(connection, **mail, id=own, key="m")
    engine.dispose()
    all_refused(ask, "list", f"cancel {first.strip()}", f"show {first.strip()}", "pause", "runs")
    selecting = ["SELECT subject FROM mail_reservations", "UPDATE mail_reservations SET status = 'sent'"]
    database_refuses(url, schema, *NEVER, *selecting, "DELETE FROM mail_reservations", "SELECT * FROM batch_runs")


def test_a_role_that_reads_sees_all_and_changes_nothing(acting, schema, owner_url, say):
    of_schema = {"DATABASE_SCHEMA": schema} if schema else {}
    code, found, _ = say("reserve", *LETTER, DATABASE_URL=owner_url, **of_schema)
    assert code == 0
    one = found.strip()
    ask, url = acting(Duty.READ)
    all_done(ask, "list", f"show {one}", f"explain {one}", "plan", "runs", "duplicates", "actions", f"preview {one}")
    all_refused(
        ask, "reserve --to a@example.com --subject s --text t", f"cancel {one}", "pause", "purge --older-than 1"
    )
    all_refused(ask, "send-all --here --no-lock")
    with Api(
        {"database_url": url, "database_schema": schema, "api_token": OPERATE, "api_read_token": READ}, READ
    ) as api:
        for page in ("/api/reservations", f"/api/reservations/{one}", "/api/runs", "/api/status", "/api/actions"):
            api.get(page)
        assert api.client.get("/metrics").status_code == 200
    database_refuses(url, schema, *NEVER, "INSERT INTO mail_traces VALUES (gen_random_uuid(), 'x')")


def test_a_role_that_operates_acts_by_every_door_and_sends_nothing(acting, schema):
    ask, url = acting(Duty.OPERATE)
    ids = [ask("reserve", *LETTER, "--tag", "t")[1].strip() for _ in range(4)]
    all_done(
        ask,
        f"cancel {ids[0]}",
        f"restore {ids[0]}",
        f"cancel {ids[0]}",
        f"requeue {ids[0]}",
        "cancel --tag t --yes",
        f"delete {ids[1]}",
        "restore --tag t --yes",
        "pause",
        "pause --all",
        "resume",
        "purge --older-than 1",
        "list",
        "actions",
        "runs",
    )
    with Api({"database_url": url, "database_schema": schema, "api_token": OPERATE}, OPERATE) as api:
        created = api.post("/api/reservations", MAIL, 201, **{"Idempotency-Key": "once"})
        assert api.post("/api/reservations", MAIL, 201, **{"Idempotency-Key": "once"}) == created
        api.client.headers["traceparent"] = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
        one = api.post("/api/reservations", MAIL, 201)["id"]
        assert api.post(f"/api/reservations/{one}/cancel")["status"] == "cancelled"
        assert api.post(f"/api/reservations/{one}/requeue")["status"] == "pending"
    all_refused(ask, "send-all --here --no-lock")
    database_refuses(url, schema, *NEVER, "INSERT INTO batch_runs VALUES (gen_random_uuid(), 'x', 'y')")


def test_a_role_that_sends_runs_the_job_whole(acting, schema, owner_url, say, smtp_sink):
    of_schema = {"DATABASE_SCHEMA": schema} if schema else {}
    for n in range(5):
        say("reserve", "--to", f"a{n}@example.com", *LETTER[2:], DATABASE_URL=owner_url, **of_schema)
    say("reserve", *LETTER[:-1], "{{ missing }}", DATABASE_URL=owner_url, **of_schema)
    ask, url = acting(Duty.SEND)
    _, out, err = ask("send-all", "--here", "--no-lock", "--json", SMTP_URL=smtp_sink.url, RETENTION_DAYS="1")
    report = json.loads(out)
    assert (report["outcome"], report["sent"], report["failed"], err) == ("completed", 5, 1, "")
    _, out, _ = ask("send-all", "--here", "--no-lock", "--json", SMTP_URL="smtp://127.0.0.1:1")
    assert json.loads(out)["outcome"] == "completed"
    all_done(ask, "runs", f"run {UUID(report['run_id'])}", "duplicates", "list", "purge --older-than 0")
    database_refuses(url, schema, *NEVER, "SELECT * FROM api_answers")


def test_all_duties_are_printed_with_a_name_for_each(say, postgres_url):
    code, out, _ = say("grants", DATABASE_URL=postgres_url)
    assert code == 0
    for duty in Duty:
        assert f"TO mailbatch_{duty};" in out
        assert f"-- {duty}: " in out
    code, out, _ = say("grants", "read", "--json", DATABASE_URL=postgres_url)
    assert list(json.loads(out)) == ["read"]
    assert say("grants", "--to", "x", DATABASE_URL=postgres_url)[0] == 2


def test_on_sqlite_there_is_nothing_to_grant(say, sqlite_url):
    code, out, err = say("grants", DATABASE_URL=sqlite_url)
    assert (code, out) == (1, "")
    assert "SQLite has no roles" in err


def test_every_table_is_thought_of():
    assert needed(Duty.READ).keys() == {*metadata.tables, VERSION_TABLE}
    assert all(VERSION_TABLE in needed(duty) for duty in Duty)
