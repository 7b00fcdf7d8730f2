"""What may concern a whole table is done in portions, between which a run goes on; on both databases."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa
from sqlalchemy import event
from support.backlogs import reserve, states
from support.operating import act_on_all

from mailbatch.application.acting import act as acts
from mailbatch.application.acting.purge import Purge
from mailbatch.domain.act import Act
from mailbatch.domain.reservation import Status
from mailbatch.domain.retry import RetryPolicy
from mailbatch.domain.selection import ErrorsOf, Selection, Tagged
from mailbatch.infrastructure.db import interventions
from mailbatch.infrastructure.db.backlog import SqlBacklog
from mailbatch.infrastructure.db.engine import connect
from mailbatch.infrastructure.db.files import SqlFiles
from mailbatch.infrastructure.db.interventions import SqlInterventions
from mailbatch.infrastructure.db.tables import batch_runs, mail_reservations, run_errors

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy.engine import Connection, Engine

OLD = datetime.now(UTC) - timedelta(days=9)


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    engine = connect(database_url)
    yield engine
    engine.dispose()


@pytest.fixture(params=["as it plans", "by nested loops"])
def planned(engine: Engine, request: pytest.FixtureRequest) -> Engine:
    """An engine whose planner chooses as it will, or joins by nested loops alone, as it does where it expects few."""
    if request.param == "by nested loops":
        if engine.dialect.name != "postgresql":
            pytest.skip("SQLite joins by nested loops alone")

        @event.listens_for(engine, "begin")
        def _only_loops(connection: Connection) -> None:
            for way in ("hashjoin", "mergejoin", "hashagg", "sort", "material"):
                connection.exec_driver_sql(f"SET LOCAL enable_{way} = off")

    return engine


@pytest.fixture
def largest(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The rows that each transaction changed; a portion has three of them at most."""
    monkeypatch.setattr(acts, "PORTION", 3)
    changed: list[int] = []
    before: dict[Any, int] = {}

    @event.listens_for(engine, "after_cursor_execute")
    def _count(connection: Connection, cursor: Any, _text: str, _given: object, context: Any, *_more: object) -> None:
        if context.isupdate or context.isdelete:
            connection.info["changed"] = cursor.rowcount

    @event.listens_for(engine, "commit")
    def _note(connection: Connection) -> None:
        driver: Any = connection.connection.driver_connection
        rows = connection.info.pop("changed", None)
        if engine.dialect.name == "sqlite":
            # With RETURNING a cursor gives no number of rows.
            total = driver.total_changes
            rows = None if rows is None else total - before.get(driver, 0)
            before[driver] = total
        if rows is not None:
            changed.append(rows)

    return changed


def of_run(engine: Engine, database_url: str, count: int) -> UUID:
    """A run to whose errors ``count`` mails belong that failed, each twice."""
    run_id = uuid4()
    with engine.begin() as connection:
        connection.execute(sa.insert(batch_runs).values(run_id=run_id, job="send-all", trigger="beat"))
        ids = connection.execute(sa.select(mail_reservations.c.id).limit(count)).scalars().all()
        errors = [{"run_id": run_id, "item_index": i, "reservation_id": own} for i, own in enumerate([*ids, *ids])]
        connection.execute(sa.insert(run_errors), [row | {"errors": []} for row in errors])
    return run_id


def test_a_campaign_is_cancelled_a_portion_at_a_time(engine, database_url, largest):
    reserve(database_url, 8, tag="spring")
    reserve(database_url, 2, tag="spring", status="sent")
    done = act_on_all(engine, Act.CANCEL, Tagged("spring"))
    assert (done.changed, done.left) == (8, {Status.SENT: 2})
    assert (sum(largest), max(largest)) == (8, 3)


def test_all_that_failed_go_again_a_portion_at_a_time(engine, database_url, largest):
    reserve(database_url, 8, status="failed", finished_at=OLD)
    reserve(database_url, 1, status="failed", finished_at=OLD, expires_at=OLD)
    done = act_on_all(engine, Act.REQUEUE, Selection(status=Status.FAILED))
    assert (done.changed, done.left) == (8, {Status.FAILED: 1})
    assert (sum(largest), max(largest)) == (8, 3)


def test_what_a_run_failed_goes_again_a_portion_at_a_time(engine, database_url, largest):
    reserve(database_url, 8, status="failed", finished_at=OLD)
    done = act_on_all(engine, Act.REQUEUE, ErrorsOf(of_run(engine, database_url, 8)))
    assert (done.changed, done.left) == (8, {})
    assert (sum(largest), max(largest)) == (8, 3)
    assert states(database_url) == {"pending": 8}


