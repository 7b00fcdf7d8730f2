"""One suite for the port ``Quotas``: the fake, SQLite and PostgreSQL behave alike."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import date
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa
from support.fake_stores import FakeQuotas

from mailbatch.infrastructure.db.engine import connect
from mailbatch.infrastructure.db.quotas import SqlQuotas
from mailbatch.infrastructure.db.tables import relay_quotas

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mailbatch.application.ports.gating import Quotas

FRIDAY, SATURDAY = date(2026, 11, 27), date(2026, 11, 28)


@pytest.fixture(params=["fake", "sqlite", "postgresql"])
def quotas(request: pytest.FixtureRequest) -> Iterator[Quotas]:
    if request.param == "fake":
        yield FakeQuotas()
        return
    engine = connect(request.getfixturevalue({"sqlite": "sqlite_url", "postgresql": "postgres_url"}[request.param]))
    yield SqlQuotas(engine)
    engine.dispose()


def test_no_more_is_counted_than_the_day_allows(quotas):
    assert [quotas.take("ses", FRIDAY, 10, wanted) for wanted in (4, 4, 4, 4)] == [4, 4, 2, 0]
    assert quotas.used("ses", FRIDAY) == 10


def test_each_relay_and_each_day_counts_for_itself(quotas):
    assert quotas.take("ses", FRIDAY, 3, 3) == 3
    assert quotas.take("own", FRIDAY, 3, 3) == 3
    assert quotas.take("ses", SATURDAY, 3, 2) == 2
    assert (quotas.used("ses", SATURDAY), quotas.used("own", FRIDAY), quotas.used("own", SATURDAY)) == (2, 3, 0)


def test_what_was_not_sent_can_be_counted_again(quotas):
    quotas.take("ses", FRIDAY, 3, 3)
    quotas.give_back("ses", FRIDAY, 2)
    assert quotas.take("ses", FRIDAY, 3, 3) == 2
    quotas.give_back("ses", FRIDAY, 9)
    quotas.give_back("ses", SATURDAY, 1)
    assert (quotas.used("ses", FRIDAY), quotas.used("ses", SATURDAY)) == (0, 0)


def test_a_quota_that_was_lowered_is_used_up(quotas):
    quotas.take("ses", FRIDAY, 10, 10)
    assert quotas.take("ses", FRIDAY, 5, 1) == 0
    assert quotas.used("ses", FRIDAY) == 10


def test_lanes_that_count_at_once_count_no_more_than_the_day_allows(quotas):
    with ThreadPoolExecutor(8) as lanes:
        counted = list(lanes.map(lambda _: quotas.take("ses", FRIDAY, 50, 7), range(16)))
    assert sum(counted) == 50


def test_the_days_before_are_forgotten(sqlite_url):
    engine = connect(sqlite_url)
    quotas = SqlQuotas(engine)
    quotas.take("ses", FRIDAY, 3, 1)
    quotas.take("own", FRIDAY, 3, 1)
    quotas.take("ses", SATURDAY, 3, 1)
    with engine.connect() as connection:
        rows = connection.execute(sa.select(relay_quotas.c.relay, relay_quotas.c.day)).all()
    assert sorted(rows) == [("own", "2026-11-27"), ("ses", "2026-11-28")]
    engine.dispose()
