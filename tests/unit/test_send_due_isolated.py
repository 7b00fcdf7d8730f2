"""Mails with which senders died go after all others, one at a time. The intent to send them is committed late."""

from __future__ import annotations

import pytest
from support.fake_backlog import FakeBacklog
from support.fake_stores import FakeRun, plain_message
from support.fakes import FakeTransport, relay_fault

from mailbatch.application.sending.send_due import SendDue
from mailbatch.domain.errors import RunFailed
from mailbatch.domain.lifecycle import OnDoubt
from mailbatch.domain.reservation import Status
from mailbatch.domain.retry import RetryPolicy
from mailbatch.domain.run import Counts


class Killed(BaseException):
    """The sender died."""


class CountingTransport(FakeTransport):
    """Notes how many mails each stream carried."""

    def __init__(self, script=None):
        super().__init__(script)
        self.streams, self.late = [], []

    def send(self, messages, permit, commit_intent=None):
        before = len(self.messages)
        self.late.append(commit_intent is not None)
        yield from super().send(messages, permit, commit_intent)
        self.streams.append(len(self.messages) - before)


@pytest.fixture
def backlog() -> FakeBacklog:
    return FakeBacklog(retry=RetryPolicy(max_attempts=4))


def lane(backlog, transport=None, compose=plain_message) -> SendDue:
    return SendDue(
        backlog=backlog,
        compose=compose,
        transport=transport or CountingTransport(),
        clock=backlog.clock,
        jitter=lambda: 0.5,
        retry=backlog.retry,
        on_doubt=OnDoubt.RESEND,
        group_size=8,
        page_size=10,
        lease=backlog.lease,
        relay_faults=5,
    )


def test_suspects_go_after_all_others_each_in_a_stream_of_its_own(backlog):
    suspects = [backlog.reserve(priority=9) for _ in range(3)]
    for suspect in suspects:
        backlog.let_senders_die(suspect, 2)
    for _ in range(5):
        backlog.reserve()
    transport, run = CountingTransport(), FakeRun()
    lane(backlog, transport)(run)
    assert run.counts == Counts(sent=8)
    assert transport.streams[:1] == [5]
    assert [n for n in transport.streams[1:] if n] == [1, 1, 1]
    assert transport.late == [False, *[True] * (len(transport.streams) - 1)]


def test_a_helper_leaves_suspects_to_lane_0(backlog):
    suspect = backlog.reserve()
    backlog.let_senders_die(suspect, 2)
    lane(backlog)(FakeRun(), lane=1)
    assert backlog.rows[suspect].status is Status.PENDING


def test_a_relay_that_is_away_does_not_make_suspects_go_round_for_ever(backlog):
    backlog.let_senders_die(backlog.reserve(), 2)
    with pytest.raises(RunFailed, match="the relay is away"):
        lane(backlog, CountingTransport(relay_fault))(FakeRun())


def test_a_mail_that_kills_each_sender_is_set_aside_and_takes_nobody_with_it(backlog):
    poison, *others = [backlog.reserve() for _ in range(6)]
    backlog.change(poison, priority=-1)  # the others are on the wire when it kills, or were answered and not settled
    settle, dead = backlog.settle, []

    def compose(mail):
        if mail.claim.reservation_id == poison:
            dead.append(mail)
            raise Killed
        return plain_message(mail)

    # A killed process settles nothing and gives nothing back.
    backlog.settle = lambda *settled: set() if dead else settle(*settled)
    for _ in range(backlog.retry.deaths):
        dead.clear()
        with pytest.raises(Killed):
            lane(backlog, compose=compose)(FakeRun())
        backlog.clock.now += backlog.lease + 1
    run = FakeRun()
    dead.clear()
    lane(backlog, compose=compose)(run)
    assert run.counts == Counts(failed=1)
    assert backlog.rows[poison].status is Status.FAILED
    assert "set aside: 4 senders in a row died" in run.errors[0].errors[0]
    assert {backlog.rows[other].status for other in others} == {Status.SENT}
