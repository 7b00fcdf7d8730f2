"""Any step may fail: nothing is lost, each duplicate is named, and the reports add up to what happened."""

from __future__ import annotations

from collections import Counter
from functools import partial
from random import Random
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa
from support.chaos import Killed, Process, ShakyBacklog, ShakyRelay
from support.fake_clock import FakeClock
from support.fake_stores import FakeRun, FakeStop, plain_message

from mailbatch.application.sending.send_due import SendDue
from mailbatch.domain.act import Act
from mailbatch.domain.errors import CannotCompose, RunFailed
from mailbatch.domain.lifecycle import REQUEUABLE, OnDoubt
from mailbatch.domain.retry import RetryPolicy
from mailbatch.domain.run import RunOutcome, RunReport, Trigger
from mailbatch.infrastructure.db.backlog import SqlBacklog
from mailbatch.infrastructure.db.engine import connect
from mailbatch.infrastructure.db.interventions import SqlInterventions
from mailbatch.infrastructure.db.runs import SqlRuns
from mailbatch.infrastructure.db.tables import batch_runs, mail_attempts, mail_reservations, run_errors
from mailbatch.infrastructure.db.types import now

if TYPE_CHECKING:
    from uuid import UUID

_r, _a = mail_reservations.c, mail_attempts.c
# So many that no mail is quarantined: nobody could report its last try.
_RETRY = RetryPolicy(max_attempts=9)
_BAD_RUNS, _GOOD_RUNS = 12, 30
_TRIED = ("failed", "deferred", "in_doubt")


class World:
    """A backlog on SQLite and runs over it, some of which die. ``dice`` decide everything."""

    def __init__(self, url: str, dice: Random, *, strict: bool) -> None:
        self.engine = connect(url)
        self.dice = dice
        self.strict = strict
        self.on_doubt = OnDoubt.HOLD if strict else dice.choice(list(OnDoubt))
        self.process = Process(dice)
        self.sound = SqlBacklog(
            engine=self.engine, lease=60, retry=_RETRY, message_id_domain="example.org", strict=strict
        )
        self.backlog = ShakyBacklog(self.sound, self.process, dice.choice([0.0, 0.02, 0.06]))
        self.relay = ShakyRelay(self.process, 1 if strict else dice.choice([1, 3, 8]))
        self.runs = SqlRuns(self.engine)
        with self.engine.begin() as connection:
            for n in range(dice.randrange(3, 20)):
                to = f"a{n}@example.org, b{n}@example.org" if dice.random() < 0.4 else f"a{n}@example.org"
                mail = {"recipients": to, "subject": "s", "body_text": "t"}
                connection.execute(sa.insert(mail_reservations).values(mail))

    def drain(self) -> None:
        """Run until every mail has ended. At first much goes wrong, then nothing."""
        for number in range(_BAD_RUNS + _GOOD_RUNS):
            if number == _BAD_RUNS:
                self.backlog.shaky = 0.0
            elif number > _BAD_RUNS and not self.select(sa.select(_r.id).where(_r.status.in_(["pending", "sending"]))):
                break
            self.let_time_pass()
            if self.dice.random() < 0.3:
                failed = self.select(sa.select(_r.id).where(_r.status == "failed"))
                SqlInterventions(self.engine).apply(Act.REQUEUE, failed, REQUEUABLE)
            self.run(mortal=self.dice.choice([0.0, 0.02, 0.05]) if number < _BAD_RUNS else 0.0)
        self.let_time_pass()
        self.runs.close_dead("send-all", 10)

    def let_time_pass(self) -> None:
        """End leases, make retries due, and let runs without a heartbeat count as dead."""
        with self.engine.begin() as connection:
            ended = sa.update(mail_reservations).where(_r.status == "sending").values(lease_until=now(-1))
            connection.execute(ended)
            due = sa.update(mail_reservations).where(_r.status == "pending").values(retry_at=now(-1))
            connection.execute(due)
            connection.execute(sa.update(batch_runs).values(heartbeat_at=now(-60)))

    def run(self, *, mortal: float) -> None:
        """Do one run as a job does it."""
        run, outcome = FakeRun(), RunOutcome.COMPLETED
        if self.dice.random() < 0.2:
            run.stop = FakeStop(RunOutcome.SHUTDOWN, after=self.dice.randrange(60))
        self.process.mortal, self.process.dead = mortal, False
        self.runs.close_dead("send-all", 10)
        lane = self.lane()
        self.runs.open(run.id, "send-all", Trigger.BEAT, lane.bound)
        run.raise_bound = partial(self.runs.raise_bound, run.id)  # type: ignore[method-assign]
        try:
            lane(run)
        except RunFailed:
            outcome = RunOutcome.FAILED
        except Killed:
            self.check_bound(run.id)
            # The run had written these errors with its last heartbeat.
            self.runs.errors(run.id, run.errors[: self.dice.randrange(len(run.errors) + 1)])
            return
        self.runs.errors(run.id, run.errors)
        report = RunReport(run_id=run.id, trigger=Trigger.BEAT, outcome=outcome, counts=run.counts)
        self.runs.close("send-all", report, None)

    def check_bound(self, run_id: UUID) -> None:
        """Check that the run's row, as its death left it, allows for the mails that are in doubt."""
        [bound] = self.select(sa.select(batch_runs.c.bound).where(batch_runs.c.run_id == run_id))
        on_wire = sa.and_(_r.run_id == run_id, _r.status == "sending", _r.wire_at.is_not(None))
        assert len(self.select(sa.select(_r.id).where(on_wire))) <= bound

    def lane(self) -> SendDue:
        group_size = self.dice.choice([1, 3, 8])
        return SendDue(
            backlog=self.backlog,
            compose=self.compose,
            transport=self.relay,
            clock=FakeClock(),
            jitter=self.dice.random,
            retry=_RETRY,
            on_doubt=self.on_doubt,
            group_size=group_size,
            bound=0 if self.strict else 2 * group_size,
            page_size=10,
            lease=60,
            strict=self.strict,
        )

    def compose(self, claimed: Any) -> Any:
        if self.dice.random() < 0.05:
            raise CannotCompose(["template: there is none"])
        return plain_message(claimed)

    def select(self, statement: Any) -> list[Any]:
        with self.engine.begin() as connection:
            return list(connection.execute(statement).scalars())

    def rows(self, table: sa.Table) -> list[Any]:
        with self.engine.begin() as connection:
            return list(connection.execute(sa.select(table)))


