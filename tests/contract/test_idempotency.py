"""The port ``IdempotencyKeys``: a request that is sent twice is done once, and answered twice."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa
from support.fake_idempotency import FakeIdempotencyKeys
from support.fake_reservations import FakeReservations
from support.fake_tables import FakeTables
from support.table_worlds import empty

from mailbatch.domain.errors import StateConflict
from mailbatch.domain.idempotency import RequestState, StoredResponse
from mailbatch.infrastructure.db.idempotency import KEPT, LEFT, SqlIdempotencyKeys
from mailbatch.infrastructure.db.reservations import SqlReservations
from mailbatch.infrastructure.db.tables import api_answers

if TYPE_CHECKING:
    from sqlalchemy.engine import Engine


class Fake:
    def __init__(self) -> None:
        self.tables = FakeTables()
        self.keys, self.reservations = FakeIdempotencyKeys(self.tables), FakeReservations(self.tables)

    def pass_time(self, seconds: float) -> None:
        self.tables.clock.sleep(seconds)


class Sql:
    def __init__(self, engine: Engine) -> None:
        empty(engine)
        self.engine = engine
        self.keys, self.reservations = SqlIdempotencyKeys(engine), SqlReservations(engine)

    def pass_time(self, seconds: float) -> None:
        with self.engine.begin() as connection:
            earlier = datetime.now(UTC) - timedelta(seconds=seconds)
            connection.execute(sa.update(api_answers).values(created_at=earlier))


@pytest.fixture(params=["fake", "sqlite", "postgresql"])
def side(request: pytest.FixtureRequest) -> Fake | Sql:
    if request.param == "fake":
        return Fake()
    return Sql(request.getfixturevalue({"sqlite": "kept_sqlite", "postgresql": "kept_postgres"}[request.param]))


def test_a_new_key_is_ours_and_the_next_request_waits(side):
    assert side.keys.begin("k", "first", "digest") is RequestState.NEW
    assert side.keys.begin("k", "second", "digest") is RequestState.IN_PROGRESS
    assert side.keys.begin("other", "third", "digest") is RequestState.NEW


def test_a_finished_request_is_answered_again(side):
    side.keys.begin("k", "first", "digest")
    side.keys.finish("k", "first", 201, '{"id": 1}')
    assert side.keys.begin("k", "second", "digest") == StoredResponse(201, '{"id": 1}')


def test_a_key_stands_for_one_request(side):
    side.keys.begin("k", "first", "digest")
    assert side.keys.begin("k", "second", "another digest") is RequestState.OTHER
    side.keys.finish("k", "first", 200, "{}")
    assert side.keys.begin("k", "second", "another digest") is RequestState.OTHER


def test_an_abandoned_request_may_begin_anew(side):
    side.keys.begin("k", "first", "digest")
    side.keys.abandon("k", "first")
    assert side.keys.begin("k", "second", "digest") is RequestState.NEW


def test_a_slow_request_cannot_answer_for_its_successor(side):
    side.keys.begin("k", "slow", "digest")
    side.pass_time(LEFT + 1)
    assert side.keys.begin("k", "successor", "digest") is RequestState.NEW
    side.keys.finish("k", "slow", 200, "of the slow one")
    side.keys.abandon("k", "slow")
    assert side.keys.begin("k", "third", "digest") is RequestState.IN_PROGRESS
    side.keys.finish("k", "successor", 200, "of the successor")
    assert side.keys.begin("k", "third", "digest") == StoredResponse(200, "of the successor")


def test_an_answer_is_kept_for_a_day(side):
    side.keys.begin("k", "first", "digest")
    side.keys.finish("k", "first", 200, "{}")
    side.pass_time(KEPT - 60)
    assert side.keys.begin("k", "second", "digest") == StoredResponse(200, "{}")
    side.pass_time(KEPT + 60)
    assert side.keys.begin("k", "second", "digest") is RequestState.NEW


def test_an_answer_is_stored_with_the_mails_of_its_request_or_lost_with_them(side):
    side.keys.begin("k", "first", "digest")
    with suppress(ZeroDivisionError), side.reservations.intake() as intake:
        intake.remember("k", "first", 201, "{}")
        raise ZeroDivisionError
    assert side.keys.begin("k", "second", "digest") is RequestState.IN_PROGRESS
    with side.reservations.intake() as intake:
        intake.remember("k", "first", 201, "{}")
    assert side.keys.begin("k", "second", "digest") == StoredResponse(201, "{}")
    with pytest.raises(StateConflict, match="send it again"), side.reservations.intake() as intake:
        intake.remember("k", "another", 201, "{}")


@pytest.mark.parametrize("status", [99, 2000])
def test_an_answer_that_is_no_http_answer_is_not_given(side, status):
    side.keys.begin("k", "first", "digest")
    side.keys.finish("k", "first", status, "{}")
    assert side.keys.begin("k", "second", "digest") is RequestState.OTHER
