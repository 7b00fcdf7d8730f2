"""Who locks many reservations at once does it in one order, so that nobody waits for a neighbour that waits for him."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from hashlib import sha256
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa
from sqlalchemy import event
from support.operating import act_on, act_on_all
from support.waiting import wait_until

from mailbatch.application.acting.purge import Purge
from mailbatch.domain.act import Act
from mailbatch.domain.lifecycle import OnDoubt
from mailbatch.domain.message import Claim
from mailbatch.domain.outcome import Kind, Replied, Reply, Verdict
from mailbatch.domain.reservation import Mail, Reservation, Status
from mailbatch.domain.retry import RetryPolicy
from mailbatch.domain.run import Counts, RunOutcome, RunReport, Trigger
from mailbatch.domain.selection import Selection
from mailbatch.domain.settlement import settle, uncomposable
from mailbatch.infrastructure.db.backlog import SqlBacklog
from mailbatch.infrastructure.db.engine import connect, reading, writing
from mailbatch.infrastructure.db.files import SqlFiles
from mailbatch.infrastructure.db.interventions import SqlInterventions
from mailbatch.infrastructure.db.lanes import SqlLanes
from mailbatch.infrastructure.db.reservations import SqlReservations
from mailbatch.infrastructure.db.runs import SqlRuns
from mailbatch.infrastructure.db.tables import batch_runs, mail_files, mail_reservations
from mailbatch.infrastructure.db.types import now
from mailbatch.infrastructure.db.unneeded_files import KEPT

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection, Engine

_r = mail_reservations.c
_YES = {"ann@example.org": Verdict(Kind.ACCEPTED, Reply(250, "2.0.0 ok"))}


def in_doubt(engine: Engine, count: int) -> list[UUID]:
    """Reservations without a verdict, in the order of their ids."""
    ids = sorted(UUID(int=n + 1) for n in range(count))
    mail = {"recipients": "ann@example.org", "subject": "s", "body_text": "t"}
    with engine.begin() as connection:
        for reservation_id in ids:
            row = sa.insert(mail_reservations).values(id=reservation_id, status="in_doubt", claim_no=1, **mail)
            connection.execute(row.values(wire_at=now()))
    return ids


def waiting_for_locks(engine: Engine) -> int:
    with engine.connect() as connection:
        return int(
            connection.exec_driver_sql(
                "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
            ).scalar_one()
        )


@pytest.mark.parametrize("by", ["status", "ids"])
def test_a_late_verdict_and_a_requeue_of_the_same_mails_do_not_lock_each_other_out(postgres_url, by):
    engine = connect(postgres_url)
    retry, run_id = RetryPolicy(), uuid4()
    backlog = SqlBacklog(engine=engine, lease=60, retry=retry, message_id_domain="example.org")
    first, middle, last = in_doubt(engine, 3)
    verdicts = [
        settle(
            Replied(Claim(i, 1), "relay:25", _YES),
            attempts=1,
            earlier={},
            retry=retry,
            on_doubt=OnDoubt.HOLD,
            jitter=0.5,
        )
        for i in (last, middle, first)
    ]

    def requeue() -> object:
        if by == "ids":
            return act_on(engine, Act.REQUEUE, [first, middle, last])
        return act_on_all(engine, Act.REQUEUE, Selection(status=Status.IN_DOUBT))

    with engine.begin() as connection:
        connection.execute(sa.insert(batch_runs).values(run_id=run_id, job="send-all", trigger="manual"))
    with ThreadPoolExecutor(2) as threads:
        with engine.begin() as connection:
            connection.execute(sa.select(_r.id).where(_r.id == middle).with_for_update())
            settled = threads.submit(backlog.settle, run_id, 0, verdicts)
            wait_until(lambda: waiting_for_locks(engine) == 1, 20, "the verdicts to wait for the mail in the middle")
            requeued = threads.submit(requeue)
            wait_until(lambda: waiting_for_locks(engine) == 2, 20, "the requeue to wait too")
        assert settled.result(20) == {s.claim for s in verdicts}
        requeued.result(20)
    with engine.begin() as connection:
        assert set(connection.execute(sa.select(_r.status)).scalars()) == {"sent"}
    engine.dispose()


def test_purge_waits_for_nobody(postgres_url):
    engine = connect(postgres_url)
    ids = in_doubt(engine, 3)
    with engine.begin() as connection:
        times = {"created_at": now(-100), "finished_at": now(-100)}
        connection.execute(sa.update(mail_reservations).values(status="failed", **times))
    with engine.begin() as connection:
        connection.execute(sa.select(_r.id).where(_r.id == ids[1]).with_for_update())
        with ThreadPoolExecutor(1) as thread:
            assert (
                thread.submit(Purge(interventions=SqlInterventions(engine), files=SqlFiles(engine)), 50).result(20) == 2
            )
    with engine.begin() as connection:
        assert list(connection.execute(sa.select(_r.id)).scalars()) == [ids[1]]
    engine.dispose()


@pytest.mark.parametrize(("said", "idle"), [("", "10"), ("&keepalives_idle=77", "77")])
def test_a_database_host_that_vanishes_is_missed_within_half_a_minute(postgres_url, said, idle):
    engine = connect(postgres_url + said)
    with engine.connect() as connection:
        given = connection.connection.driver_connection.info.get_parameters()
    engine.dispose()
    wanted = {"keepalives_idle": idle, "keepalives_interval": "5", "keepalives_count": "4", "tcp_user_timeout": "30000"}
    assert wanted.items() <= given.items()


def test_what_only_reads_is_not_compiled_and_what_writes_is_as_the_database_has_it(postgres_url):
    engine = connect(postgres_url)
    with reading(engine) as connection:
        assert connection.exec_driver_sql("SHOW jit").scalar_one() == "off"
    with writing(engine) as connection:
        assert connection.exec_driver_sql("SHOW jit").scalar_one() == "on"
    engine.dispose()


def test_a_file_is_not_purged_while_a_reservation_that_names_it_is_not_committed(postgres_url):
    engine = connect(postgres_url)
    files, intake = SqlFiles(engine), SqlReservations(engine).intake
    with intake() as first:
        named, unnamed = first.store_file(b"named", None, None), first.store_file(b"unnamed", None, None)
    with writing(engine) as connection:
        connection.execute(sa.update(mail_files).values(touched_at=now(-KEPT - 1)))
    with intake() as reserving:
        assert reserving.touch_files([named]).keys() == {named}
        # Nobody waits: neither the purge, nor another application that names the same file.
        with intake() as other:
            assert other.touch_files([named]).keys() == {named}
        assert files.purge() == 1
        mail = Mail(recipients="a@x.org", subject="s", body_text="t", attachments=[{"file": named}])
        reserving.add(Reservation(id=uuid4(), mail=mail))
    with writing(engine) as connection:
        connection.execute(sa.update(mail_files).values(touched_at=now(-KEPT - 1)))
    assert files.purge() == 0
    assert (files.find(named) is None, files.find(unnamed) is None) == (False, True)
    engine.dispose()


def test_a_file_is_kept_by_each_that_names_it_though_the_one_that_touched_it_gives_up(postgres_url):
    engine = connect(postgres_url)
    files, intake = SqlFiles(engine), SqlReservations(engine).intake
    with intake() as first:
        own = first.store_file(b"old", None, None)
    with writing(engine) as connection:
        connection.execute(sa.update(mail_files).values(touched_at=now(-KEPT - 1)))
    with intake() as other:
        with pytest.raises(ZeroDivisionError), intake() as first:
            assert 1 / (first.touch_files([own]) != other.touch_files([own]))
        assert files.purge() == 0
    assert files.purge() == 1
    engine.dispose()


@pytest.mark.parametrize("touched", [True, False])
def test_what_is_named_after_a_purge_has_looked_is_kept(engine, database_url, touched):
    neighbour = connect(database_url)
    intake = SqlReservations(neighbour).intake
    with intake() as first:
        own, unnamed = first.store_file(b"old", None, None), first.store_file(b"unnamed", None, None)
    with writing(neighbour) as connection:
        connection.execute(sa.update(mail_files).values(touched_at=now(-KEPT - 1)))
    mail = {"recipients": "a@x.org", "subject": "s", "body_text": "t", "attachments": [{"file": own}]}
    looked: list[str] = []

    @event.listens_for(engine, "after_cursor_execute")
    def _reserve(_connection: Connection, _cursor: object, text: str, *_more: object) -> None:
        if "json" not in text or looked:
            return
        looked.append(text)
        if touched:
            with intake() as second:
                second.touch_files([own])
        with writing(neighbour) as other:
            other.execute(sa.insert(mail_reservations).values(mail))

    files = SqlFiles(engine)
    assert files.purge() == 1
    assert (files.find(own) is None, files.find(unnamed) is None) == (False, True)
    neighbour.dispose()


def test_a_file_that_is_being_deleted_is_stored_anew(postgres_url):
    engine = connect(postgres_url)
    files, intake = SqlFiles(engine), SqlReservations(engine).intake
    with intake() as first:
        own = first.store_file(b"old", None, None)

    def store() -> str:
        with intake() as other:
            return other.store_file(b"old", "new.txt", None)

    with ThreadPoolExecutor(2) as pool:
        with writing(engine) as purging:
            purging.execute(sa.delete(mail_files))
            stored = [pool.submit(store), pool.submit(store)]
            wait_until(lambda: waiting_for_locks(engine) == 2, 10, "both wait for the deletion")
        assert [one.result() for one in stored] == [own, own]
    found = files.find(own)
    assert found is not None
    assert found.filename == "new.txt"
    engine.dispose()


@pytest.mark.parametrize(("first_fails", "kept"), [(False, "first.txt"), (True, "second.txt")])
def test_two_that_store_the_same_new_file_at_once_store_it_once(postgres_url, first_fails, kept):
    engine = connect(postgres_url)
    intake = SqlReservations(engine).intake

    def store() -> str:
        with intake() as second:
            return second.store_file(b"new", "second.txt", None)

    with ThreadPoolExecutor(1) as pool:
        with suppress(ZeroDivisionError), intake() as first:
            first.store_file(b"new", "first.txt", None)
            stored = pool.submit(store)
            wait_until(lambda: waiting_for_locks(engine) == 1, 10, "the second to wait for the first")
            assert 1 / (not first_fails)
        assert stored.result(10) == sha256(b"new").hexdigest()
    with engine.connect() as connection:
        assert list(connection.scalars(sa.select(mail_files.c.filename))) == [kept]
    engine.dispose()


def test_a_run_ends_though_somebody_locks_a_mail_that_its_report_names(postgres_url):
    engine, run_id = connect(postgres_url), uuid4()
    runs = SqlRuns(engine)
    backlog = SqlBacklog(engine=engine, lease=60, retry=RetryPolicy(), message_id_domain="example.org")
    runs.open(run_id, "send-all", Trigger.BEAT, 8)
    SqlLanes(engine).join(run_id, 1)
    with engine.begin() as connection:
        mail = {"recipients": "ann@example.org", "subject": "s", "body_text": "t"}
        connection.execute(sa.insert(mail_reservations).values(mail))
    [held] = backlog.claim(run_id, 1, None, 1).claimed
    backlog.settle(run_id, 1, [uncomposable(held.claim, ["template: there is none"], {})])
    report = RunReport(run_id=run_id, trigger=Trigger.BEAT, outcome=RunOutcome.COMPLETED, counts=Counts(failed=1))
    with ThreadPoolExecutor(1) as pool, engine.begin() as other:
        other.execute(sa.select(_r.id).with_for_update())
        pool.submit(runs.close, "send-all", report, None).result(timeout=20)
    assert [e.reservation_id for e in runs.first_errors(run_id, 9)] == [held.claim.reservation_id]
    engine.dispose()
