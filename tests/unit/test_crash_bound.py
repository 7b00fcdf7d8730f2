"""The bound of a run: it is raised before more mails can be in doubt than it says."""

from __future__ import annotations

import pytest
from support.fake_backlog import FakeBacklog
from support.fake_stores import FakeRun, plain_message
from support.fakes import FakeTransport

from mailbatch.application.sending.crash_bound import CrashBound
from mailbatch.application.sending.send_due import SendDue
from mailbatch.domain.errors import RunFailed, StoreError
from mailbatch.domain.lifecycle import OnDoubt
from mailbatch.domain.retry import RetryPolicy
from mailbatch.domain.run import Counts

FIRST = 8
"""The bound with which the run begins."""


class Watched(FakeBacklog):
    """Fails the test if more mails could be in doubt than the bound of ``run`` allows."""

    def __init__(self, run: FakeRun, *, strict: bool = False) -> None:
        super().__init__(strict=strict)
        self.run = run
        self.most = 0

    def claim(self, *args, **kwargs):
        page = super().claim(*args, **kwargs)
        self._ensure_covered()
        return page

    def settle_and_claim(self, *args, **kwargs):
        found = super().settle_and_claim(*args, **kwargs)
        self._ensure_covered()
        return found

    def commit_intent(self, run_id, claims):
        granted = super().commit_intent(run_id, claims)
        self._ensure_covered()
        return granted

    def _ensure_covered(self):
        in_doubt = sum(row.status.value == "sending" and row.wire_at is not None for row in self.rows.values())
        self.most = max(self.most, in_doubt)
        assert in_doubt <= FIRST + self.run.bound


class Growing(FakeTransport):
    """Can have one mail more in flight after each mail that it was given."""

    def send(self, messages, permit, commit_intent=None):
        def growing():
            for message in messages:
                self.capacity = min(self.capacity + 1, 20)
                yield message

        return super().send(growing(), permit, commit_intent)


def lane(backlog, transport, **given):
    return SendDue(
        backlog=backlog,
        compose=plain_message,
        transport=transport,
        clock=backlog.clock,
        jitter=lambda: 0.5,
        retry=RetryPolicy(),
        lease=backlog.lease,
        **{"group_size": 4, "page_size": 16, "bound": FIRST, "on_doubt": OnDoubt.RESEND, **given},
    )


def test_it_is_raised_before_a_larger_group_is_claimed():
    run = FakeRun()
    backlog = Watched(run)
    for _ in range(100):
        backlog.reserve()
    lane(backlog, Growing())(run)
    assert run.counts == Counts(sent=100)
    assert backlog.pages[0] == 4
    assert max(backlog.pages) == 16, "not more than a page"
    assert 0 < run.bound <= 2 * 20


def test_it_is_not_raised_while_the_number_of_connections_is_fixed():
    run = FakeRun()
    backlog = Watched(run)
    for _ in range(100):
        backlog.reserve()
    lane(backlog, FakeTransport())(run)
    assert (run.counts, run.bound) == (Counts(sent=100), 0)


def test_where_it_cannot_be_written_nothing_more_is_claimed():
    run = FakeRun()
    backlog = Watched(run)
    for _ in range(100):
        backlog.reserve()

    def away(_mails):
        raise StoreError("away", transient=True)

    run.raise_bound = away
    with pytest.raises(RunFailed, match="away"):
        lane(backlog, Growing())(run)
    assert max(backlog.pages) <= FIRST
    assert backlog.most <= FIRST


def test_in_strict_mode_it_is_raised_before_more_ends_of_mails_go_out():
    run = FakeRun()
    backlog = Watched(run, strict=True)
    for _ in range(30):
        backlog.reserve()
    transport = FakeTransport()
    transport.capacity = 12
    lane(backlog, transport, strict=True, on_doubt=OnDoubt.HOLD, bound=0)(run)
    assert run.counts == Counts(sent=30)
    assert run.bound == 12
    assert max(backlog.pages) == 12


def test_it_is_raised_by_what_is_missing():
    run = FakeRun()
    bound = CrashBound(run, FIRST)
    raised = []
    for mails, spare in ((8, 20), (9, 20), (20, 30), (21, 0), (40, 60), (1, 1)):
        bound.cover(mails, spare)
        raised.append(FIRST + run.bound)
    assert raised == [8, 20, 20, 21, 60, 60]
