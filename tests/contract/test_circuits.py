"""One suite for the port ``Circuits``: the fake, SQLite and PostgreSQL behave alike."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import uuid4

import pytest
import sqlalchemy as sa
from support.fake_stores import FakeCircuits

from mailbatch.domain.circuit import Circuit, CircuitState
from mailbatch.domain.reply_kinds import Concern
from mailbatch.infrastructure.db.circuits import SqlCircuits
from mailbatch.infrastructure.db.engine import connect
from mailbatch.infrastructure.db.tables import relay_circuits
from mailbatch.infrastructure.db.types import now

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mailbatch.application.ports.sending import Circuits

R = "relay.example:25"


@pytest.fixture(params=["fake", "sqlite", "postgresql"])
def store(request: pytest.FixtureRequest) -> Iterator[tuple[Circuits, Callable[[], None]]]:
    """The store, and what makes the time of an open circuit pass."""
    if request.param == "fake":
        fake = FakeCircuits()
        yield fake, lambda: fake.tables.clock.sleep(3600)
        return
    url = request.getfixturevalue({"sqlite": "sqlite_url", "postgresql": "postgres_url"}[request.param])
    engine = connect(url)

    def pass_time() -> None:
        with engine.begin() as connection:
            connection.execute(sa.update(relay_circuits).values(open_until=now(-1)))

    yield SqlCircuits(engine), pass_time
    engine.dispose()


def test_a_relay_that_nothing_is_known_of_is_well(store):
    circuits, _ = store
    assert circuits.look(R) == Circuit(relay=R)
    circuits.half_open(R)
    circuits.close(R)
    assert circuits.look(R) == Circuit(relay=R)


def test_an_opened_circuit_tells_until_when_and_why(store):
    circuits, _ = store
    opened = circuits.open(R, "connection refused", 60)
    assert (opened.state, opened.failures, opened.reason) == (CircuitState.OPEN, 1, "connection refused")
    assert opened.opened_at is not None
    assert opened.open_until is not None
    assert (opened.open_until - opened.opened_at).total_seconds() == pytest.approx(60, abs=0.1)
    assert 55 < circuits.look(R).seconds_left <= 60
    assert circuits.look("other.example:25") == Circuit(relay="other.example:25")


def test_what_is_open_stays_as_it_was_opened_until_its_time_is_over(store):
    circuits, pass_time = store
    circuits.open(R, "first", 60)
    assert circuits.open(R, "second", 600).reason == "first"
    pass_time()
    assert circuits.look(R).seconds_left == 0
    again = circuits.open(R, "third", 60)
    assert (again.reason, again.failures) == ("third", 2)


def test_it_keeps_of_what_the_refusal_speaks_and_the_suspects_even_when_it_closes(store):
    circuits, pass_time = store
    one, other = uuid4(), uuid4()
    opened = circuits.open(R, "quota", 60, Concern.QUOTA, {one: 0, other: 2})
    assert (opened.concern, opened.suspects) == (Concern.QUOTA, {one: 0, other: 2})
    circuits.half_open(R)
    circuits.close(R)
    closed = circuits.look(R)
    assert (closed.state, closed.concern, closed.suspects) == (CircuitState.CLOSED, None, {one: 0, other: 2})
    pass_time()
    assert circuits.open(R, "refused", 60).suspects == {}


def test_a_failed_probe_opens_it_again_and_a_good_one_closes_it(store):
    circuits, _ = store
    circuits.open(R, "first", 60)
    circuits.half_open(R)
    assert circuits.look(R).state is CircuitState.HALF_OPEN
    assert circuits.open(R, "still away", 60).failures == 2
    circuits.close(R)
    assert circuits.look(R) == Circuit(relay=R)
