"""Who locks many reservations at once does it in one order, so that nobody waits for a neighbour that waits for him."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa
from support.operating import act_on, act_on_all
from support.waiting import wait_until

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
from mailbatch.infrastructure.db.engine import connect, reading, writing
from mailbatch.infrastructure.db.interventions import SqlInterventions
from mailbatch.infrastructure.db.tables import batch_runs, mail_reservations
from mailbatch.infrastructure.db.types import now

if TYPE_CHECKING:
    from sqlalchemy.engine import Engine

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
            assert thread.submit(Purge(interventions=SqlInterventions(engine)), 50).result(20) == 2
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
