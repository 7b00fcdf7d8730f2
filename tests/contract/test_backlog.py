"""One suite for the port ``Backlog``: the fake, SQLite and PostgreSQL behave alike."""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa
from support.fake_backlog import FakeBacklog
from support.operating import act_on
from support.rows import run_row

from mailbatch.domain.act import Act
from mailbatch.domain.claimed import DoubtsResolved, Page, Without
from mailbatch.domain.errors import CannotCompose, StoreError
from mailbatch.domain.gate import NotBefore
from mailbatch.domain.lifecycle import OnDoubt
from mailbatch.domain.message import Claim
from mailbatch.domain.outcome import Kind, Replied, Reply, Verdict
from mailbatch.domain.reservation import Status
from mailbatch.domain.retry import RetryPolicy
from mailbatch.domain.run import RunOutcome
from mailbatch.domain.settlement import (
    Settlement,
    Tally,
    held_back,
    put_back,
    put_off,
    released,
    settle,
    uncomposable,
)
from mailbatch.infrastructure.db.backlog import SqlBacklog
from mailbatch.infrastructure.db.claiming import INLINE_BYTES, claim_statement
from mailbatch.infrastructure.db.engine import connect
from mailbatch.infrastructure.db.lanes import SqlLanes
from mailbatch.infrastructure.db.tables import batch_runs, mail_attempts, mail_reservations
from mailbatch.infrastructure.db.types import now
from mailbatch.infrastructure.db.urgent import urgent_statement

if TYPE_CHECKING:
    from collections.abc import Iterator

RETRY = RetryPolicy(max_attempts=3)
YES = Verdict(Kind.ACCEPTED, Reply(250, "2.0.0 ok"))
LATER = Verdict(Kind.DEFERRED, Reply(451, "4.7.1 later"))


@dataclass
class Fake:
    backlog: FakeBacklog

    def run(self) -> UUID:
        return uuid4()

    def reserve(self, *, due: float = -1.0, **kwargs: Any) -> UUID:
        return self.backlog.reserve(due=due, **kwargs)

    def row(self, reservation_id: UUID) -> Any:
        return self.backlog.rows[reservation_id]

    def end_lease(self, reservation_id: UUID) -> None:
        self.backlog.change(reservation_id, lease_until=self.backlog.tables.now - timedelta(seconds=1))

    def let_expire(self, reservation_id: UUID) -> None:
        self.backlog.change(reservation_id, expires_at=self.backlog.tables.now - timedelta(seconds=1))

    def forget_wire(self, reservation_id: UUID) -> None:
        self.backlog.change(reservation_id, wire_at=None)

    def request_stop(self, run_id: UUID) -> None:
        self.backlog.tables.runs[run_id] = run_row(run_id=run_id, stop=RunOutcome.REVOKED.value)


@dataclass
class Sql:
    backlog: SqlBacklog

    def run(self) -> UUID:
        run_id = uuid4()
        with self.backlog.engine.begin() as connection:
            connection.execute(sa.insert(batch_runs).values(run_id=run_id, job="send-all", trigger="manual"))
        return run_id

    def reserve(self, *, due: float = -1.0, expires: float | None = None, **columns: Any) -> UUID:
        given = {"id": uuid4(), "recipients": "ann@example.org", "subject": "s", "body_text": "t", **columns}
        if expires is not None:
            given["expires_at"] = now(expires)
        with self.backlog.engine.begin() as connection:
            connection.execute(sa.insert(mail_reservations).values(scheduled_at=now(due), **given))
        return given["id"]

    def row(self, reservation_id: UUID) -> Any:
        with self.backlog.engine.begin() as connection:
            query = sa.select(mail_reservations).where(mail_reservations.c.id == reservation_id)
            return connection.execute(query).one()

    def end_lease(self, reservation_id: UUID) -> None:
        self._set(reservation_id, lease_until=now(-1))

    def let_expire(self, reservation_id: UUID) -> None:
        self._set(reservation_id, expires_at=now(-1))

    def forget_wire(self, reservation_id: UUID) -> None:
        self._set(reservation_id, wire_at=None)

    def _set(self, reservation_id: UUID, **columns: Any) -> None:
        with self.backlog.engine.begin() as connection:
            query = sa.update(mail_reservations).where(mail_reservations.c.id == reservation_id)
            connection.execute(query.values(**columns))

    def request_stop(self, run_id: UUID) -> None:
        SqlLanes(self.backlog.engine).request_stop(run_id, RunOutcome.REVOKED)

    def attempts(self) -> list[Any]:
        with self.backlog.engine.begin() as connection:
            return list(connection.execute(sa.select(mail_attempts)))


@pytest.fixture
def sql(database_url: str) -> Iterator[Sql]:
    engine = connect(database_url)
    yield Sql(SqlBacklog(engine=engine, lease=60, retry=RETRY, message_id_domain="example.org"))
    engine.dispose()


def strict(world) -> Any:
    """The same world, for a lane in strict mode."""
    return type(world)(replace(world.backlog, strict=True))


