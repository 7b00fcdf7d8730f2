"""On SQLite a statement that changes rows reads those rows, and neither a whole table nor all mails of a state.

No run can write meanwhile. SQLite plans without statistics, so the plans are those of a large table.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
import sqlalchemy as sa
from sqlalchemy import event
from support.backlogs import reserve
from support.operating import act_on, act_on_all, steady

from mailbatch.application.acting.purge import Purge
from mailbatch.domain.act import Act
from mailbatch.domain.lifecycle import OnDoubt
from mailbatch.domain.message import Claim
from mailbatch.domain.outcome import Kind, Replied, Reply, Verdict
from mailbatch.domain.reservation import Status
from mailbatch.domain.retry import RetryPolicy
from mailbatch.domain.selection import Selection
from mailbatch.domain.settlement import settle
from mailbatch.infrastructure.db.backlog import SqlBacklog
from mailbatch.infrastructure.db.engine import connect, reading
from mailbatch.infrastructure.db.files import SqlFiles
from mailbatch.infrastructure.db.interventions import SqlInterventions
from mailbatch.infrastructure.db.tables import batch_runs, mail_files, mail_reservations, run_errors

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy.engine import Connection, Engine

OLD = datetime.now(UTC) - timedelta(days=9)
_SURE: Any = {"on_doubt": OnDoubt.HOLD, "jitter": 0.5}
MANY = 60
"""Rows of a portion. For more than a few ids SQLite prefers the index of the states, unless it is told otherwise."""


@pytest.fixture
def engine(sqlite_url: str) -> Iterator[Engine]:
    engine = connect(sqlite_url)
    yield engine
    engine.dispose()


@pytest.fixture
def wide(engine: Engine) -> list[str]:
    """The steps that read more than they should, of each statement of a transaction that may write."""
    found: list[str] = []

    @event.listens_for(engine, "after_cursor_execute")
    def _explain(connection: Connection, cursor: Any, text: str, given: Any, _context: object, *many: bool) -> None:
        if any(many) or text.startswith("INSERT") or connection.get_execution_options().get("mailbatch_read_only"):
            return
        steps = [row[3] for row in cursor.connection.execute(f"EXPLAIN QUERY PLAN {text}", given)]
        found.extend(f"{step}: {text}" for step in steps if "ix_mail_reservations_status" in step or _is_scan(step))

    return found


def _is_scan(step: str) -> bool:
    return step.startswith(("SCAN mail_", "SCAN run_errors"))


@pytest.mark.parametrize(
    ("act", "before"),
    [
        (Act.CANCEL, Status.PENDING),
        (Act.REQUEUE, Status.FAILED),
        (Act.RESTORE, Status.CANCELLED),
        (Act.RESOLVE, Status.IN_DOUBT),
        (Act.DELETE, Status.SENT),
    ],
)
def test_an_act_reads_the_rows_of_its_portion(engine, sqlite_url, wide, act, before):
    reserve(sqlite_url, MANY, tag="spring", status=before.value)
    which = Selection(status=before, tag="spring")
    assert act_on_all(engine, act, which, steady(MANY)).changed == MANY
    assert wide == []


def test_a_requeue_of_mails_in_several_states_reads_those_mails(engine, sqlite_url, wide):
    reserve(sqlite_url, MANY, status="failed")
    reserve(sqlite_url, 1, status="cancelled")
    with reading(engine) as connection:
        ids = connection.scalars(sa.select(mail_reservations.c.id)).all()
    assert all(result.changed for result in act_on(engine, Act.REQUEUE, ids))
    assert wide == []


def test_a_purge_reads_the_rows_of_its_portion(engine, sqlite_url, wide):
    for times in ({"finished_at": OLD}, {}):
        for status in ("sent", "failed", "cancelled", "expired"):
            reserve(sqlite_url, MANY, status=status, created_at=OLD, **times)
    purge = Purge(interventions=SqlInterventions(engine, steady(MANY)), files=SqlFiles(engine))
    assert purge(86_400) == 8 * MANY
    assert wide == []


def test_a_purge_of_files_reads_no_reservation_while_nobody_can_write_but_those_added_since(engine, sqlite_url, wide):
    reserve(sqlite_url, 2, status="sent")
    with engine.begin() as connection:
        rows = [{"id": f"{n:064}", "content": b"x", "touched_at": OLD} for n in range(MANY)]
        connection.execute(sa.insert(mail_files), rows)
    assert SqlFiles(engine, steady(MANY)).purge() == MANY
    assert wide == []


def test_a_purge_of_reports_reads_the_errors_of_its_portion(engine, wide):
    run = {"run_id": uuid4(), "job": "send-all", "trigger": "beat", "finished_at": OLD}
    errors = [{"run_id": run["run_id"], "item_index": n, "errors": []} for n in range(MANY + 1)]
    with engine.begin() as connection:
        connection.execute(sa.insert(batch_runs), run)
        connection.execute(sa.insert(run_errors), errors)
    assert SqlInterventions(engine, steady(MANY)).purge_runs(86_400) == 1
    assert wide == []


def test_a_run_that_expires_mails_reads_those_that_expire(engine, sqlite_url, wide):
    reserve(sqlite_url, 8)
    reserve(sqlite_url, 2, expires_at=OLD)
    reserve(sqlite_url, 2, scheduled_at=OLD)
    assert [backlog(engine, max_lateness=3600).expire(100) for _ in range(2)] == [4, 0]
    assert wide == []


def test_a_run_that_writes_verdicts_again_reads_those_mails(engine, sqlite_url, wide):
    reserve(sqlite_url, 4, status="sent", claim_no=1, reply_text="ok")
    with reading(engine) as connection:
        ids = connection.scalars(sa.select(mail_reservations.c.id)).all()
    sent = {"ann@example.org": Verdict(Kind.ACCEPTED, Reply(250, "ok"))}
    verdicts = [
        settle(Replied(Claim(own, 1), "relay:25", sent), attempts=1, earlier={}, retry=RetryPolicy(), **_SURE)
        for own in ids
    ]
    assert backlog(engine).settle(uuid4(), 0, verdicts) == {verdict.claim for verdict in verdicts}
    assert wide == []


def backlog(engine: Engine, **given: Any) -> SqlBacklog:
    return SqlBacklog(engine=engine, lease=60, retry=RetryPolicy(), message_id_domain="example.org", **given)