def test_an_act_that_breaks_off_has_done_whole_portions(engine, database_url, largest):
    reserve(database_url, 8, tag="spring")

    @event.listens_for(engine, "begin")
    def _break_off(_connection: object) -> None:
        if sum(largest) >= 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        act_on_all(engine, Act.CANCEL, Tagged("spring"))
    assert states(database_url) == {"cancelled": 3, "pending": 5}


def test_old_reports_of_runs_are_purged_a_portion_at_a_time(engine, database_url, largest):
    rows = [{"run_id": uuid4(), "job": "send-all", "trigger": "beat", "finished_at": OLD} for _ in range(8)]
    young = rows[0] | {"run_id": uuid4(), "finished_at": datetime.now(UTC)}
    with engine.begin() as connection:
        connection.execute(sa.insert(batch_runs), [*rows, young])
    assert SqlInterventions(engine).purge_runs(86_400, 3) == 8
    assert (sum(largest), max(largest)) == (8, 3)
    with engine.begin() as connection:
        assert list(connection.scalars(sa.select(batch_runs.c.run_id))) == [young["run_id"]]


def test_a_purge_reads_no_row_twice_and_finds_what_has_no_time_of_its_end(planned, database_url, largest):
    for status in ("sent", "expired"):
        reserve(database_url, 4, status=status, created_at=OLD, finished_at=OLD)
        reserve(database_url, 4, status=status, created_at=OLD)
        reserve(database_url, 1, status=status, created_at=OLD, finished_at=datetime.now(UTC))
    assert Purge(interventions=SqlInterventions(planned), files=SqlFiles(planned), page=3)(86_400) == 16
    assert (sum(largest), max(largest)) == (16, 3)
    assert states(database_url) == {"sent": 1, "expired": 1}


def test_a_run_expires_no_more_at_once_than_it_asked_for(planned, database_url, largest):
    reserve(database_url, 8, expires_at=OLD)
    reserve(database_url, 8, scheduled_at=OLD)
    backlog = SqlBacklog(
        engine=planned, lease=60, retry=RetryPolicy(max_attempts=3), message_id_domain="x", max_lateness=100
    )
    assert [backlog.expire(3) for _ in range(7)] == [3, 3, 3, 3, 3, 1, 0]
    assert states(database_url) == {"expired": 16}


def test_a_lane_claims_no_more_at_once_than_it_asked_for(planned, database_url, largest):
    reserve(database_url, 8)
    backlog = SqlBacklog(engine=planned, lease=60, retry=RetryPolicy(max_attempts=3), message_id_domain="x")
    run = uuid4()
    with planned.begin() as connection:
        connection.execute(sa.insert(batch_runs).values(run_id=run, job="send-all", trigger="manual"))
    assert [len(backlog.claim(run, 0, None, 3).claimed) for _ in range(4)] == [3, 3, 2, 0]


def test_a_portion_leaves_a_run_that_is_sending_as_much_time_as_it_took(engine, database_url, largest, monkeypatch):
    monkeypatch.setattr(interventions, "_MANY", 2)
    monkeypatch.setattr(interventions, "_REST", 1e9)
    monkeypatch.setattr(interventions, "_LONGEST_REST", 0.05)
    reserve(database_url, 6, tag="spring")
    reserve(database_url, 1, status="sending", lease_until=datetime.now(UTC) + timedelta(minutes=1))
    began = time.monotonic()
    act_on_all(engine, Act.CANCEL, Tagged("spring"))
    assert time.monotonic() - began > 2 * 0.05


@pytest.mark.parametrize("older", [0.0, 3600.0])
def test_rests_are_for_runs_that_live(engine, database_url, largest, monkeypatch, older):
    monkeypatch.setattr(interventions, "_MANY", 2)
    monkeypatch.setattr(interventions, "_REST", 1e9)
    monkeypatch.setattr(interventions, "_LONGEST_REST", 30.0)
    reserve(database_url, 6, tag="spring")
    if older:
        reserve(database_url, 1, status="sending", lease_until=datetime.now(UTC) - timedelta(seconds=older))
    began = time.monotonic()
    act_on_all(engine, Act.CANCEL, Tagged("spring"))
    assert time.monotonic() - began < 30
