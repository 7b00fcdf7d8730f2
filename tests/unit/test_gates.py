"""Gates hold mails back whose time has come: which, until when, and that nobody else waits for them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

import pytest
from support.fake_backlog import FakeBacklog
from support.fake_blocks import FakeBlocks
from support.fake_gate import FakeGate
from support.fake_stores import FakeRun, plain_message
from support.fakes import FakeTransport, accepted

from mailbatch.application.sending.gates.blocked_tags import BlockedTags
from mailbatch.application.sending.gates.gates import Gates
from mailbatch.application.sending.send_due import SendDue
from mailbatch.domain.gate import NEVER, NotBefore
from mailbatch.domain.lifecycle import OnDoubt
from mailbatch.domain.reservation import Status
from mailbatch.domain.retry import RetryPolicy
from mailbatch.domain.run import Counts, RunOutcome

TICK = 300.0
"""Seconds until the next tick."""


@pytest.fixture
def backlog() -> FakeBacklog:
    return FakeBacklog()


def send(backlog, *gates, transport=None, group_size=4, run=None) -> FakeRun:
    run = run or FakeRun()
    SendDue(
        backlog=backlog,
        compose=plain_message,
        transport=transport or FakeTransport(),
        clock=backlog.clock,
        jitter=lambda: 0.5,
        retry=RetryPolicy(max_attempts=3),
        on_doubt=OnDoubt.RESEND,
        group_size=group_size,
        page_size=10,
        lease=backlog.lease,
        gates=Gates(
            gates=gates,
            clock=backlog.clock,
            now=lambda: backlog.tables.now,
            next_tick=lambda now: now + timedelta(seconds=TICK),
        ),
    )(run)
    return run


def test_a_mail_that_a_gate_holds_back_costs_no_attempt_and_the_others_go(backlog):
    held = backlog.reserve(tag="news")
    sent = [backlog.reserve(tag="order") for _ in range(9)]
    run = send(backlog, FakeGate("news", 3600, "the hours"))
    assert run.counts == Counts(sent=9, held_back=1)
    row = backlog.rows[held]
    assert (row.status, row.attempts, row.last_error, row.waits_for) == (Status.PENDING, 0, None, "the hours")
    assert row.due_at == backlog.tables.now + timedelta(hours=1)
    assert all(backlog.rows[one].status is Status.SENT for one in sent)
    assert not run.errors


def test_a_gate_is_asked_once_for_each_claimed_group(backlog):
    for _ in range(10):
        backlog.reserve()
    gate = FakeGate("news", 60)
    send(backlog, gate)
    assert gate.asked == [4, 4, 2]


def test_large_mails_that_were_loaded_apart_pass_the_gates_too(backlog):
    large = backlog.reserve(tag="news", body_text="x" * 5000)
    backlog.reserve(body_text="x" * 5000)
    assert send(backlog, FakeGate("news", 3600)).counts == Counts(sent=1, held_back=1)
    assert backlog.rows[large].status is Status.PENDING


def test_a_mail_waits_for_the_first_gate_that_holds_it_back(backlog):
    held = backlog.reserve(tag="news")
    backlog.reserve()
    second = FakeGate("news", 10, "second")
    send(backlog, FakeGate("news", 3600, "first"), second)
    assert backlog.rows[held].waits_for == "first"
    assert second.asked == [1]


def test_gates_are_asked_again_for_the_rest_of_a_group_that_a_slow_relay_holds_up(backlog):
    blocks = FakeBlocks(backlog.tables)
    for _ in range(8):
        backlog.reserve(tag="news")

    def slowly(message):
        backlog.clock.now += 2
        blocks.block("news", "cli:ann", None)
        return accepted(message)

    run = send(backlog, BlockedTags(blocks, backlog.clock), transport=FakeTransport(slowly), group_size=8)
    assert run.counts == Counts(sent=1, held_back=7)


def test_mails_of_a_blocked_tag_wait_until_the_block_is_lifted(backlog):
    blocks = FakeBlocks(backlog.tables)
    gate = BlockedTags(blocks, backlog.clock)
    blocks.block("news", "cli:ann", "wrong prices")
    news = [backlog.reserve(tag="news") for _ in range(15)]
    backlog.reserve(tag="orders")
    backlog.reserve()
    assert send(backlog, gate).counts == Counts(sent=2, held_back=15)
    assert {backlog.rows[one].due_at for one in news} == {NEVER}
    assert {backlog.rows[one].waits_for for one in news} == {"the tag news is blocked"}
    assert send(backlog, gate).counts == Counts()
    blocks.lift("news")
    backlog.clock.now += 2
    assert send(backlog, gate).counts == Counts(sent=15)


def test_the_blocks_are_read_twice_a_second_at_most_however_many_groups_are_claimed(backlog):
    blocks = FakeBlocks(backlog.tables)
    for _ in range(40):
        backlog.reserve()
    send(backlog, BlockedTags(blocks, backlog.clock))
    assert blocks.reads == 1


@dataclass
class StopsAt:
    """Asks the run to stop when the clock shows ``at``."""

    backlog: FakeBacklog
    at: float

    def reason(self):
        return RunOutcome.SHUTDOWN if self.backlog.clock.now >= self.at else None


@dataclass
class OpensAt:
    """A gate that holds every mail back until ``seconds`` have passed; ``asked`` counts the mails."""

    backlog: FakeBacklog
    seconds: float
    asked: int = 0

    def ask(self, mails, now):
        self.asked += len(mails)
        at = self.backlog.tables.now + timedelta(seconds=self.seconds - self.backlog.clock.now)
        return {mail.claim: NotBefore(at, "the hours") for mail in mails} if at > now else {}

    def reopen(self, limit):
        return 0


def test_a_run_waits_for_a_mail_that_comes_due_before_the_next_tick(backlog):
    for _ in range(6):
        backlog.reserve()
    gate = OpensAt(backlog, backlog.clock.now + 200)
    began = backlog.clock.now
    assert send(backlog, gate).counts == Counts(sent=6)
    assert 200 <= backlog.clock.now - began < 202
    assert gate.asked == 12, "each mail is put back once, however long it waits"


def test_a_run_that_waits_for_a_gate_can_be_stopped(backlog):
    one = backlog.reserve()
    began = backlog.clock.now
    run = FakeRun(stop=StopsAt(backlog, began + 3))
    send(backlog, OpensAt(backlog, began + 200), run=run)
    assert run.counts == Counts()
    assert backlog.clock.now - began < 5
    assert (backlog.rows[one].status, backlog.rows[one].waits_for) == (Status.PENDING, "the hours")
    assert backlog.remaining() == 1
