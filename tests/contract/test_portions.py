"""What may concern a whole table is done in portions, between which a run goes on; on both databases."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa
from sqlalchemy import event
from support.backlogs import reserve, states
from support.operating import act_on_all, steady

from mailbatch.application.acting.purge import Purge
from mailbatch.domain.act import Act
from mailbatch.domain.reservation import Status
from mailbatch.domain.retry import RetryPolicy
from mailbatch.domain.selection import ErrorsOf, Selection, Tagged
from mailbatch.infrastructure.db import portions, unneeded_files
from mailbatch.infrastructure.db.backlog import SqlBacklog
from mailbatch.infrastructure.db.engine import connect
from mailbatch.infrastructure.db.files import SqlFiles
from mailbatch.infrastructure.db.interventions import SqlInterventions
from mailbatch.infrastructure.db.portions import Portions
from mailbatch.infrastructure.db.tables import batch_runs, mail_files, mail_reservations, run_errors

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy.engine import Connection, Engine

OLD = datetime.now(UTC) - timedelta(days=9)


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
def largest(engine: Engine) -> list[int]:
    """The rows that each transaction changed; a portion has three of them at most."""
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


def test_after_a_cancel_no_claim_passes_over_the_mails_that_were_cancelled(postgres_url):
    engine = connect(postgres_url)
    reserve(postgres_url, 600, tag="spring")
    act_on_all(engine, Act.CANCEL, Tagged("spring"), steady(200))
    with engine.begin() as connection:
        for way in ("seqscan", "bitmapscan"):
            connection.exec_driver_sql(f"SET LOCAL enable_{way} = off")
        highest = "SELECT max(priority) FROM mail_reservations WHERE status = 'pending'"
        plan = connection.exec_driver_sql(f"EXPLAIN (ANALYZE, FORMAT JSON) {highest}").scalar_one()
    engine.dispose()
    read = [node["Heap Fetches"] for node in nodes(plan[0]["Plan"]) if "Heap Fetches" in node]
    assert read == [0]


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for below in plan.get("Plans", ()):
        yield from nodes(below)


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
    assert SqlInterventions(engine, steady(3)).purge_runs(86_400) == 8
    assert (sum(largest), max(largest)) == (8, 3)
    with engine.begin() as connection:
        assert list(connection.scalars(sa.select(batch_runs.c.run_id))) == [young["run_id"]]


def test_a_purge_reads_no_row_twice_and_finds_what_has_no_time_of_its_end(planned, database_url, largest):
    for status in ("sent", "expired"):
        reserve(database_url, 4, status=status, created_at=OLD, finished_at=OLD)
        reserve(database_url, 4, status=status, created_at=OLD)
        reserve(database_url, 1, status=status, created_at=OLD, finished_at=datetime.now(UTC))
    assert Purge(interventions=SqlInterventions(planned, steady(3)), files=SqlFiles(planned))(86_400) == 16
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


class Timed:
    """A clock by which each portion takes the next of ``took`` seconds, the last of them again and again."""

    def __init__(self, *took: float) -> None:
        self._took = list(took)
        self._now = 0.0
        self._begins = False
        self.rests: list[float] = []
        self.portions = Portions(clock=self._time, pause=self.rests.append, size=8)

    def _time(self) -> float:
        self._begins = not self._begins
        if not self._begins:
            self._now += self._took.pop(0) if len(self._took) > 1 else self._took[0]
        return self._now


@pytest.mark.parametrize(
    ("took", "rows"),
    [
        ([0.02], [8] * 8),
        ([0.03, 0.02], [8, 4] + [4] * 13),
        ([0.001, 0.001, 0.02], [8, 16, 32, 8]),
        ([0.03, 0.001, 0.02], [8, 4, *[8] * 6, 4]),
        ([0.03], [8] + [5] * 11 + [1]),
    ],
)
def test_a_portion_has_more_rows_after_a_short_one_and_fewer_after_a_long_one(
    engine, database_url, largest, monkeypatch, took, rows
):
    monkeypatch.setattr(portions, "LEAST", 5 if len(took) == 1 else 1)
    reserve(database_url, 64, tag="spring")
    act_on_all(engine, Act.CANCEL, Tagged("spring"), Timed(*took).portions)
    assert largest == rows


def test_a_portion_of_few_rows_does_not_make_the_next_one_larger(engine, database_url):
    reserve(database_url, 7, tag="spring")
    timed = Timed(0.001)
    act_on_all(engine, Act.CANCEL, Tagged("spring"), timed.portions)
    assert timed.portions.size == 8


def test_after_a_portion_a_run_that_is_sending_has_four_times_as_long_for_itself(engine, database_url):
    reserve(database_url, 24, tag="spring")
    reserve(database_url, 1, status="sending", lease_until=datetime.now(UTC) + timedelta(minutes=1))
    timed = Timed(0.02, 0.015, 0.5)
    act_on_all(engine, Act.CANCEL, Tagged("spring"), timed.portions)
    assert timed.rests == [pytest.approx(0.08), pytest.approx(0.06), 1.0]


@pytest.mark.parametrize("older", [0.0, 3600.0])
def test_rests_are_for_runs_that_live(engine, database_url, older):
    reserve(database_url, 6, tag="spring")
    if older:
        reserve(database_url, 1, status="sending", lease_until=datetime.now(UTC) - timedelta(seconds=older))
    timed = Timed(0.02)
    act_on_all(engine, Act.CANCEL, Tagged("spring"), timed.portions)
    assert timed.rests == []


def test_the_errors_of_an_old_run_are_purged_a_portion_at_a_time(engine, database_url, largest):
    reserve(database_url, 4)
    of_run(engine, database_url, 4)
    with engine.begin() as connection:
        connection.execute(sa.update(batch_runs).values(finished_at=OLD))
    largest.clear()
    assert SqlInterventions(engine, steady(3)).purge_runs(86_400) == 1
    assert largest == [3, 3, 2, 1]
    with engine.begin() as connection:
        assert connection.scalar(sa.select(sa.func.count()).select_from(run_errors)) == 0


@pytest.mark.parametrize("most_bytes", [100, 2])
def test_on_sqlite_files_are_purged_a_portion_at_a_time(engine, largest, monkeypatch, most_bytes):
    monkeypatch.setattr(unneeded_files, "PAGE", 5)
    monkeypatch.setattr(unneeded_files, "MOST_BYTES", most_bytes)
    names = sorted(f"{n:064}" for n in range(8))
    with engine.begin() as connection:
        rows = [{"id": name, "content": b"x", "touched_at": OLD} for name in names]
        connection.execute(sa.insert(mail_files), rows)
        mail = {"recipients": "ann@example.org", "subject": "s", "body_text": "t"}
        connection.execute(sa.insert(mail_reservations).values(attachments=[{"file": names[3]}], **mail))
    largest.clear()
    assert SqlFiles(engine, steady(3)).purge() == 7
    portions = [3, 2, 2] if most_bytes == 100 else [2, 2, 1, 2]
    assert largest == (portions if engine.dialect.name == "sqlite" else [5, 2])
    assert list(SqlFiles(engine).some(names)) == [names[3]]
