"""What every store of reservations must do: to reserve, to read, to intervene, to count."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa
from support.backlogs import reserve
from support.fake_files import FakeFiles
from support.fake_tables import FakeTables
from support.operating import act_on, act_on_all, steady
from uuid_utils.compat import uuid7

from mailbatch.application.acting.purge import Purge
from mailbatch.domain.act import Act
from mailbatch.domain.change import ChangeResult
from mailbatch.domain.errors import StateConflict
from mailbatch.domain.reservation import Mail, Reservation, Status, Stored
from mailbatch.domain.retry import RetryPolicy
from mailbatch.domain.selection import ErrorsOf, Selection, Tagged
from mailbatch.infrastructure.db.backlog import SqlBacklog
from mailbatch.infrastructure.db.interventions import SqlInterventions
from mailbatch.infrastructure.db.reports import SqlReports
from mailbatch.infrastructure.db.reservations import SqlReservations
from mailbatch.infrastructure.db.tables import batch_runs, mail_reservations, run_errors
from mailbatch.infrastructure.db.types import now, server_now

if TYPE_CHECKING:
    from sqlalchemy.engine import Engine

TOMORROW = datetime(2030, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
LETTER = Mail(recipients="ada@example.com", subject="Hello", body_text="Hello.")


@pytest.fixture
def store(engine: Engine) -> SqlReservations:
    return SqlReservations(engine)


def reservation(**given: Any) -> Reservation:
    return Reservation(**{"id": uuid7(), "mail": LETTER, **given})


def add(store: SqlReservations, **given: Any) -> Stored:
    with store.intake() as intake:
        return intake.add(reservation(**given))


def in_state(engine: Engine, store: SqlReservations, status: Status, **columns: Any) -> UUID:
    """Store a reservation and put it by hand into ``status``."""
    stored = add(store).reservation_id
    values = {"status": status.value, "lease_until": now(60) if status is Status.SENDING else None, **columns}
    change(engine, stored, **values)
    return stored


def change(engine: Engine, reservation_id: UUID, **values: Any) -> None:
    with engine.begin() as connection:
        connection.execute(sa.update(mail_reservations).where(mail_reservations.c.id == reservation_id).values(values))


def status_of(store: SqlReservations, reservation_id: UUID) -> str:
    row = store.get(reservation_id)
    assert row is not None
    return str(row.status)


# --- cancelling ---


def test_a_pending_reservation_is_cancelled_and_others_are_told_apart(store, engine):
    pending, sending = add(store).reservation_id, in_state(engine, store, Status.SENDING)
    sent, unknown = in_state(engine, store, Status.SENT), uuid4()
    assert act_on(engine, Act.CANCEL, [pending, sending, sent, unknown]) == [
        ChangeResult(pending, changed=True, status=Status.CANCELLED),
        ChangeResult(sending, changed=False, status=Status.SENDING),
        ChangeResult(sent, changed=False, status=Status.SENT),
        ChangeResult(unknown, changed=False, status=None),
    ]
    assert act_on(engine, Act.CANCEL, [pending]) == [ChangeResult(pending, changed=False, status=Status.CANCELLED)]
    assert store.get(pending).finished_at is not None


def test_more_ids_than_a_statement_may_have_are_cancelled(store, engine):
    with store.intake() as intake:
        ids = [s.reservation_id for s in intake.add_many([reservation() for _ in range(1203)])]
    assert all(answer.changed for answer in act_on(engine, Act.CANCEL, ids))


def test_a_campaign_is_cancelled_by_its_tag(store, engine):
    for _ in range(3):
        add(store, tag="spring")
    kept = add(store, tag="summer").reservation_id
    for status in (Status.SENDING, Status.SENT, Status.SENT, Status.CANCELLED):
        in_state(engine, store, status, tag="spring")
    changed = act_on_all(engine, Act.CANCEL, Tagged("spring"))
    assert (changed.changed, changed.left) == (3, {Status.SENDING: 1, Status.SENT: 2})
    assert status_of(store, kept) == "pending"
    assert act_on_all(engine, Act.CANCEL, Tagged("nobody")).changed == 0


# --- requeueing and resolving ---


@pytest.mark.parametrize("status", [Status.FAILED, Status.IN_DOUBT, Status.CANCELLED])
def test_a_requeued_reservation_is_due_now_with_all_its_attempts_before_it(store, engine, status):
    verdicts = {"a@example.com": {"kind": "accepted", "code": 250, "text": "ok"}}
    reservation_id = in_state(
        engine, store, status, attempts=5, last_error="550 no", finished_at=now(), wire_at=now(), verdicts=verdicts
    )
    change(engine, reservation_id, scheduled_at=now(-86400))
    changed = ChangeResult(reservation_id, changed=True, status=Status.PENDING)
    assert act_on(engine, Act.REQUEUE, [reservation_id]) == [changed]
    row = store.get(reservation_id)
    assert row.status == "pending"
    assert row.attempts == 0
    assert row.finished_at is row.wire_at is row.lease_until is None
    assert row.verdicts == verdicts
    assert row.last_error == "550 no"
    census = SqlReports(engine).census()
    assert census.due == 1
    assert census.oldest_due_seconds < 60


def test_what_was_cancelled_before_its_time_keeps_its_time(store, engine):
    reservation_id = add(store, scheduled_at=TOMORROW).reservation_id
    act_on(engine, Act.CANCEL, [reservation_id])
    act_on(engine, Act.REQUEUE, [reservation_id])
    row = store.get(reservation_id)
    assert row.retry_at is None
    assert row.due_at == row.scheduled_at


@pytest.mark.parametrize("status", [Status.PENDING, Status.SENDING, Status.SENT, Status.EXPIRED])
def test_other_states_are_not_requeued(store, engine, status):
    reservation_id = in_state(engine, store, status)
    assert act_on(engine, Act.REQUEUE, [reservation_id]) == [ChangeResult(reservation_id, changed=False, status=status)]


def test_what_has_expired_meanwhile_is_left_alone_and_says_so(store, engine):
    reservation_id = in_state(engine, store, Status.FAILED, expires_at=now(-1))
    answer = ChangeResult(reservation_id, changed=False, status=Status.FAILED, overdue=True)
    assert act_on(engine, Act.REQUEUE, [reservation_id]) == [answer]
    changed = act_on_all(engine, Act.REQUEUE, Selection(status=Status.FAILED))
    assert (changed.changed, changed.left) == (0, {Status.FAILED: 1})


def test_all_that_failed_are_requeued(store, engine):
    failed = [in_state(engine, store, Status.FAILED) for _ in range(3)]
    in_state(engine, store, Status.IN_DOUBT)
    assert act_on_all(engine, Act.REQUEUE, Selection(status=Status.FAILED)).changed == 3
    assert {status_of(store, i) for i in failed} == {"pending"}
    assert SqlReports(engine).census().counts[Status.IN_DOUBT] == 1
    with pytest.raises(StateConflict, match="sent"):
        act_on_all(engine, Act.REQUEUE, Selection(status=Status.SENT))


def test_what_one_run_failed_is_requeued_if_it_is_failed_still(store, engine):
    mine, others, sent = (in_state(engine, store, s) for s in (Status.FAILED, Status.FAILED, Status.SENT))
    run_id = uuid7()
    with engine.begin() as connection:
        connection.execute(sa.insert(batch_runs).values(run_id=run_id, job="send-all", trigger="beat"))
        rows = [
            {"run_id": run_id, "item_index": i, "reservation_id": r, "errors": ["no"]}
            for i, r in ((1, mine), (2, sent))
        ]
        connection.execute(sa.insert(run_errors), rows)
    changed = act_on_all(engine, Act.REQUEUE, ErrorsOf(run_id))
    assert (changed.changed, changed.left) == (1, {Status.SENT: 1})
    assert (status_of(store, mine), status_of(store, others)) == ("pending", "failed")


def test_a_doubt_is_resolved_as_sent_and_nothing_else_is(store, engine):
    doubt, failed = in_state(engine, store, Status.IN_DOUBT), in_state(engine, store, Status.FAILED)
    assert act_on(engine, Act.RESOLVE, [doubt]) == [ChangeResult(doubt, changed=True, status=Status.SENT)]
    row = store.get(doubt)
    assert row.sent_at is not None
    assert row.finished_at is not None
    assert act_on(engine, Act.RESOLVE, [failed]) == [ChangeResult(failed, changed=False, status=Status.FAILED)]


# --- purging and counting ---


def purge(engine: Engine, portion: int) -> Purge:
    return Purge(interventions=SqlInterventions(engine, steady(portion)), files=FakeFiles(FakeTables()))


def test_purge_deletes_what_is_finished_and_old_portion_by_portion_and_nothing_else(store, engine):
    old = now(-10 * 86400)
    for status in Status:
        in_state(engine, store, status, created_at=old)
        in_state(engine, store, status, created_at=old, finished_at=now(-86400))
        in_state(engine, store, status)
    pages = []
    assert purge(engine, 1)(5 * 86400, lambda n: pages.append(n) is None) == 4
    assert pages == [1, 2, 3, 4]
    counts = SqlReports(engine).census().counts
    finished = {Status.SENT, Status.FAILED, Status.CANCELLED, Status.EXPIRED}
    assert counts == {status: 2 if status in finished else 3 for status in Status}


def test_a_purge_that_is_asked_to_stop_stops_after_its_portion(store, engine):
    for _ in range(5):
        in_state(engine, store, Status.SENT, created_at=now(-86400))
    assert purge(engine, 2)(60, lambda _n: False) == 2


def test_what_remains_of_every_priority_is_due_and_has_not_expired_or_is_under_way(engine, database_url):
    past = datetime.now(UTC) - timedelta(minutes=1)
    for priority, count in ((5, 2), (0, 3), (-7, 4)):
        reserve(database_url, count, priority=priority)
    reserve(database_url, 1, expires_at=TOMORROW)
    reserve(database_url, 5, expires_at=past, priority=5)
    reserve(database_url, 6, expires_at=past, scheduled_at=TOMORROW)
    reserve(database_url, 7, scheduled_at=TOMORROW)
    reserve(database_url, 2, status="sending", lease_until=TOMORROW)
    reserve(database_url, 3, status="sent")
    backlog = SqlBacklog(engine=engine, lease=60, retry=RetryPolicy(), message_id_domain="example.org")
    assert backlog.remaining() == 2 + 3 + 4 + 1 + 2
    assert SqlReports(engine).census().unsent == backlog.remaining()


def test_counts_say_whether_they_are_exact(store, engine):
    with store.intake() as intake:
        intake.add_many([reservation() for _ in range(12)])
    in_state(engine, store, Status.SENT)
    census = SqlReports(engine).census()
    assert census.exact
    assert (census.counts[Status.PENDING], census.counts[Status.SENT], census.due) == (12, 1, 12)
    capped = SqlReports(engine, cap=10).census()
    assert not capped.exact
    assert (capped.counts[Status.PENDING], capped.counts[Status.SENT], capped.due) == (10, 1, 10)


def test_what_is_due_later_or_has_expired_is_not_counted_as_due(store, engine):
    add(store, scheduled_at=TOMORROW)
    expired = add(store).reservation_id
    change(engine, expired, expires_at=now(-1))
    census = SqlReports(engine).census()
    assert (census.counts[Status.PENDING], census.due, census.oldest_due_seconds) == (2, 0, None)


def test_the_databases_now_and_the_columns_default_agree(engine):
    with engine.connect() as connection:
        assert connection.execute(sa.select(server_now() <= now(1))).scalar_one()
