"""A search finds what a filter means, however small its looks are, and ends when its time is up; on both databases."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import product
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest
import sqlalchemy as sa
from support.operating import acting

from mailbatch.application.looking.inquire import ListReservations
from mailbatch.domain.act import Act
from mailbatch.domain.reservation import FINISHED, Status
from mailbatch.domain.rows import ReservationPlace, ReservationSummary
from mailbatch.domain.selection import Counted, Selection, moment_of
from mailbatch.infrastructure.db import searching, selecting
from mailbatch.infrastructure.db.engine import connect
from mailbatch.infrastructure.db.reservations import SqlReservations
from mailbatch.infrastructure.db.tables import mail_reservations

if TYPE_CHECKING:
    from collections.abc import Iterator


MANY = 90
START = datetime(2026, 3, 1, tzinfo=UTC)


def _mail(n: int) -> dict[str, Any]:
    status = list(Status)[n % len(Status)]
    made = START + timedelta(minutes=n // 2)
    return {
        "id": UUID(int=n * 7919 % 1000),
        "recipients": f"To{n % 4} <to{n % 4}@example.org>",
        "subject": "s",
        "body_text": "t",
        "tag": (None, "few", "many")[0 if n % 5 == 0 else 1 if n % 17 == 0 else 2],
        "status": status.value,
        "created_at": made,
        "finished_at": made + timedelta(minutes=n * 31 % 50) if status in FINISHED else None,
        "lease_until": made if status is Status.SENDING else None,
        "reply_code": {Status.SENT: 250, Status.FAILED: (550, 421)[n % 2]}.get(status),
    }


MAILS = [_mail(n) for n in range(MANY)]


@pytest.fixture
def store(database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[SqlReservations]:
    """Mails in every state, of which a look reads only a few."""
    for name, rows in {"FIRST": 7, "LEAST": 3, "MOST": 30, "RARE": 8}.items():
        monkeypatch.setattr(searching, name, rows)
    monkeypatch.setattr(selecting, "RARE", 8)
    engine = connect(database_url)
    with engine.begin() as connection:
        connection.execute(sa.insert(mail_reservations), MAILS)
    yield SqlReservations(engine)
    engine.dispose()


FILTERS = [
    Selection(status=status, tag=tag, to=to, reply=reply, since=since)
    for status, tag, to, reply, since in product(
        (None, Status.FAILED, Status.PENDING),
        (None, "few", "many"),
        (None, "TO3@", "nobody"),
        (None, "4xx", "none"),
        (None, START + timedelta(minutes=20)),
    )
]


def place_of(row: dict[str, Any]) -> ReservationPlace:
    return ReservationPlace.from_row(row)


def meant(which: Selection) -> list[UUID]:
    """What ``which`` means, the newest first, found the slow way."""

    def fits(row: dict[str, Any]) -> bool:
        code = row["reply_code"]
        return (
            (which.status is None or row["status"] == which.status)
            and (which.tag is None or row["tag"] == which.tag)
            and (which.to is None or which.to.lower() in row["recipients"].lower())
            and (which.since is None or moment_of(place_of(row), which) >= which.since)
            and {None: True, "4xx": (code or 0) // 100 == 4, "none": code is None}[which.reply]
        )

    found = sorted(filter(fits, MAILS), key=lambda row: (moment_of(place_of(row), which), row["id"]), reverse=True)
    return [row["id"] for row in found]


def test_whatever_is_asked_it_finds_all_that_is_meant_in_order(store):
    # Five has no factor in common with the numbers of their values: each value meets each.
    for which in FILTERS[::5]:
        assert [row.id for row in ListReservations(store)(which, MANY, ReservationSummary)] == meant(which), which
        assert store.count(which, MANY) == len(meant(which)), which


def test_searches_that_end_early_go_on_where_they_ended_and_miss_nobody(store):
    for which in FILTERS[::7]:
        seen: list[UUID] = []
        place: ReservationPlace | None = None
        while True:
            found = store.search(which, ReservationPlace, place, 4, within=0)
            seen += [row.id for row in found.rows]
            place = found.further or (found.rows[-1] if len(found.rows) == 4 else None)
            if place is None:
                break
        assert seen == meant(which), which


def test_a_search_for_nobody_ends_when_its_time_is_up_and_says_how_far_it_came(store):
    found = store.search(Selection(to="nobody"), ReservationPlace, None, 50, within=0)
    newest = sorted(MAILS, key=lambda row: (row["created_at"], row["id"]), reverse=True)
    assert found.rows == []
    assert found.further is not None
    assert (found.further.id, found.further.created_at) == (newest[6]["id"], newest[6]["created_at"])


def test_what_an_index_knows_is_found_whole_in_any_time(store):
    for which in (Selection(), Selection(status=Status.SENT), Selection(tag="many"), Selection(tag="few", to="to")):
        found = store.search(which, ReservationPlace, None, MANY, within=0)
        assert ([row.id for row in found.rows], found.further) == (meant(which), None), which
        assert store.estimate(which, MANY, within=0) == Counted(len(meant(which)), exact=True)


def test_a_count_that_ends_early_says_that_there_may_be_more(store):
    which = Selection(status=Status.PENDING, to="to1@")
    assert store.estimate(which, MANY) == Counted(len(meant(which)), exact=True)
    some = store.estimate(which, MANY, within=0)
    assert not some.exact
    assert some.many < len(meant(which))


def test_a_preview_that_came_to_nobody_in_its_time_does_not_promise_that_there_is_nobody(store, monkeypatch):
    monkeypatch.setattr("mailbatch.application.acting.act.PATIENCE", 0.0)
    assert acting(store.engine).count(Act.CANCEL, Selection(to="nobody")) == Counted(0, exact=False)


def test_an_index_that_somebody_made_for_parts_of_an_address_is_used(fresh_postgres_url, monkeypatch):
    monkeypatch.setattr(searching, "FIRST", 7)
    engine = connect(fresh_postgres_url)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        if not connection.scalar(sa.text("SELECT count(*) FROM pg_available_extensions WHERE name = 'pg_trgm'")):
            pytest.skip("this PostgreSQL has no pg_trgm (Debian: apt install postgresql)")
        connection.execute(sa.insert(mail_reservations), MAILS)
        connection.exec_driver_sql("CREATE EXTENSION pg_trgm")
        connection.exec_driver_sql("CREATE INDEX ON mail_reservations USING gin (recipients gin_trgm_ops)")
    for which in (Selection(to="nobody"), Selection(to="TO3@", status=Status.SENT), Selection(to="to1@", tag="many")):
        found = SqlReservations(engine).search(which, ReservationPlace, None, MANY, within=0)
        assert ([row.id for row in found.rows], found.further) == (meant(which), None)
    engine.dispose()
