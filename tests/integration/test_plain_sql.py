"""The table as any language sees it: what an INSERT may leave out, and what the database refuses by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

import pytest
import sqlalchemy as sa
from sqlalchemy import exc

from mailbatch.bootstrap import Parts
from mailbatch.config import Settings
from mailbatch.domain.claimed import Claimed, Page
from mailbatch.domain.errors import CannotCompose
from mailbatch.domain.retry import RetryPolicy
from mailbatch.domain.rows import ReservationRow
from mailbatch.domain.run import Trigger
from mailbatch.domain.selection import Selection
from mailbatch.infrastructure.db.backlog import SqlBacklog
from mailbatch.infrastructure.db.engine import connect
from mailbatch.infrastructure.db.reports import SqlReports
from mailbatch.infrastructure.db.reservations import SqlReservations
from mailbatch.infrastructure.db.runs import SqlRuns

if TYPE_CHECKING:
    from sqlalchemy.engine import Engine

GOOD = {"recipients": "'a@example.com'", "subject": "'s'", "body_text": "'t'"}


def insert(engine: Engine, **columns: str) -> None:
    """INSERT with values written as SQL, by a connection that knows nothing of us."""
    given = {**GOOD, **columns}
    with sa.create_engine(engine.url, poolclass=sa.NullPool).begin() as connection:
        connection.exec_driver_sql(
            f"INSERT INTO mail_reservations ({', '.join(given)}) VALUES ({', '.join(given.values())})"  # noqa: S608
        )


def backlog_of(engine: Engine) -> SqlBacklog:
    return SqlBacklog(engine=engine, lease=60, retry=RetryPolicy(), message_id_domain="example.com")


def claim(engine: Engine, backlog: SqlBacklog) -> Page:
    run_id = UUID("01a1fc13-5b7f-765d-b8e1-ae4a84d64a17")
    SqlRuns(engine).open(run_id, "send-all", Trigger.MANUAL, 1)
    return backlog.claim(run_id, 0, None, 10)


def test_three_columns_are_enough(engine):
    with sa.create_engine(engine.url, poolclass=sa.NullPool).begin() as connection:
        connection.exec_driver_sql(
            "INSERT INTO mail_reservations (recipients, subject, body_text) "
            "VALUES ('ada@example.com', 'Grüße, 山田さん 🎉', 'Hello')"
        )
    census = SqlReports(engine).census()
    assert (census.due, census.oldest_due_seconds < 60) == (1, True)
    backlog = backlog_of(engine)
    page = claim(engine, backlog)
    [claimed] = page.claimed
    assert isinstance(claimed, Claimed)
    assert isinstance(claimed.claim.reservation_id, UUID)
    [mail] = backlog.load(page.claimed)
    assert mail.mail.subject == "Grüße, 山田さん 🎉"
    row = SqlReservations(engine).get(claimed.claim.reservation_id)
    assert row is not None
    assert (row.priority, row.attempts, row.status) == (0, 0, "sending")


def test_ids_of_the_database_are_all_different(engine):
    for _ in range(50):
        insert(engine)
    with engine.connect() as connection:
        ids = set(connection.exec_driver_sql("SELECT CAST(id AS text) FROM mail_reservations").scalars())
    assert len(ids) == 50
    assert {UUID(i).version for i in ids} == {4}
    assert all(str(UUID(i)) == i for i in ids)


@pytest.mark.parametrize(
    ("columns", "constraint"),
    [
        ({"recipients": "' '"}, "recipients"),
        ({"recipients": "NULL"}, "recipients"),
        ({"subject": "NULL"}, "subject"),
        ({"body_text": "NULL"}, "body"),
        ({"status": "'done'"}, "status"),
        ({"status": "'sending'"}, "lease"),
        ({"context": "'[1]'"}, "context"),
        ({"headers": "'\"x\"'"}, "headers"),
        ({"scheduled_at": "'1969-12-31 23:59:59.999'"}, "scheduled_at"),
        ({"expires_at": "'1969-12-31 23:59:59.999'"}, "expires_at"),
    ],
)
def test_nonsense_is_refused(engine, columns, constraint):
    with pytest.raises(exc.IntegrityError, match=constraint):
        insert(engine, **columns)


@pytest.mark.parametrize("when", ["'infinity'", "'-infinity'", "'10000-01-01 00:00:00Z'", "'0044-03-15 BC'"])
def test_postgresql_refuses_times_that_nobody_can_read(postgres_url, when):
    engine = connect(postgres_url)
    with pytest.raises(exc.DBAPIError, match="scheduled_at_year"):
        insert(engine, scheduled_at=when)
    engine.dispose()


@pytest.mark.parametrize(
    "when",
    [
        "'2026-12-01'",
        "'2026-12-01 09:00:00'",
        "'2026-12-01T09:00:00.000'",
        "'2026-12-01 09:00:00.000+09:00'",
        "'2026-12-01 09:00:00.000Z'",
        "'2026-12-01 09:00:00.123456'",
        "'2026-02-30 09:00:00.000'",
        "'10000-01-01 00:00:00.000'",
        "'2026-12-01 24:00:00.000'",
        "'now'",
        "'infinity'",
        "'tomorrow'",
        "''",
        "1796083200",
    ],
)
def test_sqlite_takes_the_one_stored_form_of_a_time_alone(sqlite_url, when):
    engine = connect(sqlite_url)
    # 'now' is refused by SQLite itself: a CHECK must not depend on the clock.
    with pytest.raises(exc.DBAPIError, match=r"scheduled_at_form|non-deterministic"):
        insert(engine, scheduled_at=when)
    insert(engine, scheduled_at="'2026-12-01 09:00:00.000'")
    engine.dispose()


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("id", "'x'"),
        ("id", "'0192AAAA-7A1E-7CC0-9F5E-3B1A52D0C9AA'"),
        ("id", "x'0192aaaa7a1e7cc09f5e3b1a52d0c9aa'"),
        ("priority", "'high'"),
        ("priority", "1.5"),
    ],
)
def test_sqlite_refuses_what_would_keep_a_run_from_reading_the_rest(sqlite_url, column, value):
    engine = connect(sqlite_url)
    with pytest.raises(exc.IntegrityError, match=f"{column}_form"):
        insert(engine, **GOOD, **{column: value})
    insert(engine, **GOOD, id="'0192aaaa-7a1e-7cc0-9f5e-3b1a52d0c9aa'", priority="'7'")
    engine.dispose()


@pytest.mark.parametrize("text", ["''", "'{'", "'{''a'': 1}'", "'{\"a\": 1,}'", "5"])
def test_sqlite_takes_strict_json_alone(sqlite_url, text):
    engine = connect(sqlite_url)
    with pytest.raises(exc.IntegrityError, match="context"):
        insert(engine, context=text)
    insert(engine, context="'null'")
    engine.dispose()


def test_a_key_is_unique_and_no_key_is_no_key(engine):
    insert(engine, idempotency_key="'k'")
    with pytest.raises(exc.IntegrityError, match="idempotency_key"):
        insert(engine, idempotency_key="'k'")
    insert(engine)
    insert(engine)


@pytest.mark.parametrize("value", ["9" * 5000, "[" * 990 + "]" * 990], ids=["digits", "levels"])
def test_json_that_python_cannot_read_holds_up_no_other_mail(engine, value):
    insert(engine, context=f"'{{\"x\": {value}}}'")
    insert(engine)
    backlog = backlog_of(engine)
    first, second = backlog.load(claim(engine, backlog).claimed)
    contexts = [first.mail.context, second.mail.context]
    assert None in contexts
    assert len(SqlReservations(engine).select(Selection(), ReservationRow, None, 10)) == 2
    mail = next(m for m in (first, second) if m.mail.context is not None)
    compose = Parts(Settings(database_url=str(engine.url), sender="s@example.com")).sending.compose
    if isinstance(mail.mail.context, str):
        with pytest.raises(CannotCompose):
            compose(mail)
    else:
        compose(mail)