@pytest.fixture(params=["fake", "sqlite", "postgresql"])
def world(request: pytest.FixtureRequest) -> Iterator[Fake | Sql]:
    if request.param == "fake":
        yield Fake(FakeBacklog(retry=RETRY))
        return
    engine = connect(request.getfixturevalue({"sqlite": "sqlite_url", "postgresql": "postgres_url"}[request.param]))
    yield Sql(SqlBacklog(engine=engine, lease=60, retry=RETRY, message_id_domain="example.org"))
    engine.dispose()


def claim_one(world) -> tuple[UUID, Claim]:
    run = world.run()
    return run, world.backlog.claim(run, 0, None, 1).claimed[0].claim


def outcome(claim: Claim, *verdicts: Verdict, attempts: int = 0, on_doubt: OnDoubt = OnDoubt.RESEND) -> Settlement:
    answers = {f"to{i}@example.org": v for i, v in enumerate(verdicts)}
    answered = Replied(claim, "relay:25", answers)
    return settle(answered, attempts=attempts, earlier={}, retry=RETRY, on_doubt=on_doubt, jitter=0.5)


def test_what_is_due_is_claimed_in_order_of_priority_due_time_and_id(world):
    a, b, c = world.reserve(due=-5), world.reserve(due=-9), world.reserve(due=-1, priority=3)
    world.reserve(due=3600, priority=9)
    page = world.backlog.claim(world.run(), 0, None, 10)
    assert [one.claim.reservation_id for one in page.claimed] == [c, b, a]
    assert page.cursor is None


def test_pages_follow_the_cursor_across_priorities_and_indexes_count_over_the_run(world):
    for priority in (0, 1, 2):
        for _ in range(3):
            world.reserve(priority=priority)
    run, cursor, seen = world.run(), None, []
    for _ in range(4):
        page = world.backlog.claim(run, 0, cursor, 4)
        seen += [(one.index, world.row(one.claim.reservation_id).priority) for one in page.claimed]
        cursor = page.cursor
        if cursor is None:
            break
    assert seen == list(zip(range(1, 10), [2, 2, 2, 1, 1, 1, 0, 0, 0], strict=True))


def test_a_page_begins_behind_the_last_key_and_what_came_in_before_it_is_for_the_next_pass(world):
    first, second = world.reserve(due=-9), world.reserve(due=-8)
    run = world.run()
    page = world.backlog.claim(run, 0, None, 1)
    late = world.reserve(due=-20)
    behind = world.backlog.claim(run, 0, page.cursor, 5)
    again = world.backlog.claim(run, 0, None, 5)
    claimed = [[one.claim.reservation_id for one in each.claimed] for each in (page, behind, again)]
    assert claimed == [[first], [second], [late]]
    assert world.backlog.claim(run, 0, None, 5).claimed == []


def test_a_claim_is_a_lease_with_a_number_that_only_rises(world):
    mail = world.reserve()
    run, first = claim_one(world)
    row = world.row(mail)
    assert (row.status, row.claim_no, row.run_id) == (Status.SENDING, 1, run)
    assert row.lease_until is not None
    assert row.wire_at is not None
    world.backlog.settle(run, 0, [released(first)])
    _, second = claim_one(world)
    assert second.claim_no == 2


def test_the_message_id_is_fixed_at_the_first_claim(world):
    mail = world.reserve()
    run = world.run()
    first = world.backlog.claim(run, 0, None, 1)
    id_then = world.backlog.load(first.claimed)[0].message_id
    world.backlog.settle(run, 0, [released(first.claimed[0].claim)])
    again = world.backlog.claim(run, 0, None, 1)
    assert world.backlog.load(again.claimed)[0].message_id == id_then
    assert str(mail) in id_then


def test_a_claimed_mail_is_not_claimed_again(world):
    world.reserve()
    claim_one(world)
    assert world.backlog.claim(world.run(), 1, None, 5).claimed == []


def test_a_cancelled_mail_is_not_loaded_though_it_was_claimed(world):
    mail = world.reserve()
    page = world.backlog.claim(world.run(), 0, None, 1)
    world.end_lease(mail)
    world.backlog.resolve_doubts(world.run(), OnDoubt.RESEND, 10)
    assert world.backlog.load(page.claimed) == []


