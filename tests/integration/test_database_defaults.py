"""Databases and roles whose defaults, encodings and connections are other people's."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING, Any
from uuid import UUID

import psycopg
import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session
from support.long import LONG

from mailbatch.client import cancel, reserve
from mailbatch.domain.errors import KeyConflict, StoreError
from mailbatch.infrastructure.db.engine import connect, reading, writing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from support.postgres import PostgresServer

    Say = Callable[..., tuple[int, str, str]]

ODD = [
    {"DateStyle": "SQL, DMY"},
    {"DateStyle": "German"},
    {"DateStyle": "Postgres, MDY"},
    {"IntervalStyle": "sql_standard"},
    {"TimeZone": "Pacific/Chatham"},
    {"TimeZone": "<+0530>-5:30"},
    {"bytea_output": "escape"},
    {"standard_conforming_strings": "off"},
    {"client_encoding": "LATIN1"},
    {"client_encoding": "SQL_ASCII"},
    {"default_transaction_read_only": "on"},
    {"default_transaction_isolation": "serializable", "default_transaction_deferrable": "on"},
    {"default_transaction_isolation": "repeatable read"},
    {"statement_timeout": "1s", "lock_timeout": "1s", "idle_in_transaction_session_timeout": "1s"},
    {"row_security": "off"},
    {"synchronous_commit": "off"},
    {"extra_float_digits": "-15"},
    {"transform_null_equals": "on"},
    {"quote_all_identifiers": "on"},
    {"lc_messages": "C", "client_min_messages": "debug1"},
]
TOGETHER: list[dict[str, str]] = [
    {
        "DateStyle": "SQL, DMY",
        "IntervalStyle": "sql_standard",
        "TimeZone": "Pacific/Chatham",
        "bytea_output": "escape",
        "client_encoding": "LATIN1",
        "default_transaction_isolation": "serializable",
        "default_transaction_deferrable": "on",
        "row_security": "off",
        "extra_float_digits": "-15",
    },
    {
        "DateStyle": "German",
        "TimeZone": "<+0530>-5:30",
        "standard_conforming_strings": "off",
        "client_encoding": "SQL_ASCII",
        "default_transaction_isolation": "repeatable read",
        "transform_null_equals": "on",
        "quote_all_identifiers": "on",
        "client_min_messages": "debug1",
    },
    {
        "DateStyle": "Postgres, MDY",
        "default_transaction_read_only": "on",
        "statement_timeout": "1s",
        "lock_timeout": "1s",
        "idle_in_transaction_session_timeout": "1s",
        "synchronous_commit": "off",
    },
]
"""All of them, in as few databases as can have them; each alone costs a second of CPU."""
LETTER = ("--to", "Zoë <zoe@example.com>", "--subject", "Grüße: 3 €", "--text", "日本 {{ '{' }}")


def named(defaults: dict[str, str]) -> str:
    return ", ".join(f"{name}={value}" for name, value in defaults.items())


@pytest.fixture
def odd(postgres_server: PostgresServer) -> Iterator[Callable[..., str]]:
    """Makes an empty database with these defaults; returns its URL."""
    made: list[str] = []

    def make(encoding: str | None = None, **defaults: str) -> str:
        made.append(postgres_server.create_database(encoding=encoding))
        postgres_server.set_defaults(made[-1], **defaults)
        return postgres_server.url(made[-1])

    yield make
    for name in made:
        postgres_server.drop_database(name)


@pytest.mark.parametrize("defaults", [*TOGETHER, *(pytest.param(one, marks=LONG) for one in ODD)], ids=named)
def test_whatever_the_defaults_are_a_mail_is_reserved_sent_and_looked_at(odd, say: Say, smtp_sink, defaults):
    url = odd(**defaults)
    ask = partial(say, DATABASE_URL=url, SMTP_URL=smtp_sink.url, LOG_LEVEL="CRITICAL", SENDER="shop@example.com")
    at = "2026-02-01T09:30:00.123456+01:00"

    def told(*args: str) -> str:
        code, out, err = ask(*args)
        assert (code, err) == (0, ""), args
        return out

    told("migrate")
    reservation_id = told("reserve", *LETTER, "--key", "k", "--at", at).strip()
    code, out, err = ask("reserve", *LETTER, "--key", "k", "--at", at)
    assert (code, out.strip(), err) == (0, reservation_id, "(it was reserved before, under this key)\n")
    code, _, err = ask("reserve", *LETTER, "--key", "k", "--at", "2026-02-01T09:30:00.123457+01:00")
    assert code == 1
    assert "differs in --at" in err
    report = json.loads(told("send-all", "--here", "--no-lock", "--json"))
    assert (report["outcome"], report["sent"], report["errors"]) == ("completed", 1, [])
    shown = json.loads(told("show", reservation_id, "--json"))
    assert (shown["status"], shown["subject"]) == ("sent", "Grüße: 3 €")
    assert datetime.fromisoformat(shown["scheduled_at"]) == datetime(2026, 2, 1, 8, 30, 0, 123456, UTC)
    for args in (("list",), ("runs",), ("explain", reservation_id), ("duplicates",), ("actions",), ("plan",)):
        told(*args)


@pytest.mark.parametrize("encoding", ["SQL_ASCII", "LATIN1", "EUC_JP", "WIN1252"])
@pytest.mark.parametrize("command", ["migrate", "list", "doctor", "send-all --here --no-lock"])
def test_a_database_that_cannot_hold_every_text_is_refused_in_a_line(odd, say: Say, encoding, command):
    code, out, err = say(*command.split(), DATABASE_URL=odd(encoding), REDIS_URL="redis://127.0.0.1:1/0")
    [line] = [line for line in (out + err).splitlines() if "encoding" in line]
    assert code == 1
    assert f"its encoding is {encoding}, and mailbatch needs UTF8" in line
    assert "CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0" in line
    assert "Traceback" not in out + err


def test_a_search_path_that_leads_nowhere_costs_a_line(odd, say: Say):
    url = odd(search_path="nowhere")
    code, _, err = say("migrate", DATABASE_URL=url)
    assert code == 1
    assert err.count("\n") == 1
    assert "MAILBATCH_DATABASE_SCHEMA" in err


def test_short_limits_are_raised_for_our_transactions_and_long_ones_are_kept(odd):
    engine = connect(odd(statement_timeout="99ms", lock_timeout="2min", idle_in_transaction_session_timeout="0"))
    for transaction in (reading, writing):
        with transaction(engine) as connection:
            found = [
                connection.scalar(sa.text(f"SHOW {name}"))
                for name in ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout")
            ]
        assert found == ["30s", "2min", "0"]
    engine.dispose()


def test_where_the_defaults_are_fine_a_transaction_has_no_statement_more(postgres_url):
    engine = connect(postgres_url)
    seen: list[str] = []
    sa.event.listen(engine, "before_cursor_execute", lambda *args: seen.append(args[2]))
    with writing(engine) as connection:
        connection.exec_driver_sql("SELECT 1")
    assert seen[-1] == "SELECT 1"
    assert [text for text in seen if "LOCAL" in text] == []
    engine.dispose()


def test_the_pools_parameters_are_honoured(postgres_url):
    engine = connect(f"{postgres_url}&pool_size=1&max_overflow=0&pool_timeout=0.2&application_name=shop")
    with reading(engine) as connection:
        assert connection.scalar(sa.text("SHOW application_name")) == "shop"
        with pytest.raises(StoreError, match="every database connection of this process is in use"), reading(engine):
            pass
    engine.dispose()


def test_whatever_a_driver_raises_is_one_error_of_ours(database_url):
    engine = connect(database_url)
    statement = sa.select(sa.cast(sa.bindparam("given"), sa.Text))
    too_large = [2**70] if database_url.startswith("sqlite") else []
    for given in ("\ud800", object(), *too_large):
        with pytest.raises(StoreError) as refused, writing(engine) as connection:
            connection.execute(statement, {"given": given}).all()
        assert "\n" not in str(refused.value)
    engine.dispose()


def test_a_date_that_the_driver_cannot_read_is_one_error_of_ours(postgres_url):
    engine = connect(postgres_url)
    with pytest.raises(StoreError, match="database postgresql://"), reading(engine) as connection:
        connection.execute(sa.text("SELECT 'infinity'::date")).all()
    engine.dispose()


def test_a_time_limit_of_celery_is_not_taken_for_an_error_of_the_driver(sqlite_url):
    from celery.exceptions import SoftTimeLimitExceeded

    engine = connect(sqlite_url)

    def late(*_: Any) -> None:
        raise SoftTimeLimitExceeded

    sa.event.listen(engine, "before_cursor_execute", late)
    with pytest.raises(SoftTimeLimitExceeded), engine.connect() as connection:
        connection.exec_driver_sql("SELECT 1")
    engine.dispose()


# --- the application's own connection ---

# Nothing can be written over the one, and SQLAlchemy itself cannot connect over the other.
FOREIGN = ("default_transaction_read_only=on", "client_encoding=SQL_ASCII")
TOKYO = timezone(timedelta(hours=9))
MAIL: dict[str, Any] = {
    "to": "Zoë <zoe@example.com>",
    "subject": "Grüße",
    "text": "Hello {{ name }}",
    "context": {"name": "Zoë", "sum": 1.25, "list": [1, {"a": None}]},
    "at": datetime(2030, 1, 1, 9, 0, 0, 1, TOKYO),
    "expires": datetime(2031, 1, 1, tzinfo=UTC),
    "key": "k",
}


@pytest.mark.parametrize("defaults", [d for d in ODD if named(d) not in FOREIGN], ids=named)
def test_a_key_is_known_again_over_a_connection_of_any_kind(postgres_server, postgres_url, defaults):
    postgres_server.set_defaults(sa.make_url(postgres_url).database, **defaults)
    engine = sa.create_engine(postgres_url)
    with Session(engine) as session, session.begin():
        first = reserve(session, **MAIL)
    with Session(engine) as session, session.begin():
        assert reserve(session, **MAIL) == first
        with pytest.raises(KeyConflict, match="differs in subject, context, at;"):
            reserve(session, **{**MAIL, "subject": "Grüsse", "context": {}, "at": datetime(2030, 1, 1, tzinfo=UTC)})
        assert cancel(session, first)
        assert cancel(session, first), "it is"
    engine.dispose()


def test_an_engine_that_reads_json_in_its_own_way_knows_a_key_again(database_url):
    engine = sa.create_engine(database_url, json_deserializer=partial(json.loads, parse_float=Decimal))
    with engine.begin() as connection:
        assert reserve(connection, **MAIL) == reserve(connection, **MAIL)
    engine.dispose()


def test_what_the_connections_encoding_cannot_carry_is_one_clear_error(postgres_url):
    engine = sa.create_engine(postgres_url, connect_args={"client_encoding": "latin1"})
    with engine.connect() as connection:
        with pytest.raises(StoreError, match="connect with client_encoding=utf8"):
            reserve(connection, **{**MAIL, "text": "3 €"})
        assert isinstance(reserve(connection, **MAIL), UUID)
    engine.dispose()


def test_what_another_stored_and_the_connection_cannot_read_is_one_clear_error(postgres_url):
    with psycopg.connect(postgres_url.replace("+psycopg", "")) as connection:
        connection.execute(
            "INSERT INTO mail_reservations (recipients, subject, body_text, idempotency_key) VALUES (%s, %s, %s, %s)",
            ("a@example.com", "3 €", "x", "k"),
        )
    engine = sa.create_engine(postgres_url, connect_args={"client_encoding": "latin1"})
    with engine.connect() as connection, pytest.raises(StoreError, match="connect with client_encoding=utf8"):
        reserve(connection, **MAIL)
    engine.dispose()


def test_a_row_in_the_way_that_cannot_be_read_is_an_error_and_no_endless_loop(postgres_url):
    engine = sa.create_engine(postgres_url)
    with engine.begin() as connection:
        reserve(connection, **MAIL)
        for statement in (
            "CREATE ROLE blind",
            "GRANT SELECT, INSERT ON mail_reservations TO blind",
            "ALTER TABLE mail_reservations ENABLE ROW LEVEL SECURITY",
            "CREATE POLICY write ON mail_reservations FOR INSERT TO blind WITH CHECK (true)",
        ):
            connection.exec_driver_sql(statement)
    try:
        with engine.connect() as connection:
            connection.exec_driver_sql("SET ROLE blind")
            with pytest.raises((StoreError, sa.exc.DBAPIError)):
                reserve(connection, **MAIL)
    finally:
        with engine.begin() as connection:
            connection.exec_driver_sql("DROP OWNED BY blind")
            connection.exec_driver_sql("DROP ROLE blind")
        engine.dispose()
