"""Reserving from Python, inside the caller's own transaction."""

from __future__ import annotations

import subprocess
import sys
import threading
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum
from types import MappingProxyType
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session
from support.waiting import wait_until

from mailbatch.client import cancel, reserve
from mailbatch.domain.errors import InvalidReservation, KeyConflict
from mailbatch.infrastructure.db.engine import connect
from mailbatch.infrastructure.db.tables import mail_reservations

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy.engine import Engine

LETTER: dict[str, Any] = {"to": "ada@example.com", "subject": "Hello", "text": "Hello."}


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    """The caller's engine: SQLAlchemy's own, with none of our settings."""
    engine = sa.create_engine(database_url)
    yield engine
    engine.dispose()


@pytest.fixture
def postgres(postgres_url: str) -> Iterator[Engine]:
    engine = sa.create_engine(postgres_url)
    yield engine
    engine.dispose()


def count(engine: Engine) -> int:
    with engine.connect() as connection:
        return connection.execute(sa.select(sa.func.count()).select_from(mail_reservations)).scalar_one()


def test_what_is_committed_is_reserved(engine):
    with Session(engine) as session, session.begin():
        reservation_id = reserve(
            session,
            to=["Ada <ada@example.com>", "bob@example.com"],
            subject="Grüße",
            html="<p>Hi {{ name }}</p>",
            context={"name": "Ada"},
            at=datetime(2030, 1, 1, tzinfo=UTC),
            key="k",
            tag="t",
        )
    assert reservation_id.version == 7
    with engine.connect() as connection:
        row = connection.execute(sa.select(mail_reservations)).mappings().one()
    assert row["id"] == reservation_id
    assert row["recipients"] == "Ada <ada@example.com>, bob@example.com"
    assert (row["body_html"], row["context"], row["status"]) == ("<p>Hi {{ name }}</p>", {"name": "Ada"}, "pending")


class Size(Enum):
    BIG = "big"


def test_a_context_is_stored_as_json_by_one_rule(engine):
    number = UUID("9f0c1a52-94f8-4f0e-8b5e-0a5b1f4b7c11")
    context = {
        "price": Decimal("19.90"),
        "large": Decimal("1E+3"),
        "day": date(2026, 12, 24),
        "at": datetime(2026, 12, 24, 9, tzinfo=timezone(timedelta(hours=9))),
        "hour": time(9, 30),
        "id": number,
        "size": Size.BIG,
        "rows": [{"price": Decimal("0.10")}, (1, Decimal(2))],
        "map": MappingProxyType({number: Decimal(1)}),
        "ratio": 0.5,
        "nothing": None,
    }
    with Session(engine) as session, session.begin():
        reserve(session, **LETTER, context=context, key="k")
        reserve(session, **LETTER, context=context, key="k")
    with engine.connect() as connection:
        stored = connection.execute(sa.select(mail_reservations.c.context)).scalar_one()
    assert stored == {
        "price": "19.90",
        "large": "1000",
        "day": "2026-12-24",
        "at": "2026-12-24T09:00:00+09:00",
        "hour": "09:30:00",
        "id": str(number),
        "size": "big",
        "rows": [{"price": "0.10"}, [1, "2"]],
        "map": {str(number): "1"},
        "ratio": 0.5,
        "nothing": None,
    }


def test_numbers_that_a_plain_insert_brings_are_the_same_on_both_databases(engine):
    given = {
        "1e2": 100,
        "1.50e1": 15.0,
        "0e5": 0,
        "1E+16": 10**16,
        "1e22": 10**22,
        "19.90": 19.9,
        "-0.0": 0.0,
        "1.5e-7": 1.5e-7,
        "12345678901234567890": 12345678901234567890,
    }
    with engine.begin() as connection:
        columns = "(recipients, subject, body_text, context)"
        numbers = f"('a@example.com', 's', 't', '{{\"n\": [{', '.join(given)}]}}')"
        connection.exec_driver_sql(f"INSERT INTO mail_reservations {columns} VALUES {numbers}")  # noqa: S608 - our own
    ours = connect(engine.url.render_as_string(hide_password=False))
    with ours.connect() as connection:
        read = connection.execute(sa.select(mail_reservations.c.context)).scalar_one()["n"]
    ours.dispose()
    assert [(type(one), str(one)) for one in read] == [(type(one), str(one)) for one in given.values()]


def test_what_is_rolled_back_was_never_reserved(engine):
    with Session(engine) as session:
        reserve(session, **LETTER)
        session.rollback()
    with engine.connect() as connection:
        reserve(connection, **LETTER)
    assert count(engine) == 0


def test_a_savepoint_takes_its_reservations_with_it(postgres):
    with Session(postgres) as session, session.begin():
        reserve(session, **LETTER)
        inner = session.begin_nested()
        reserve(session, **LETTER)
        inner.rollback()
    assert count(postgres) == 1


