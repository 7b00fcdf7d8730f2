"""PostgreSQL commits a claim, but its answer never comes. The claimed mails go out all the same."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import psycopg
import pytest
import sqlalchemy as sa
from support.backlogs import reserve, states
from support.fake_stores import FakeRun, plain_message
from support.fakes import FakeTransport, accepted
from support.waiting import wait_until

from mailbatch.application.sending.send_due import SendDue
from mailbatch.domain.lifecycle import OnDoubt
from mailbatch.domain.retry import RetryPolicy
from mailbatch.domain.run import Counts, Trigger
from mailbatch.infrastructure.db.backlog import SqlBacklog
from mailbatch.infrastructure.db.engine import connect
from mailbatch.infrastructure.db.migrate import upgrade
from mailbatch.infrastructure.db.runs import SqlRuns
from mailbatch.infrastructure.db.tables import mail_attempts
from mailbatch.infrastructure.system.clock import SystemClock

if TYPE_CHECKING:
    from support.postgres import PostgresServer

WAITS = "SELECT pid FROM pg_stat_activity WHERE wait_event = 'SyncRep'"


@pytest.fixture
def database(private_postgres: PostgresServer) -> str:
    """Return a database whose standby does not exist. A commit waits for it if its session wants that."""
    with psycopg.connect(private_postgres.url().replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute("ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
        connection.execute("ALTER SYSTEM SET synchronous_commit = 'local'")
    private_postgres.restart()
    upgrade(private_postgres.url())
    return private_postgres.url()


def cut_off(url: str) -> None:
    """Cut off the first session whose commit waits for the standby. The commit is done by then."""
    with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as connection:
        (pid,) = wait_until(lambda: connection.execute(WAITS).fetchone(), 20, "a commit to wait for its standby")
        connection.execute("SELECT pg_terminate_backend(%s)", [pid])


def test_a_group_that_was_settled_and_claimed_without_an_answer_goes_out_once_in_the_same_run(
    database: str,
) -> None:
    reserve(database, 12)
    engine, retry, run = connect(database), RetryPolicy(), FakeRun()
    SqlRuns(engine).open(run.id, "send-all", Trigger.MANUAL, 8)
    with ThreadPoolExecutor(1) as threads:

        def script(message):
            if len(transport.messages) == 4:
                with engine.begin() as connection:  # the one that the lane takes again for its next commit
                    connection.exec_driver_sql("SET synchronous_commit = 'on'")
                cut.append(threads.submit(cut_off, database))
            return accepted(message)

        cut, transport = [], FakeTransport(script)
        SendDue(
            backlog=SqlBacklog(engine=engine, lease=60, retry=retry, message_id_domain="example.org"),
            compose=plain_message,
            transport=transport,
            clock=SystemClock(),
            jitter=lambda: 0.5,
            retry=retry,
            on_doubt=OnDoubt.HOLD,
            group_size=4,
            page_size=10,
            lease=60,
        )(run)
        cut[0].result(20)
    assert states(database) == {"sent": 12}
    assert len({message.claim.reservation_id for message in transport.messages}) == len(transport.messages) == 12
    assert (run.counts, run.errors) == (Counts(sent=12), [])
    with engine.begin() as connection:
        assert connection.execute(sa.select(mail_attempts)).all() == []
    engine.dispose()
