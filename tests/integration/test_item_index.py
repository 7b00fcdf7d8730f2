"""A mail that a run's report names bears the index under which it does, in the table, in the API and in the console."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa
from support.api import Api
from support.backlogs import database, reserve, runs
from support.pages import Browser
from support.relay import Relay

from mailbatch.batch.send_all import send_all
from mailbatch.bootstrap import Parts
from mailbatch.config import Settings
from mailbatch.domain.run import Trigger
from mailbatch.infrastructure.db.tables import mail_reservations, run_errors
from mailbatch.infrastructure.db.types import now

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from uuid import UUID

_r = mail_reservations.c


@pytest.fixture
def relay(tmp_path: Path) -> Iterator[Relay]:
    with Relay(tmp_path / "relay") as relay:
        yield relay


def send(url: str, relay: Relay) -> None:
    parts = Parts(Settings(database_url=url, smtp_url=relay.url, sender="s@example.com", connections=1))
    send_all(parts, lock=False)(Trigger.BEAT)
    parts.close()


def indexes(url: str, run_id: UUID) -> dict[UUID, int | None]:
    """By mail of that run, as the table has it."""
    with database(url) as connection:
        return dict(connection.execute(sa.select(_r.id, _r.item_index).where(_r.run_id == run_id)).all())  # type: ignore[arg-type]


def named(url: str, run_id: UUID) -> dict[UUID, int]:
    """By mail, as the report of that run has it."""
    e = run_errors.c
    with database(url) as connection:
        return dict(connection.execute(sa.select(e.reservation_id, e.item_index).where(e.run_id == run_id)).all())  # type: ignore[arg-type]


def test_it_is_the_index_of_the_report_until_the_mail_is_claimed_again(
    database_url: str, redis_url: str, relay: Relay
) -> None:
    reserve(database_url, 4)
    reserve(database_url, 1, recipients="refuse-ann@example.org")
    reserve(database_url, 1, subject="{{ nothing }}", context={"a": 1})
    send(database_url, relay)
    first = runs(database_url)[0].run_id
    said = named(database_url, first)
    assert len(said) == 2
    assert indexes(database_url, first) == dict.fromkeys(indexes(database_url, first)) | said

    with Api({"database_url": database_url, "redis_url": redis_url}) as api:
        page = Browser(api.client)
        for own, index in said.items():
            assert api.get(f"/api/reservations/{own}")["item_index"] == index
            assert f"{first}, item {index}" in page.open(f"/reservations/{own}")

    with database(database_url) as connection:
        mended = {"status": "pending", "finished_at": None, "retry_at": now(), "recipients": "ann@example.org"}
        connection.execute(sa.update(mail_reservations).where(_r.reply_code == 550).values(mended))
    send(database_url, relay)
    second = runs(database_url)[1].run_id
    (again,) = indexes(database_url, second).values()
    assert again is None, "it was sent, and this run's report does not name it"