def test_a_refusal_leaves_the_callers_transaction_as_it_was(engine):
    with engine.begin() as connection:
        first = reserve(connection, **LETTER, key="k")
        with pytest.raises(KeyConflict):
            reserve(connection, **{**LETTER, "subject": "Other"}, key="k")
        with pytest.raises(InvalidReservation, match="subject"):
            reserve(connection, **{**LETTER, "subject": "a\nb"})
        assert reserve(connection, **LETTER, key="k") == first
    assert count(engine) == 1


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"to": "nobody"}, 'to: "nobody" is no address'),
        ({"to": ""}, "to: is empty"),
        ({"text": None}, "text: is missing; give text, html or a template"),
        ({"text": "a\x00"}, "text: has a NUL"),
        ({"html": "a\ud800"}, "html: has a lone surrogate"),
        ({"at": datetime(2026, 1, 1)}, "at: 2026-01-01T00:00:00 has no time zone"),  # noqa: DTZ001 - that is the point
        ({"at": datetime(1960, 1, 1, tzinfo=UTC)}, "at: 1960-01-01T00:00:00+00:00 is outside"),
        (
            {"at": datetime(2030, 1, 2, tzinfo=UTC), "expires": datetime(2030, 1, 1, tzinfo=UTC)},
            "expires: is not after at, so",
        ),
        ({"key": "x" * 256}, "key: has 256 characters"),
    ],
)
def test_what_is_wrong_is_called_as_the_argument_is_called(sqlite_url, given, said):
    engine = sa.create_engine(sqlite_url, poolclass=sa.NullPool)
    with engine.connect() as connection, pytest.raises(InvalidReservation) as caught:
        reserve(connection, **{**LETTER, **given})
    assert [problem.startswith(said) for problem in caught.value.problems] == [True], caught.value.problems


def test_a_key_that_was_used_is_called_key_and_what_differs_as_its_argument(engine):
    with engine.begin() as connection:
        reserve(connection, **LETTER, key="k")
        with pytest.raises(KeyConflict, match=r"^key: 'k' was used before, for .* differs in at"):
            reserve(connection, **LETTER, key="k", at=datetime(2030, 1, 1, tzinfo=UTC))


def test_a_time_must_be_one(engine):
    with engine.connect() as connection:
        with pytest.raises(InvalidReservation, match="at: must be a datetime with a time zone, not str"):
            reserve(connection, **LETTER, at="2026-01-01T00:00:00Z")
        with pytest.raises(InvalidReservation, match="has no time zone"):
            reserve(connection, **LETTER, at=datetime(2026, 1, 1))  # noqa: DTZ001 - that is the point


def test_a_cancel_is_the_callers_to_commit(engine):
    with engine.begin() as connection:
        kept, gone = reserve(connection, **LETTER), reserve(connection, **LETTER)
    with engine.connect() as connection:
        assert cancel(connection, kept)
    with Session(engine) as session, session.begin():
        assert cancel(session, gone)
        assert cancel(session, gone)
        assert not cancel(session, uuid4())
    with engine.connect() as connection:
        states = dict(connection.execute(sa.select(mail_reservations.c.id, mail_reservations.c.status)).all())
    assert states == {kept: "pending", gone: "cancelled"}


@pytest.mark.parametrize("committed", [True, False])
def test_of_two_at_once_with_one_key_the_second_waits_for_the_first(postgres, committed):
    answers = []

    def second() -> None:
        with postgres.begin() as connection:
            answers.append(reserve(connection, **LETTER, key="order-1"))

    thread = threading.Thread(target=second)
    with postgres.connect() as connection, postgres.connect() as watcher:
        first = reserve(connection, **LETTER, key="order-1")
        thread.start()
        waiting = sa.text("SELECT count(*) FROM pg_locks WHERE NOT granted")
        wait_until(lambda: watcher.execute(waiting).scalar_one(), 10, "the second waits for the first")
        assert answers == []
        if committed:
            connection.commit()
        else:
            connection.rollback()
    thread.join(10)
    assert (answers == [first]) is committed
    assert len(answers) == 1
    assert count(postgres) == 1


def test_the_client_needs_no_celery():
    code = "import sys, mailbatch.client; print([m for m in sys.modules if m.split('.')[0] in ('celery', 'redis')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("field", ["to", "cc", "bcc", "reply_to"])
def test_who_is_given_as_one_address_is_one(engine, field):
    given = {**LETTER, field: ["Ann <ann@example.com>", "eve@example.com, mallory@example.com"]}
    with Session(engine) as session, session.begin():
        with pytest.raises(InvalidReservation, match=f"{field}: 'eve@example.com, mallory@example.com' is more than"):
            reserve(session, **given)
        with pytest.raises(InvalidReservation, match="is more than one address"):
            reserve(session, **{**LETTER, field: ['"a', "bob@example.com", 'b" <eve@example.com>']})
        reserve(session, **{**LETTER, field: ['"Doe, Ann" <ann@example.com>', "bob@example.com (Bob, B.)"]})
    assert count(engine) == 1


def test_a_pair_reaches_one_person_whatever_the_name_is(engine):
    given: dict[str, Any] = {
        **LETTER,
        "to": ("Müller, Zoë", "zoe@example.com"),
        "cc": [("eve@example.com, x", "ann@example.com"), "bob@example.com"],
        "sender": ("House; Garden", "house@example.com"),
        "headers": {"X-Tag": ("a", "b"), "List-Id": "Bücher <news.example.com>"},
    }
    with Session(engine) as session, session.begin():
        first = reserve(session, **given, key="k")
        assert reserve(session, **given, key="k") == first
        with pytest.raises(InvalidReservation, match=r"to: .* may be two addresses"):
            reserve(session, **{**given, "to": ("eve@example.com", "zoe@example.com")})
        with pytest.raises(InvalidReservation, match="cc: 5 is neither an address nor a pair"):
            reserve(session, **{**given, "cc": [5]})
    with engine.connect() as connection:
        row = connection.execute(sa.select(mail_reservations)).mappings().one()
    assert row["recipients"] == '"Müller, Zoë" <zoe@example.com>'
    assert row["cc"] == '"eve@example.com, x" <ann@example.com>, bob@example.com'
    assert row["sender"] == '"House; Garden" <house@example.com>'
    assert row["headers"] == {"X-Tag": ["a", "b"], "List-Id": "Bücher <news.example.com>"}
