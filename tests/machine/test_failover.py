"""PostgreSQL dies for good in mid-run, and its standby takes over."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import psycopg
import pytest
from faults.fault import Fault
from faults.house import open_house
from psycopg import sql
from support.postgres import ROLE, PostgresServer
from support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from faults.house import House

pytestmark = pytest.mark.usefixtures("_standby")
MAILS, UNHEARD = 300, 40


@contextmanager
def house_with_standby() -> Iterator[tuple[House, PostgresServer]]:
    """A house that knows both servers by one URL."""
    with open_house(durable=True) as house:
        assert house.postgres is not None
        with PostgresServer(durable=True, like=house.postgres) as standby:
            name = house.stack.database_url.partition("@/")[2].partition("?")[0]
            hosts = f"{house.postgres.folder},{standby.folder}"
            house.stack.database_url = (
                f"postgresql+psycopg://{ROLE}@/{name}?host={hosts}&target_session_attrs=read-write"
            )
            yield house, standby


def ask(server: PostgresServer, statement: str) -> object:
    url = server.url().replace("+psycopg", "")
    with psycopg.connect(url, autocommit=True) as connection:
        found = connection.execute(sql.SQL(statement))
        return found.fetchone() if found.description else None


def taken_over(house: House, standby: PostgresServer, *, unheard: int = 0) -> None:
    """The first server is killed, and never comes back; the last ``unheard`` mails the second knows nothing of."""
    assert house.postgres is not None
    house.wait_taken(50)
    if unheard:
        ask(standby, "ALTER SYSTEM SET primary_conninfo = ''")
        ask(standby, "SELECT pg_reload_conf()")
        wait_until(lambda: ask(standby, "SELECT 1 FROM pg_stat_wal_receiver") is None, 10, "the standby hears nothing")
        house.wait_taken(unheard)
    house.postgres.kill()
    standby.promote()


def test_a_synchronous_standby_takes_over_and_no_mail_goes_twice(struck):
    with house_with_standby() as (house, standby):
        ask(house.postgres, "ALTER SYSTEM SET synchronous_standby_names = '*'")
        ask(house.postgres, "SELECT pg_reload_conf()")
        told = "SELECT 1 FROM pg_stat_replication WHERE sync_state = 'sync'"
        wait_until(lambda: ask(house.postgres, told), 20, "the standby is synchronous")
        fault = Fault(
            row="m2a",
            name="PostgreSQL is killed for good, and a synchronous standby promoted",
            script={"dot": ["late", 0.02]},
            injure=lambda house: taken_over(house, standby),
            mails=MAILS,
            settings={"LEASE": 20},
            doubtful=None,
            lasts=20.0,
        )
        struck(house, fault)


def test_what_an_asynchronous_standby_had_not_heard_of_goes_out_again_and_nothing_is_lost(struck):
    """The limit that docs/explanation/delivery.md names: such repeats no attempt accounts for, its row is gone too."""
    with house_with_standby() as (house, standby):
        fault = Fault(
            row="m2b",
            name=f"the same with an asynchronous standby that has not heard of the last {UNHEARD} mails",
            script={"dot": ["late", 0.02]},
            injure=lambda house: taken_over(house, standby, unheard=UNHEARD),
            mails=MAILS,
            settings={"LEASE": 20},
            doubled=MAILS,
            doubtful=None,
            lasts=20.0,
        )
        finding = struck(house, fault, pardon="doubled without a word")
    # A group whose claim it had heard of is settled there; the others had never been, for it.
    assert finding.damage.silent >= UNHEARD // 2
