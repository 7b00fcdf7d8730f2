"""The port ``Runs``, the rows of runs: what becomes of those whose process died, in the fake as in the databases."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa
from support.fake_stores import FakeRuns
from support.fake_tables import FakeTables
from support.operating import act_on_all

from mailbatch.domain.act import Act
from mailbatch.domain.lifecycle import OnDoubt
from mailbatch.domain.outcome import Kind, Replied, Reply, Verdict
from mailbatch.domain.retry import RetryPolicy
from mailbatch.domain.run import Counts, ItemError, NewestRun, RunOutcome, RunReport, Trigger
from mailbatch.domain.selection import ErrorsOf
from mailbatch.domain.settlement import settle, uncomposable
from mailbatch.infrastructure.db.backlog import SqlBacklog
from mailbatch.infrastructure.db.engine import connect
from mailbatch.infrastructure.db.lanes import SqlLanes
from mailbatch.infrastructure.db.reports import SqlReports
from mailbatch.infrastructure.db.runs import DIED, SqlRuns
from mailbatch.infrastructure.db.tables import batch_runs, mail_reservations
from mailbatch.infrastructure.db.types import now

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mailbatch.domain.rows import RunRow

_SENDING = mail_reservations.c.status == "sending"


class Fake:
    def __init__(self) -> None:
        self.tables = FakeTables()
        self.runs = FakeRuns(self.tables)

    def pass_time(self) -> None:
        self.tables.clock.sleep(0.01)

    def fall_silent(self, run_id: UUID) -> None:
        self._change(run_id, heartbeat_at=self.tables.now - timedelta(seconds=11))

    def write_stop(self, run_id: UUID, stop: str) -> None:
        self._change(run_id, stop=stop)

    def row(self, run_id: UUID) -> RunRow:
        return self.tables.runs[run_id]

    def _change(self, run_id: UUID, **columns: Any) -> None:
        self.tables.runs[run_id] = replace(self.tables.runs[run_id], **columns)


class Sql:
    def __init__(self, url: str) -> None:
        self.engine = connect(url)
        self.runs = SqlRuns(self.engine)

    def pass_time(self) -> None:
        """Time passes by itself."""

    def fall_silent(self, run_id: UUID) -> None:
        self._change(run_id, heartbeat_at=now(-11))

    def write_stop(self, run_id: UUID, stop: str) -> None:
        self._change(run_id, stop=stop)

    def row(self, run_id: UUID) -> RunRow | None:
        return SqlReports(self.engine).run(run_id)

    def _change(self, run_id: UUID, **columns: Any) -> None:
        with self.engine.begin() as connection:
            connection.execute(sa.update(batch_runs).where(batch_runs.c.run_id == run_id).values(columns))


@pytest.fixture(params=["fake", "sqlite", "postgresql"])
def world(request: pytest.FixtureRequest) -> Iterator[Fake | Sql]:
    if request.param == "fake":
        yield Fake()
        return
    made = Sql(request.getfixturevalue({"sqlite": "sqlite_url", "postgresql": "postgres_url"}[request.param]))
    yield made
    made.engine.dispose()


def test_a_run_that_died_is_closed_with_what_it_left(world):
    dead, alive = uuid4(), uuid4()
    for run_id in (dead, alive):
        world.runs.open(run_id, "send-all", Trigger.BEAT, 8)
    world.fall_silent(dead)
    assert world.runs.close_dead("send-all", 10, lambda: 7) == [dead]
    row = world.row(dead)
    assert (row.outcome, row.error, row.remaining) == (RunOutcome.FAILED, DIED, 7)
    assert row.finished_at is not None
    assert world.row(alive).outcome is None


def test_the_newest_run_that_goes_on_is_open_and_shows_its_silence(world):
    assert world.runs.open_run("send-all") is None
    run_id, ended = uuid4(), uuid4()
    for opened in (run_id, ended):
        world.runs.open(opened, "send-all", Trigger.BEAT, 8)
    report = RunReport(run_id=ended, trigger=Trigger.BEAT, outcome=RunOutcome.COMPLETED, counts=Counts(sent=3))
    world.runs.close("send-all", report, None)
    world.fall_silent(run_id)
    found = world.runs.open_run("send-all")
    assert (found.run_id, found.silent) == (run_id, pytest.approx(11, abs=1))
    assert world.runs.open_run("purge") is None
    assert (world.row(ended).outcome, world.row(ended).sent) == (RunOutcome.COMPLETED, 3)


def test_the_bound_of_a_run_that_goes_on_is_raised_by_each_lane_and_its_end_says_it(world):
    run_id = uuid4()
    world.runs.open(run_id, "send-all", Trigger.BEAT, 8)
    world.runs.raise_bound(run_id, 4)
    world.runs.raise_bound(run_id, 16)
    assert world.row(run_id).bound == 28
    report = RunReport(run_id=run_id, trigger=Trigger.BEAT, outcome=RunOutcome.COMPLETED, bound=8)
    assert world.runs.close("send-all", report, None) == 28
    world.runs.raise_bound(run_id, 1)
    assert world.row(run_id).bound == 28


def test_a_run_that_goes_on_can_be_told_to_stop_once_and_no_other(world):
    runs, ours, other, over = world.runs, *(uuid4() for _ in range(3))
    for run_id in (ours, other, over):
        runs.open(run_id, "nightly", Trigger.MANUAL, 0)
    runs.close("nightly", RunReport(run_id=over, trigger=Trigger.MANUAL, outcome=RunOutcome.COMPLETED), None)
    assert [runs.request_stop(run_id) for run_id in (ours, ours, over, uuid4())] == [True, False, False, False]
    assert runs.stop_request(ours) is RunOutcome.REVOKED
    assert runs.stop_request(other) is runs.stop_request(over) is None


def test_what_is_left_is_counted_only_if_a_run_has_died(world):
    world.runs.open(uuid4(), "send-all", Trigger.BEAT, 8)
    assert world.runs.close_dead("send-all", 10, lambda: pytest.fail("counted")) == []


@pytest.fixture
def engine(database_url: str) -> Iterator[sa.Engine]:
    made = connect(database_url)
    yield made
    made.dispose()


@pytest.mark.parametrize(
    ("stop", "told"),
    [("paused", "paused"), ("revoked", "revoked"), ("completed", None), ("failed", None), ("junk", "revoked")],
)
def test_what_lane_0_writes_for_the_others_stops_no_run_and_what_anybody_writes_does(world, stop, told):
    run_id = uuid4()
    world.runs.open(run_id, "send-all", Trigger.BEAT, 8)
    world.write_stop(run_id, stop)
    assert world.runs.stop_request(run_id) == told


def test_nobody_joins_a_sealed_run_and_none_is_sealed_while_a_helper_lives(engine):
    lanes, run_id = SqlLanes(engine), uuid4()
    SqlRuns(engine).open(run_id, "send-all", Trigger.BEAT, 8)
    assert lanes.join(run_id, 1)
    assert not lanes.seal(run_id, 10)
    assert lanes.must_stop(run_id, 10) is None
    lanes.leave(run_id, 1, None)
    assert lanes.seal(run_id, 10)
    assert not lanes.join(run_id, 2)


def test_a_killed_runs_counts_and_errors_are_what_it_did_and_not_its_last_word(engine):
    dead, before = uuid4(), uuid4()
    runs = SqlRuns(engine)
    retry = RetryPolicy()
    backlog = SqlBacklog(engine=engine, lease=60, retry=retry, message_id_domain="example.org")
    for run_id in (before, dead):
        runs.open(run_id, "send-all", Trigger.BEAT, 8)
    with engine.begin() as connection:
        row = {"subject": "s", "body_text": "t"}
        for n in range(6):
            connection.execute(sa.insert(mail_reservations).values(recipients=f"to{n}@example.org", **row))
    [lost] = backlog.claim(before, 0, None, 1).claimed
    with engine.begin() as connection:
        connection.execute(sa.update(mail_reservations).values(lease_until=now(-1)).where(_SENDING))
    said = [
        Verdict(Kind.ACCEPTED, Reply(250, "2.0.0 ok")),
        Verdict(Kind.ACCEPTED, Reply(250, "2.0.0 ok")),
        Verdict(Kind.REJECTED, Reply(550, "5.1.1 no such user")),
        Verdict(Kind.REJECTED, Reply(554, "5.7.1 no")),
        Verdict(Kind.DEFERRED, Reply(451, "4.7.1 later")),
    ]
    claimed = backlog.claim(dead, 0, None, 5).claimed
    answers = [Replied(c.claim, "relay:25", {"to@example.org": v}) for c, v in zip(claimed, said, strict=True)]
    given = {"attempts": 0, "earlier": {}, "retry": retry, "on_doubt": OnDoubt.HOLD, "jitter": 0.5}
    backlog.settle(dead, 0, [settle(answer, **given) for answer in answers])
    backlog.resolve_doubts(dead, OnDoubt.HOLD, 10)
    runs.errors(dead, [ItemError(3, claimed[2].claim.reservation_id, ("550 5.1.1 no such user",))])
    with engine.begin() as connection:
        connection.execute(sa.update(batch_runs).where(batch_runs.c.run_id == dead).values(heartbeat_at=now(-11)))

    assert runs.close_dead("send-all", 10) == [dead]
    with engine.begin() as connection:
        row = connection.execute(sa.select(batch_runs).where(batch_runs.c.run_id == dead)).one()
    assert (row.sent, row.failed, row.deferred, row.in_doubt) == (2, 2, 1, 1)
    errors = {error.reservation_id: error for error in runs.first_errors(dead, 100)}
    assert set(errors) == {lost.claim.reservation_id, *(c.claim.reservation_id for c in claimed[2:])}
    assert errors[claimed[3].claim.reservation_id].errors == ("554 5.7.1 no",)
    assert len({error.index for error in errors.values()}) == 4
    with engine.begin() as connection:
        columns = mail_reservations.c.id, mail_reservations.c.item_index
        named = dict(connection.execute(sa.select(*columns).where(mail_reservations.c.run_id == dead)).all())
    # What the report of the dead names was not in its own words: its mails bear the index that it was given now.
    for late in claimed[3:]:
        assert named[late.claim.reservation_id] == errors[late.claim.reservation_id].index
    assert act_on_all(engine, Act.REQUEUE, ErrorsOf(dead)).changed == 2


def test_a_run_that_failed_counts_also_what_it_had_no_answer_to(engine):
    dead, run_id = uuid4(), uuid4()
    runs = SqlRuns(engine)
    backlog = SqlBacklog(engine=engine, lease=60, retry=RetryPolicy(), message_id_domain="example.org")
    for one in (dead, run_id):
        runs.open(one, "send-all", Trigger.BEAT, 8)
    with engine.begin() as connection:
        mail = {"recipients": "to@example.org", "subject": "s", "body_text": "t"}
        connection.execute(sa.insert(mail_reservations).values(mail))
    [held] = backlog.claim(dead, 0, None, 1).claimed
    with engine.begin() as connection:
        connection.execute(sa.update(mail_reservations).values(lease_until=now(-1)))
    backlog.resolve_doubts(run_id, OnDoubt.HOLD, 10)  # done, and the connection broke
    report = RunReport(run_id=run_id, trigger=Trigger.BEAT, outcome=RunOutcome.FAILED)
    runs.close("send-all", report, "failed to find reservation mail list. err:away")
    with engine.begin() as connection:
        row = connection.execute(sa.select(batch_runs).where(batch_runs.c.run_id == run_id)).one()
    assert (row.in_doubt, [e.reservation_id for e in runs.first_errors(run_id, 9)]) == (1, [held.claim.reservation_id])


def test_a_run_without_helpers_has_nothing_that_they_settled(engine):
    run_id = uuid4()
    SqlRuns(engine).open(run_id, "send-all", Trigger.BEAT, 8)
    assert SqlLanes(engine).counts(run_id) == Counts()


def test_what_a_helper_that_died_did_not_tell_is_told_when_the_run_ends(engine):
    run_id, runs, lanes = uuid4(), SqlRuns(engine), SqlLanes(engine)
    backlog = SqlBacklog(engine=engine, lease=60, retry=RetryPolicy(), message_id_domain="example.org")
    runs.open(run_id, "send-all", Trigger.BEAT, 8)
    lanes.join(run_id, 1)
    with engine.begin() as connection:
        mail = {"recipients": "to@example.org", "subject": "s", "body_text": "t"}
        connection.execute(sa.insert(mail_reservations).values(mail))
    [held] = backlog.claim(run_id, 1, None, 1).claimed
    backlog.settle(run_id, 1, [uncomposable(held.claim, ["template: there is none"], {})])
    counts = lanes.counts(run_id)
    report = RunReport(run_id=run_id, trigger=Trigger.BEAT, outcome=RunOutcome.COMPLETED, counts=counts)
    runs.close("send-all", report, None)
    assert counts == Counts(failed=1)
    assert [e.errors for e in runs.first_errors(run_id, 9)] == [("template: there is none",)]


def test_the_newest_run_is_known_while_it_goes_on_and_when_it_has_ended(world):
    assert world.runs.newest("send-all") is None
    first, second = uuid4(), uuid4()
    world.runs.open(first, "send-all", Trigger.BEAT, 8)
    assert world.runs.newest("send-all") == NewestRun(first, Trigger.BEAT, None, pytest.approx(0, abs=1))
    world.fall_silent(first)
    assert world.runs.newest("send-all") == NewestRun(first, Trigger.BEAT, None, pytest.approx(11, abs=1))
    world.runs.close("send-all", RunReport(run_id=first, trigger=Trigger.BEAT, outcome=RunOutcome.FAILED), "away")
    assert world.runs.newest("send-all") == NewestRun(first, Trigger.BEAT, RunOutcome.FAILED, pytest.approx(0, abs=1))
    assert world.runs.newest("purge") is None
    world.pass_time()
    world.runs.open(second, "send-all", Trigger.URGENT, 8)
    assert world.runs.newest("send-all").run_id == second
    assert world.row(second).trigger is Trigger.URGENT