@pytest.fixture(params=range(8))
def dice(request: pytest.FixtureRequest) -> Random:
    return Random(request.param)  # noqa: S311 - to be repeated


@pytest.mark.parametrize("strict", [False, True])
def test_whatever_fails_nothing_is_lost_and_the_reports_add_up(sqlite_url, dice, strict):
    world = World(sqlite_url, dice, strict=strict)
    world.drain()
    mails, tries, taken = world.rows(mail_reservations), world.rows(mail_attempts), world.relay.taken
    tried = Counter(t.outcome for t in tries)
    doubts = Counter(t.reservation_id for t in tries if t.outcome == "in_doubt")

    assert {mail.status for mail in mails} <= {"sent", "failed", "in_doubt"}
    assert [m.id for m in mails if m.status == "sent" and not all(taken[m.id, to] for to in people(m))] == []
    assert [m.id for m in mails if max(taken[m.id, to] for to in people(m)) > 1 + doubts[m.id]] == []
    if strict:
        assert max(taken.values()) == 1
        ended = world.relay.ended | world.backlog.intended
        assert [t for t in tries if t.outcome == "in_doubt" and (t.reservation_id, t.claim_no) not in keys(ended)] == []

    told = {name: sum(getattr(run, name) for run in world.rows(batch_runs)) for name in ("sent", *_TRIED)}
    assert told == {"sent": sum(m.status == "sent" for m in mails), **{name: tried[name] for name in _TRIED}}
    named = Counter(error.reservation_id for error in world.rows(run_errors))
    assert named == Counter(t.reservation_id for t in tries if t.outcome in _TRIED)
    world.engine.dispose()


def people(mail: Any) -> list[str]:
    return mail.recipients.split(", ")


def keys(claims: Any) -> set[tuple[UUID, int]]:
    return {(claim.reservation_id, claim.claim_no) for claim in claims}
