"""A relay goes away and comes back, with a real database and real SMTP: ticks leave it alone, probe it, and go on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa
from support.backlogs import database, reserve, states

from mailbatch.batch.send_all import send_all
from mailbatch.bootstrap import Parts
from mailbatch.config import Settings
from mailbatch.domain.run import Trigger
from mailbatch.infrastructure.db.tables import relay_circuits
from mailbatch.infrastructure.db.types import now

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.sink import Sink


@pytest.fixture
def parts(sqlite_url: str, smtp_sink: Sink) -> Iterator[Parts]:
    # One connection: it takes fewer faults, and less waiting between them, to call a relay away.
    given = {"database_url": sqlite_url, "smtp_url": smtp_sink.url, "sender": "sender@example.com", "connections": 1}
    made = Parts(Settings(**given))
    yield made
    made.close()


def tick(parts: Parts, trigger: Trigger = Trigger.BEAT) -> dict[str, Any]:
    return send_all(parts, lock=False)(trigger).as_dict()


def pass_time(url: str) -> None:
    with database(url) as connection:
        connection.execute(sa.update(relay_circuits).values(open_until=now(-1)))


def test_three_ticks_without_a_relay_and_a_fourth_with_it_send_everything_once(parts, sqlite_url, smtp_sink):
    reserve(sqlite_url, 200)
    smtp_sink.stop()
    first = tick(parts)
    assert (first["outcome"], first["remaining"]) == ("failed", 200)
    assert "the relay is away" in first["errors"][0]
    second = tick(parts)
    assert second["outcome"] == "failed"
    name = f"127.0.0.1:{smtp_sink.port}"
    assert second["errors"][0].startswith(f"the relay {name} is left alone until ")
    assert second["errors"][0].count(name) == 1
    assert "Connection refused" in second["errors"][0]
    pass_time(sqlite_url)
    assert "the relay is away" in tick(parts)["errors"][0]
    assert parts.stores.circuits.look(name).failures == 2
    smtp_sink.start()
    pass_time(sqlite_url)
    fourth = tick(parts)
    assert (fourth["outcome"], fourth["sent"]) == ("completed", 200)
    assert states(sqlite_url) == {"sent": 200}
    assert len({mail.message_id for mail in smtp_sink.wait_for(200)}) == len(smtp_sink.accepted()) == 200
    assert parts.stores.circuits.look(name).state == "closed"


def test_a_run_by_hand_probes_a_relay_that_ticks_leave_alone(parts, sqlite_url, smtp_sink):
    reserve(sqlite_url, 3)
    parts.stores.circuits.open(parts.sending.relay.name, "421 too busy", 3600)
    assert tick(parts)["sent"] == 0
    assert tick(parts, Trigger.MANUAL)["sent"] == 3
    assert tick(parts)["outcome"] == "completed"
