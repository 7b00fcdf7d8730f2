"""One suite for the port ``Gate``, and one for the port ``Blocks``: the fakes and every adapter behave alike."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import pytest
from support.fake_clock import FakeClock
from support.fake_gate import FakeGate
from support.fakes import FakeRateLimits
from support.rows import reservation_row

from mailbatch.application.sending.gates.blocked_tags import BlockedTags
from mailbatch.application.sending.gates.hours import SendingHours
from mailbatch.application.sending.gates.sending_limits import SendingLimits
from mailbatch.domain.gate import NEVER
from mailbatch.domain.rate import Rate
from mailbatch.domain.sending_hours import Hours, Window
from mailbatch.domain.sending_limit import SendingLimit
from mailbatch.domain.traits import Match, Names, Traits

if TYPE_CHECKING:
    from support.table_worlds import World

    from mailbatch.application.ports.gating import Gate
    from mailbatch.domain.claimed import ClaimedMail

SUNDAY = datetime(2026, 11, 29, 12, tzinfo=UTC)
BLOCKED = "the tag news is blocked"


@pytest.fixture(params=["FakeGate", "BlockedTags", "SendingHours", "SendingLimits"])
def gate(request: pytest.FixtureRequest, world: World) -> Gate:
    """A gate that holds back the mails with the tag ``news``."""
    match request.param:
        case "FakeGate":
            return FakeGate("news")
        case "BlockedTags":
            world.blocks.block("news", "cli:ann", None)
            return BlockedTags(world.blocks, FakeClock())
        case "SendingLimits":
            limit = SendingLimit(name="news", rates=(Rate.read("1/h"),), match=Match(tag=Names(("news",))))
            limits = SendingLimits([limit], FakeRateLimits(lambda: 0.0), lambda mail: Traits(tag=mail.tag))
            limits.ask([mail("news")], SUNDAY)  # it is the one of this hour
            return limits
    window = Window(
        days=frozenset(range(5)),
        hours=Hours.read("08:00-18:00"),
        timezone=ZoneInfo("Europe/Berlin"),
        match=Match(tag=Names(("news",))),
    )
    return SendingHours([window], lambda mail: Traits(tag=mail.tag))


def mail(tag: str | None) -> ClaimedMail:
    return reservation_row(tag=tag).as_claimed(1, {})


def test_a_gate_holds_back_what_it_is_for_and_says_why(gate):
    held, free, other = mail("news"), mail(None), mail("orders")
    answers = gate.ask([held, free, other], SUNDAY)
    assert answers.keys() == {held.claim}
    answer = answers[held.claim]
    assert answer.reason
    assert answer.at is None or answer.at > SUNDAY


def test_a_gate_that_is_asked_twice_says_the_same(gate):
    one = mail("news")
    assert gate.ask([one], SUNDAY) == gate.ask([one], SUNDAY)
    assert gate.ask([], SUNDAY) == {}


def test_a_gate_makes_nothing_due_while_it_is_closed(gate):
    assert gate.reopen(10) == 0


# --- blocked tags ---


def held_back(world: World, tag: str = "news", **columns: Any) -> Any:
    row = reservation_row(world.ago(3600), tag=tag, **{"retry_at": NEVER, "waits_for": BLOCKED, **columns})
    world.put(row)
    return row.id


def test_a_tag_is_blocked_once_and_the_list_says_by_whom_and_why(world):
    assert world.blocks.block("news", "cli:ann", "wrong prices")
    assert not world.blocks.block("news", "cli:bob", "again")
    assert world.blocks.block("a tag", "api:operate", None)
    assert world.blocks.blocked() == {"news", "a tag"}
    assert [(row.tag, row.by, row.note) for row in world.blocks.all()] == [
        ("a tag", "api:operate", None),
        ("news", "cli:ann", "wrong prices"),
    ]


def test_the_list_counts_the_mails_that_wait_for_each_block(world):
    world.blocks.block("news", "cli:ann", None)
    for _ in range(3):
        held_back(world)
    held_back(world, "orders")
    world.put(reservation_row(world.ago(1), tag="news"))
    assert [row.waiting for row in world.blocks.all()] == [3]


def test_a_block_is_lifted_once_and_can_come_again(world):
    assert not world.blocks.lift("news")
    world.blocks.block("news", "cli:ann", "first")
    assert world.blocks.lift("news")
    assert not world.blocks.lift("news")
    assert world.blocks.blocked() == frozenset()
    assert world.blocks.all() == []
    assert world.blocks.block("news", "cli:bob", "second")
    assert [(row.by, row.note) for row in world.blocks.all()] == [("cli:bob", "second")]


def test_a_lifted_block_makes_its_mails_due_again_in_batches(world):
    mine = {held_back(world, priority=n % 2) for n in range(5)}
    others = [held_back(world, "orders"), held_back(world, retry_at=world.ago(-600), waits_for="the hours")]
    world.blocks.block("news", "cli:ann", None)
    world.blocks.block("orders", "cli:ann", None)
    assert world.blocks.reopen(10) == 0
    world.blocks.lift("news")
    assert [world.blocks.reopen(2) for _ in range(4)] == [2, 2, 1, 0]
    rows = {own: world.reservations.get(own) for own in (*mine, *others)}
    assert {(rows[own].waits_for, rows[own].retry_at) for own in mine} == {(None, None)}
    assert all(rows[own].due_at == rows[own].scheduled_at for own in mine)
    assert {rows[own].waits_for for own in others} == {BLOCKED, "the hours"}


def test_a_retry_that_was_held_back_is_due_now_and_not_too_late(world):
    own = held_back(world, attempts=1)
    world.blocks.block("news", "cli:ann", None)
    world.blocks.lift("news")
    world.blocks.reopen(10)
    due = world.reservations.get(own).due_at
    assert abs(due - world.now) < timedelta(seconds=60)