def test_a_small_mail_comes_with_its_claim_and_a_fat_one_is_loaded(sql):
    small, fat = sql.reserve(due=-2), sql.reserve(due=-1, body_text="x" * (INLINE_BYTES // 10 + 1))
    page = sql.backlog.claim(sql.run(), 0, None, 10)
    assert [one.claim.reservation_id for one in page.claimed] == [small, fat]
    assert [one.mail is None for one in page.claimed] == [False, True]
    assert page.claimed[1].size > INLINE_BYTES // 10
    loaded = sql.backlog.load(page.claimed)
    assert loaded[0] == page.claimed[0].mail
    assert loaded[1].mail.body_text == "x" * (INLINE_BYTES // 10 + 1)


def test_a_large_finished_message_is_read_in_pieces_as_long_as_its_claim_holds(sql):
    message = b"Subject: s\r\n\r\n" + bytes(range(256)) * 8_000
    bare: dict[str, Any] = {"subject": None, "body_text": None}
    sql.reserve(due=-2, message=b"Subject: s", **bare)
    large = sql.reserve(due=-1, message=message, attachments=[{"path": "a.pdf"}], **bare)
    first, second = sql.backlog.claim(sql.run(), 0, None, 10).claimed
    assert first.mail.mail.message == b"Subject: s"
    assert second.mail is None
    assert second.size > len(message)
    [loaded] = sql.backlog.load([second])
    content = loaded.mail.message
    assert (content.size, b"".join(content.pieces())) == (len(message), message)
    assert loaded.mail.attachments == [{"path": "a.pdf"}]
    sql.end_lease(large)
    sql.backlog.resolve_doubts(sql.run(), OnDoubt.RESEND, 10)
    with pytest.raises(CannotCompose, match="message: was deleted or changed while it was read"):
        list(content.pieces())


def test_a_group_is_settled_and_the_next_one_claimed_together(world):
    first, second = world.reserve(due=-9), world.reserve(due=-8)
    run = world.run()
    page = world.backlog.claim(run, 0, None, 1)
    done = page.claimed[0].claim
    stale = Claim(second, 7)
    held, following = world.backlog.settle_and_claim(run, 0, [outcome(done, YES), outcome(stale, YES)], page.cursor, 1)
    assert held == {done}
    assert [(one.claim.reservation_id, one.index) for one in following.claimed] == [(second, 2)]
    assert (world.row(first).status, world.row(second).status) == (Status.SENT, Status.SENDING)


def test_what_cannot_be_claimed_for_is_not_settled_either(sql):
    mail, _ = sql.reserve(due=-9), sql.reserve(due=-8)
    run, claim = claim_one(sql)
    with pytest.raises(StoreError, match="has no row in batch_runs"):
        sql.backlog.settle_and_claim(uuid4(), 0, [outcome(claim, YES)], None, 1)
    assert sql.row(mail).status == "sending"
    assert sql.backlog.settle(run, 0, [outcome(claim, YES)]) == {claim}


def test_a_verdict_is_written_once_and_only_by_the_holder_of_the_claim(world):
    mail = world.reserve()
    run, claim = claim_one(world)
    stale = Claim(mail, claim.claim_no - 1)
    assert world.backlog.settle(run, 0, [outcome(stale, LATER)]) == set()
    assert world.backlog.settle(run, 0, [outcome(claim, YES)]) == {claim}
    assert world.backlog.settle(run, 0, [outcome(claim, LATER)]) == set()
    row = world.row(mail)
    assert (row.status, row.attempts, row.lease_until) == (Status.SENT, 1, None)


def test_who_got_no_answer_to_a_commit_learns_that_the_verdicts_were_written(world):
    verdicts = [
        YES,
        LATER,
        Verdict(Kind.REJECTED, Reply(550, "5.1.1 no")),
        Verdict(Kind.NO_VERDICT, Reply(0, "the connection broke")),
    ]
    for _ in verdicts:
        world.reserve()
    run = world.run()
    page = world.backlog.claim(run, 0, None, 9)
    settlements = [outcome(c.claim, verdict) for c, verdict in zip(page.claimed, verdicts, strict=True)]
    everything = {s.claim for s in settlements}
    assert world.backlog.settle(run, 0, settlements) == everything
    assert world.backlog.settle(run, 0, settlements) == everything
    assert [world.row(claim.reservation_id).attempts for claim in everything] == [1] * 4


def test_a_verdict_that_was_written_before_is_counted_once_for_a_helper(sql):
    sql.reserve()
    run = sql.run()
    lanes = SqlLanes(sql.backlog.engine)
    assert lanes.join(run, 1)
    (claimed,) = sql.backlog.claim(run, 1, None, 1).claimed
    for _ in range(2):
        assert sql.backlog.settle(run, 1, [outcome(claimed.claim, YES)]) == {claimed.claim}
    assert lanes.counts(run).sent == 1


def test_a_deferred_mail_is_due_later(world):
    mail = world.reserve()
    run, claim = claim_one(world)
    world.backlog.settle(run, 0, [outcome(claim, LATER)])
    assert (world.row(mail).status, world.row(mail).attempts) == (Status.PENDING, 1)
    assert world.backlog.claim(world.run(), 0, None, 5).claimed == []
    assert world.backlog.remaining() == 0


def test_a_retry_knows_who_took_it_before(world):
    world.reserve(recipients="to0@example.org, to1@example.org")
    run = world.run()
    page = world.backlog.claim(run, 0, None, 1)
    partly = outcome(page.claimed[0].claim, YES, LATER)
    world.backlog.settle(run, 0, [Settlement(**{f: getattr(partly, f) for f in partly.__slots__} | {"retry_in": 0.0})])
    again = world.backlog.claim(run, 0, None, 1)
    assert list(world.backlog.load(again.claimed)[0].earlier) == ["to0@example.org"]


def test_who_took_it_before_is_not_forgotten_when_the_retry_cannot_be_composed(sql):
    mail = sql.reserve(recipients="to0@example.org, to1@example.org")
    run, claim = claim_one(sql)
    sql.backlog.settle(run, 0, [replace(outcome(claim, YES, LATER), retry_in=0.0)])
    (again,) = sql.backlog.claim(run, 0, None, 1).claimed
    (loaded,) = sql.backlog.load([again])
    sql.backlog.settle(run, 0, [uncomposable(again.claim, ["template: there is none"], loaded.earlier)])
    act_on(sql.backlog.engine, Act.REQUEUE, [mail])
    (mended,) = sql.backlog.load(sql.backlog.claim(run, 0, None, 1).claimed)
    assert list(mended.earlier) == ["to0@example.org"]


def test_who_took_it_is_kept_though_no_attempt_was_used_and_the_mail_is_due_at_once(world):
    mail = world.reserve(recipients="to0@example.org, to1@example.org")
    run, claim = claim_one(world)
    world.backlog.settle(run, 0, [outcome(claim, YES, LATER)])
    row = world.row(mail)
    assert (row.status, row.attempts, row.last_error) == ("pending", 0, str(LATER.reply))
    (again,) = world.backlog.claim(run, 0, None, 1).claimed
    assert list(world.backlog.load([again])[0].earlier) == ["to0@example.org"]
    world.backlog.settle(run, 0, [put_back(again.claim, "relay:25", Reply(454, "4.7.0 throttled"))])
    (third,) = world.backlog.claim(run, 0, None, 1).claimed
    assert list(world.backlog.load([third])[0].earlier) == ["to0@example.org"]


def test_groups_that_are_put_back_are_passed_over_and_the_others_are_claimed(world):
    letters = [world.reserve(tag="letter"), world.reserve(template="sale", subject=None)]
    others = [
        world.reserve(due=-9.0),
        world.reserve(due=-8.0, tag="reset"),
        world.reserve(due=-7.0, tag="reset", template="sale"),
        world.reserve(due=-6.0, template="hello"),
    ]
    run = world.run()
    without = Without(frozenset({"letter"}), frozenset({"sale"}))
    page = world.backlog.claim(run, 0, None, 2, without)
    assert [c.claim.reservation_id for c in page.claimed] == others[:2]
    _, page = world.backlog.settle_and_claim(run, 0, [], page.cursor, 9, without)
    assert [c.claim.reservation_id for c in page.claimed] == others[2:]
    assert [c.mail.tag for c in page.claimed] == ["reset", None]
    page = world.backlog.claim(run, 0, None, 9)
    assert {c.claim.reservation_id for c in page.claimed} == set(letters)


def test_what_this_run_claimed_before_and_is_due_again_since_a_moment_ago_is_passed_over(world):
    def claim(run_id: UUID) -> Claim:
        mail = world.reserve()
        [claimed] = world.backlog.claim(run_id, 0, None, 9).claimed
        assert claimed.claim.reservation_id == mail
        return claimed.claim

    run = world.run()
    waits = [(claim(run), 90.0), (claim(run), 30.0), (claim(world.run()), 30.0)]
    world.backlog.settle(run, 0, [replace(put_off(one, ["no folder"], {}), retry_in=-since) for one, since in waits])
    (long_ago, _), (lately, _), (elsewhere, _) = waits
    new = world.reserve()
    page = world.backlog.claim(run, 0, None, 9, Without(returned_within=60.0))
    assert [c.claim.reservation_id for c in page.claimed] == [long_ago.reservation_id, elsewhere.reservation_id, new]
    (left,) = world.backlog.claim(run, 0, None, 9).claimed
    assert left.claim.reservation_id == lately.reservation_id


def test_claims_whose_answer_was_lost_are_given_back_and_what_is_held_or_anothers_is_not(world):
    held, stray, elsewhere = world.reserve(due=-3), world.reserve(due=-2), world.reserve(due=-1)
    run = world.run()
    mine = {world.backlog.claim(run, 0, None, 1).claimed[0].claim}
    world.backlog.claim(run, 0, None, 1)  # of which nobody heard
    world.backlog.claim(run, 1, None, 1)
    assert world.backlog.release_orphans(run, 0, mine) == 1
    assert [world.row(mail).status for mail in (held, stray, elsewhere)] == ["sending", "pending", "sending"]
    row = world.row(stray)
    assert (row.lease_until, row.wire_at, row.attempts) == (None, None, 0)
    assert world.backlog.release_orphans(run, 0, mine) == 0


def test_a_lease_that_ended_before_the_wire_goes_back_untouched(world):
    mail = world.reserve()
    claim_one(world)
    world.end_lease(mail)
    world.forget_wire(mail)
    resolved = world.backlog.resolve_doubts(world.run(), OnDoubt.HOLD, 10)
    assert (resolved.released, resolved.resent, resolved.held) == (1, 0, 0)
    assert (world.row(mail).status, world.row(mail).attempts) == (Status.PENDING, 0)


def test_a_lease_that_ended_on_the_wire_costs_an_attempt_under_either_policy(world):
    mail = world.reserve()
    claim_one(world)
    world.end_lease(mail)
    resolved = world.backlog.resolve_doubts(world.run(), OnDoubt.RESEND, 10)
    assert (resolved.resent, world.row(mail).status, world.row(mail).attempts) == (1, Status.PENDING, 1)
    assert list(resolved.doubtful) == [(1, mail)]
    claim_one(world)
    world.end_lease(mail)
    resolved = world.backlog.resolve_doubts(world.run(), OnDoubt.HOLD, 10)
    assert (resolved.held, world.row(mail).status, world.row(mail).attempts) == (1, Status.IN_DOUBT, 2)


@pytest.fixture
def four_lives(world):
    world.backlog = replace(world.backlog, retry=RetryPolicy(max_attempts=4))
    return world


def dies(world, mail: UUID, *, alone: bool = False, on_wire: bool = True) -> DoubtsResolved:
    """Somebody takes the mail and dies of it; the next run judges the claim."""
    run = world.run()
    page = world.backlog.claim_isolated(run, 0) if alone else world.backlog.claim(run, 0, None, 5)
    assert [one.claim.reservation_id for one in page.claimed] == [mail]
    if alone and on_wire:
        world.backlog.commit_intent(run, [page.claimed[0].claim])
    if not alone and not on_wire:
        world.forget_wire(mail)
    world.end_lease(mail)
    return world.backlog.resolve_doubts(world.run(), OnDoubt.RESEND, 10)


def test_a_mail_with_which_two_senders_died_in_a_row_is_passed_over_and_goes_alone(world):
    mail = world.reserve(due=-9)
    dies(world, mail)
    dies(world, mail)
    bystander = world.reserve()
    page = world.backlog.claim(world.run(), 0, None, 5)
    assert ([one.claim.reservation_id for one in page.claimed], page.has_isolated) == ([bystander], False)
    page = world.backlog.claim(world.run(), 0, None, 5)
    assert (page.claimed, page.has_isolated) == ([], True)
    run = world.run()
    [alone] = world.backlog.claim_isolated(run, 0).claimed
    assert alone.claim.reservation_id == mail
    assert world.row(mail).wire_at is None
    assert world.backlog.claim_isolated(run, 0).claimed == []
    assert world.backlog.settle(run, 0, [outcome(alone.claim, YES)]) == {alone.claim}
    assert world.row(mail).status == Status.SENT


def test_of_those_that_go_alone_the_one_with_which_fewer_senders_died_goes_first(four_lives):
    world = four_lives
    poison = world.reserve(due=-9)
    for alone in (False, False, True):
        dies(world, poison, alone=alone, on_wire=False)
    bystander = world.reserve(due=-1)
    for _ in range(2):
        dies(world, bystander, on_wire=False)
    run = world.run()
    order = [world.backlog.claim_isolated(run, 0).claimed[0].claim.reservation_id for _ in range(2)]
    assert order == [bystander, poison]


def test_nothing_is_left_where_nothing_is_due(world):
    assert world.backlog.claim(world.run(), 0, None, 5) == Page([], None, has_isolated=False)


def test_a_verdict_between_two_deaths_ends_the_row_of_them(world):
    mail = world.reserve(due=-9)
    dies(world, mail, on_wire=False)
    run, claim = claim_one(world)
    world.backlog.settle(run, 0, [replace(outcome(claim, LATER), retry_in=0.0)])
    dies(world, mail, on_wire=False)
    page = world.backlog.claim(world.run(), 0, None, 5)
    assert [one.claim.reservation_id for one in page.claimed] == [mail]


def test_a_poison_mail_that_may_have_been_on_the_wire_each_time_ends_in_doubt(world):
    mail = world.reserve()
    dies(world, mail)
    dies(world, mail)
    resolved = dies(world, mail, alone=True)
    assert (resolved.held, world.row(mail).status, world.row(mail).attempts) == (1, Status.IN_DOUBT, 3)
    assert world.backlog.claim_isolated(world.run(), 0).claimed == []


def test_a_poison_mail_that_kills_before_the_wire_fails_and_says_why(world):
    mail = world.reserve()
    dies(world, mail, on_wire=False)
    resolved = dies(world, mail, on_wire=False)
    assert (resolved.released, world.row(mail).attempts) == (1, 0)  # it may have been another's fault
    resolved = dies(world, mail, alone=True, on_wire=False)
    assert (resolved.released, list(resolved.quarantined)) == (0, [(1, mail)])
    assert (world.row(mail).status, world.row(mail).attempts) == (Status.FAILED, 1)
    assert world.backlog.claim_isolated(world.run(), 0).claimed == []


def test_each_death_of_a_sender_is_an_attempt_that_show_tells(sql):
    mail = sql.reserve()
    dies(sql, mail)
    dies(sql, mail, on_wire=False)
    dies(sql, mail, alone=True, on_wire=False)
    assert [a.outcome for a in sql.attempts()] == ["in_doubt", "crashed", "crashed"]
    wire = ["while the mail may have been on the wire", *["before anything of it was on the wire"] * 2]
    assert all(text in a.reply_text for text, a in zip(wire, sql.attempts(), strict=True))
    row = sql.row(mail)
    assert row.last_error.startswith("set aside: 3 senders in a row died while they held it")
    assert row.finished_at is not None


def test_a_live_lease_is_nobody_elses_to_judge(world):
    world.reserve()
    claim_one(world)
    resolved = world.backlog.resolve_doubts(world.run(), OnDoubt.RESEND, 10)
    assert (resolved.released, resolved.resent, resolved.held) == (0, 0, 0)


def test_lane_0_does_not_judge_itself_though_the_clock_of_the_database_was_set_forward(world):
    own, helpers = world.reserve(due=-2), world.reserve(due=-1)
    run = world.run()
    held = world.backlog.claim(run, 0, None, 1).claimed[0].claim
    world.backlog.claim(run, 1, None, 1)
    for mail in (own, helpers):
        world.end_lease(mail)
    assert world.backlog.resolve_doubts(run, OnDoubt.RESEND, 10).resent == 1
    assert (world.row(own).status, world.row(helpers).status) == (Status.SENDING, Status.PENDING)
    assert world.backlog.settle(run, 0, [outcome(held, YES)]) == {held}


@pytest.mark.parametrize("policy", list(OnDoubt))
def test_a_late_acceptance_turns_a_doubt_into_sent(world, policy):
    mail = world.reserve()
    run, claim = claim_one(world)
    world.end_lease(mail)
    world.backlog.resolve_doubts(world.run(), policy, 10)
    assert world.backlog.settle(run, 0, [outcome(claim, YES)]) == {claim}
    # The rescue has counted the attempt: it is the same one.
    assert (world.row(mail).status, world.row(mail).attempts) == (Status.SENT, 1)


def test_a_late_refusal_changes_nothing(world):
    mail = world.reserve()
    run, claim = claim_one(world)
    world.end_lease(mail)
    world.backlog.resolve_doubts(world.run(), OnDoubt.HOLD, 10)
    assert world.backlog.settle(run, 0, [outcome(claim, LATER)]) == set()
    assert world.row(mail).status == Status.IN_DOUBT


def test_a_late_acceptance_does_not_settle_over_the_rescuer(world):
    mail = world.reserve()
    run, claim = claim_one(world)
    world.end_lease(mail)
    world.backlog.resolve_doubts(world.run(), OnDoubt.RESEND, 10)
    claim_one(world)
    assert world.backlog.settle(run, 0, [outcome(claim, YES)]) == set()
    assert world.row(mail).status == Status.SENDING


def test_a_strict_claim_is_on_the_wire_only_once_it_is_intended(world):
    world = strict(world)
    intended, begun = world.reserve(due=-9), world.reserve(due=-8)
    run = world.run()
    first, second = (one.claim for one in world.backlog.claim(run, 0, None, 2).claimed)
    assert [world.row(mail).wire_at for mail in (intended, begun)] == [None, None]
    assert world.backlog.commit_intent(run, [first]) == {first}
    world.end_lease(intended)
    world.end_lease(begun)
    assert world.backlog.commit_intent(run, [second]) == set()
    resolved = world.backlog.resolve_doubts(world.run(), OnDoubt.HOLD, 10)
    assert (resolved.released, resolved.held) == (1, 1)
    assert (world.row(intended).status, world.row(begun).status) == (Status.IN_DOUBT, Status.PENDING)


def test_nothing_is_intended_that_does_not_hold_or_in_a_run_that_must_stop(world):
    world = strict(world)
    mail = world.reserve()
    run, claim = claim_one(world)
    assert world.backlog.commit_intent(run, [Claim(mail, claim.claim_no + 1)]) == set()
    world.request_stop(run)
    assert world.backlog.commit_intent(run, [claim]) == set()
    assert world.row(mail).wire_at is None
    assert world.backlog.settle(run, 0, [released(claim)]) == {claim}
    assert world.backlog.commit_intent(run, [claim]) == set()


def test_renewal_prolongs_this_lanes_leases_and_revives_none(world):
    kept, ended = world.reserve(due=-2), world.reserve(due=-1)
    run = world.run()
    world.backlog.claim(run, 0, None, 2)
    world.end_lease(ended)
    world.backlog.renew(run, 0)
    world.backlog.renew(run, 1)
    world.backlog.resolve_doubts(world.run(), OnDoubt.RESEND, 10)
    assert world.row(kept).status == Status.SENDING
    assert world.row(ended).status == Status.PENDING


def test_what_has_expired_is_neither_claimed_nor_counted_as_remaining(world):
    gone, alive = world.reserve(expires=-0.5), world.reserve(expires=3600)
    assert world.backlog.remaining() == 1
    assert world.backlog.expire(10) == 1
    assert world.row(gone).status == Status.EXPIRED
    page = world.backlog.claim(world.run(), 0, None, 10)
    assert [one.claim.reservation_id for one in page.claimed] == [alive]


def test_too_late_is_measured_by_max_lateness(sql):
    strict = Sql(SqlBacklog(engine=sql.backlog.engine, lease=60, retry=RETRY, message_id_domain="x", max_lateness=100))
    old, fresh = sql.reserve(due=-101), sql.reserve(due=-50)
    assert strict.backlog.expire(10) == 1
    assert (sql.row(old).status, sql.row(fresh).status) == ("expired", "pending")
    assert "MAX_LATENESS" in sql.row(old).last_error


def hold_back(world, seconds: float | None) -> tuple[UUID, Settlement]:
    """Claim a mail and let a gate hold it back."""
    run, claim = claim_one(world)
    at = datetime.now(UTC)
    settlement = held_back(
        claim, NotBefore(at + timedelta(seconds=seconds) if seconds is not None else None, "a gate"), at
    )
    assert world.backlog.settle(run, 0, [settlement]) == {claim}
    return claim.reservation_id, settlement


def test_a_mail_that_is_held_back_is_not_due_and_still_remains(world):
    for seconds in (3600, None):
        world.reserve()
        held, settlement = hold_back(world, seconds)
        row = world.row(held)
        assert (settlement.tally, row.status, row.attempts, row.waits_for) == ("held_back", "pending", 0, "a gate")
        assert row.retry_at is not None
    assert world.backlog.claim(world.run(), 0, None, 10).claimed == []
    assert world.backlog.remaining() == 2


def test_the_next_claim_forgets_what_a_mail_waited_for(world):
    held = world.reserve()
    hold_back(world, 0)
    assert world.row(held).waits_for == "a gate"
    page = world.backlog.claim(world.run(), 0, None, 10).claimed
    assert [one.claim.reservation_id for one in page] == [held]
    assert world.row(held).waits_for is None


def test_what_is_held_back_expires_at_its_own_time_and_remains_no_more(world):
    held = world.reserve(expires=3600)
    hold_back(world, None)
    assert (world.backlog.expire(10), world.backlog.remaining()) == (0, 1)
    world.let_expire(held)
    assert (world.backlog.remaining(), world.backlog.expire(10)) == (0, 1)
    assert (world.row(held).status, world.row(held).waits_for) == ("expired", None)
    assert world.backlog.remaining() == 0


def test_a_gate_does_not_prolong_max_lateness_but_a_retry_keeps_its_own_time(world):
    late, retried = world.reserve(due=-101), world.reserve(due=-101)
    for attempts in (0, 1):
        run, claim = claim_one(world)
        if attempts:
            world.backlog.settle(run, 0, [replace(outcome(claim, LATER), retry_in=0.0)])
            run, claim = claim_one(world)
        at = datetime.now(UTC)
        world.backlog.settle(run, 0, [held_back(claim, NotBefore(at + timedelta(hours=1), "a gate"), at)])
    limited = type(world)(replace(world.backlog, max_lateness=100))
    assert limited.backlog.expire(10) == 1
    assert {world.row(own).status for own in (late, retried)} == {"expired", "pending"}


def test_every_try_but_the_accepted_one_has_a_row_of_its_own(sql):
    sql.reserve()
    run, claim = claim_one(sql)
    sql.backlog.settle(run, 0, [outcome(claim, LATER)])
    (attempt,) = sql.attempts()
    assert (attempt.outcome, attempt.reply_code, attempt.enhanced_code) == ("deferred", 451, "4.7.1")
    assert (attempt.run_id, attempt.lane, attempt.relay) == (run, 0, "relay:25")


def test_a_late_acceptance_corrects_the_attempt(sql):
    mail = sql.reserve()
    run, claim = claim_one(sql)
    sql.end_lease(mail)
    sql.backlog.resolve_doubts(sql.run(), OnDoubt.RESEND, 10)
    assert [a.outcome for a in sql.attempts()] == ["in_doubt"]
    sql.backlog.settle(run, 0, [outcome(claim, YES)])
    assert sql.attempts() == []


def test_a_row_whose_text_is_no_utf_8_does_not_hide_the_others(sqlite_url):
    engine = connect(sqlite_url)
    world = Sql(SqlBacklog(engine=engine, lease=60, retry=RETRY, message_id_domain="example.org"))
    with engine.begin() as connection:
        connection.exec_driver_sql(
            "INSERT INTO mail_reservations (recipients, subject, body_text) VALUES ('a@b', CAST(x'ff41' AS TEXT), 't')"
        )
    world.reserve()
    mails = world.backlog.load(world.backlog.claim(world.run(), 0, None, 10).claimed)
    engine.dispose()
    assert sorted(ascii(mail.mail.subject) for mail in mails) == ["'\\udcffA'", "'s'"]


def test_what_a_relay_says_is_stored_whatever_it_says(sql):
    mail = sql.reserve()
    run, claim = claim_one(sql)
    odd = Verdict(Kind.REJECTED, Reply(550, "5.0.0 \x00 \ud800 'quoted' ünï"))
    sql.backlog.settle(run, 0, [outcome(claim, odd)])
    assert sql.row(mail).last_error == "550 5.0.0 \\x00 ? 'quoted' ünï"


def test_lanes_that_claim_at_once_never_get_the_same_mail(sql):
    for _ in range(200):
        sql.reserve()
    run, taken, guard = sql.run(), [], threading.Lock()

    def lane(number: int) -> None:
        while page := sql.backlog.claim(run, number, None, 7).claimed:
            with guard:
                taken.extend((one.claim.reservation_id, one.index) for one in page)

    threads = [threading.Thread(target=lane, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({mail for mail, _ in taken}) == len(taken) == 200
    assert sorted(index for _, index in taken) == list(range(1, 201))


@pytest.mark.parametrize("behind", [False, True])
def test_reservations_for_next_week_are_not_read_by_a_claim(fresh_postgres_url, behind):
    engine = connect(fresh_postgres_url)
    statement = claim_statement(behind=behind).compile(engine)
    given = {"by_run": uuid4(), "by_lane": 0, "of_priority": 0, "limit": 128, "lease": 60.0, "inline": 1000}
    given |= {"id_domain": "example.org", "after_due": datetime(2026, 1, 1, tzinfo=UTC), "after_id": uuid4()}
    with engine.begin() as connection:
        connection.exec_driver_sql(
            "INSERT INTO mail_reservations (recipients, subject, body_text, scheduled_at) "
            "SELECT 'a@example.org', 's', 't', now() + interval '1 day' FROM generate_series(1, 20000)"
        )
        connection.exec_driver_sql("ANALYZE mail_reservations")
        plan = "\n".join(connection.exec_driver_sql(f"EXPLAIN {statement}", statement.params | given).scalars())
    engine.dispose()
    index = plan.index("ix_mail_reservations_due")
    assert "due_at <= (statement_timestamp()" in plan[index:], plan
    assert "Seq Scan on mail_reservations" not in plan
    assert ("ROW(due_at, id) >" in plan) == behind


def test_urgent_mail_is_found_from_its_priority_on(world):
    assert not world.backlog.has_urgent(10)
    world.reserve(priority=9)
    assert not world.backlog.has_urgent(10)
    assert world.backlog.has_urgent(9)
    world.reserve(priority=12)
    assert world.backlog.has_urgent(10)
    assert world.backlog.has_urgent(12)
    assert not world.backlog.has_urgent(13)


def test_urgent_mail_that_is_due_later_or_has_expired_is_not_found(world):
    world.reserve(priority=10, due=60)
    world.reserve(priority=10, due=-60, expires=-30)
    assert not world.backlog.has_urgent(10)
    world.reserve(priority=10, due=-60, expires=30)
    assert world.backlog.has_urgent(10)


@pytest.mark.parametrize("again", [0.0, 600.0])
def test_urgent_mail_that_was_claimed_before_is_not_found_whether_it_waits_or_not(world, again):
    world.reserve(priority=10)
    run, claim = claim_one(world)
    assert not world.backlog.has_urgent(10)
    world.backlog.settle(run, 0, [replace(outcome(claim, LATER), retry_in=again)])
    assert not world.backlog.has_urgent(10)
    world.reserve(priority=10)
    assert world.backlog.has_urgent(10)


def test_a_new_urgent_mail_is_found_behind_many_that_came_back(world):
    run = world.run()
    for _ in range(50):
        world.reserve(priority=11, due=-60)
    claims = [one.claim for one in world.backlog.claim(run, 0, None, 50).claimed]
    world.backlog.settle(run, 0, [released(claim) for claim in claims])
    assert not world.backlog.has_urgent(10)
    world.reserve(priority=11)
    assert world.backlog.has_urgent(10)


_MANY = """
INSERT INTO mail_reservations (id, recipients, subject, body_text, priority, scheduled_at)
SELECT {id}, 'a@example.org', 's', 't', i % 12, {at} FROM {numbers}
"""


def test_the_question_for_urgent_mail_reads_a_few_index_entries_of_100_000_rows_on_postgresql(fresh_postgres_url):
    engine = connect(fresh_postgres_url)
    statement = urgent_statement().compile(engine)
    with engine.begin() as connection:
        at = "now() + CASE WHEN i % 12 >= 10 THEN interval '1 day' ELSE interval '-1 hour' END"
        connection.exec_driver_sql(
            _MANY.format(id="gen_random_uuid()", at=at, numbers="generate_series(1, 100000) AS i").replace("%", "%%")
        )
        connection.exec_driver_sql("ANALYZE mail_reservations")
        given = statement.params | {"least": 10}
        lines = connection.exec_driver_sql(f"EXPLAIN (ANALYZE, BUFFERS) {statement}", given).scalars().all()
    engine.dispose()
    plan = "\n".join(lines)
    assert "ix_mail_reservations_due" in plan, plan
    assert "Seq Scan on mail_reservations" not in plan, plan
    pages = re.search(r"Buffers: shared (.*)", plan)
    assert sum(map(int, re.findall(r"=(\d+)", pages[1]))) < 50, plan


def test_the_question_for_urgent_mail_reads_a_few_index_entries_on_sqlite(sqlite_url):
    engine = connect(sqlite_url)
    statement = urgent_statement().compile(engine)
    params = tuple({**statement.params, "least": 10}[name] for name in statement.positiontup)
    with engine.begin() as connection:
        plan = "\n".join(row.detail for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", params))
    engine.dispose()
    reads = [line for line in plan.splitlines() if "mail_reservations" in line]
    assert len(reads) == 3, plan
    assert all("SEARCH" in line and "ix_mail_reservations_due (priority" in line for line in reads), plan


def test_a_tally_that_is_released_is_in_no_column():
    assert released(Claim(uuid4(), 1)).tally is Tally.RELEASED
