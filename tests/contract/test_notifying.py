"""The ports ``Outbox`` and ``Incidents``: what people are notified of, by whom, and how often it is tried."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest
import sqlalchemy as sa
from support.fake_notifying import FakeIncidents, FakeOutbox
from support.fake_tables import FakeTables
from support.rows import run_row
from support.table_worlds import SqlWorld, empty

from mailbatch.domain.finding import Finding, Level
from mailbatch.domain.run_notification import DueReport
from mailbatch.infrastructure.db.incidents import FIRM, SAME, SqlIncidents
from mailbatch.infrastructure.db.run_reports import SqlOutbox
from mailbatch.infrastructure.db.tables import incidents, run_reports

if TYPE_CHECKING:
    from sqlalchemy.engine import Engine

CHANNELS = ["mail", "webhook"]


class Fake:
    def __init__(self) -> None:
        self.tables = FakeTables()
        self.outbox = FakeOutbox(self.tables)
        self.incidents = FakeIncidents(self.tables)

    def put(self, report: DueReport) -> None:
        self.outbox.add(report)

    def pass_time(self, seconds: float) -> None:
        self.tables.clock.now += seconds

    @property
    def now(self) -> datetime:
        return self.tables.now


class Sql:
    """Time passes in that all times of the rows become earlier."""

    def __init__(self, engine: Engine) -> None:
        empty(engine)
        self.engine = engine
        self.outbox = SqlOutbox(engine)
        self.incidents = SqlIncidents(engine)
        self.run = run_row()
        SqlWorld(engine).put(self.run)

    def put(self, report: DueReport) -> None:
        SqlWorld(self.engine).put(run_row(run_id=report.run_id))
        row = {"run_id": report.run_id, "channel": report.channel, "report": dict(report.report)}
        with self.engine.begin() as connection:
            connection.execute(sa.insert(run_reports).values(row))

    def pass_time(self, seconds: float) -> None:
        for table, names in ((run_reports, ["next_at"]), (incidents, ["since", "next_at", "ended_at"])):
            key = list(table.primary_key)
            with self.engine.begin() as connection:
                for row in connection.execute(sa.select(table)).mappings().all():
                    earlier = {n: row[n] - timedelta(seconds=seconds) for n in names if row[n] is not None}
                    if earlier:
                        own = sa.and_(*(column == row[column.name] for column in key))
                        connection.execute(sa.update(table).where(own).values(earlier))

    @property
    def now(self) -> datetime:
        return datetime.now(UTC)


@pytest.fixture(params=["fake", "sqlite", "postgresql"])
def side(request: pytest.FixtureRequest) -> Fake | Sql:
    if request.param == "fake":
        return Fake()
    return Sql(request.getfixturevalue({"sqlite": "kept_sqlite", "postgresql": "kept_postgres"}[request.param]))


def report(channel: str = "webhook") -> DueReport:
    return DueReport(uuid4(), channel, 0, {"outcome": "completed", "sent": 3})


def finding(name: str = "no_run", since: datetime | None = None) -> Finding:
    return Finding(name=name, level=Level.ERROR, what=f"{name} is wrong", since=since, advice="do this")


# --- reports on their way ---


def test_a_report_is_taken_once_and_for_a_while_by_nobody_else(side):
    one = report()
    side.put(one)
    [taken] = side.outbox.take(9)
    assert (taken.run_id, taken.channel, taken.attempts, taken.report) == (one.run_id, "webhook", 0, one.report)
    assert side.outbox.take(9) == []
    assert 50 < side.outbox.next_in() <= 60


def test_a_report_whose_taker_died_is_taken_again_with_one_attempt_more(side):
    side.put(report())
    side.outbox.take(9)
    side.pass_time(61)
    [again] = side.outbox.take(9)
    assert again.attempts == 1


def test_what_was_delivered_and_what_was_given_up_is_taken_no_more(side):
    for _ in range(2):
        side.put(report())
    delivered, failed = side.outbox.take(9)
    side.outbox.delivered(delivered)
    side.outbox.failed(failed, "gone", None)
    side.pass_time(9999)
    assert (side.outbox.take(9), side.outbox.next_in()) == ([], None)


def test_what_failed_is_due_again_after_its_wait(side):
    side.put(report())
    [taken] = side.outbox.take(9)
    side.outbox.failed(taken, "500", 300.0)
    assert 290 < side.outbox.next_in() <= 300
    side.pass_time(301)
    assert [again.id for again in side.outbox.take(9)] == [taken.id]


def test_no_more_reports_are_taken_than_are_asked_for(side):
    for _ in range(3):
        side.put(report())
    assert len(side.outbox.take(2)) == 2
    assert len(side.outbox.take(2)) == 1


# --- incidents ---


def told(side) -> list[tuple[str, str]]:
    return sorted((one.kind, one.channel) for one in side.incidents.take(CHANNELS))


def test_what_is_wrong_for_a_minute_is_told_by_every_channel_once(side):
    began = side.now - timedelta(seconds=FIRM + 5)
    side.incidents.note([finding(since=began)], CHANNELS)
    taken = side.incidents.take(CHANNELS)
    assert sorted(one.channel for one in taken) == CHANNELS
    assert {(one.what, one.advice) for one in taken} == {("no_run is wrong", "do this")}
    assert told(side) == []
    for one in taken:
        side.incidents.delivered(one)
    side.pass_time(9999)
    assert told(side) == []


@pytest.mark.parametrize("since", [None, 0])
def test_what_has_only_just_begun_is_told_when_it_lasts(side, since):
    began = None if since is None else side.now
    side.incidents.note([finding(since=began)], ["mail"])
    assert told(side) == []
    side.pass_time(FIRM + 2)
    assert told(side) == [("no_run", "mail")]


def test_what_was_not_told_is_tried_again_later_and_by_its_own_channel(side):
    side.incidents.note([finding(since=side.now - timedelta(seconds=FIRM + 5))], CHANNELS)
    by_channel = {one.channel: one for one in side.incidents.take(CHANNELS)}
    side.incidents.delivered(by_channel["mail"])
    side.pass_time(70)
    assert told(side) == [("no_run", "webhook")]


def test_what_nobody_takes_any_more_is_not_tried_again(side):
    side.incidents.note([finding(since=side.now - timedelta(seconds=FIRM + 5))], ["mail"])
    [one] = side.incidents.take(CHANNELS)
    side.incidents.give_up(one)
    side.pass_time(9999)
    assert told(side) == []


def test_what_ended_is_not_told_and_what_comes_back_soon_is_the_same(side):
    side.incidents.note([finding(since=side.now - timedelta(seconds=FIRM + 5))], ["mail"])
    [one] = side.incidents.take(CHANNELS)
    side.incidents.delivered(one)
    side.incidents.note([], ["mail"])
    side.pass_time(SAME - 30)
    side.incidents.note([finding(since=side.now - timedelta(seconds=FIRM + 5))], ["mail"])
    assert told(side) == []
    side.incidents.note([], ["mail"])
    side.pass_time(SAME + 5)
    side.incidents.note([finding(since=side.now - timedelta(seconds=FIRM + 5))], ["mail"])
    assert told(side) == [("no_run", "mail")]


def test_each_kind_is_an_incident_of_its_own(side):
    began = side.now - timedelta(seconds=FIRM + 5)
    side.incidents.note([finding("no_run", began), finding("redis_away", began)], ["mail"])
    assert told(side) == [("no_run", "mail"), ("redis_away", "mail")]
    side.incidents.note([finding("redis_away", began)], ["mail"])
    side.pass_time(9999)
    assert told(side) == [("redis_away", "mail")]
