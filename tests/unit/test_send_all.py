"""Lane 0 leads a run: it calls helpers, passes on its stop, waits for the last, and adds up."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest
from support.fake_clock import FakeClock
from support.fake_stores import FakeLanes, FakeRun, FakeStop

from mailbatch.batch.send_all import SendMailBatch
from mailbatch.domain.errors import RunFailed, StoreError
from mailbatch.domain.run import DEAD_AFTER, Counts, RunOutcome

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID


class Helpers(FakeLanes):
    """The lanes of a run, which sent 7 mails. ``alive``: how many helpers live, at each look."""

    def __init__(self, alive: Sequence[int] = (), *, away: bool = False) -> None:
        super().__init__()
        self.alive, self.away = list(alive), away
        self.told: list[RunOutcome] = []

    def living(self, _run_id: UUID, _silent: float) -> int:
        self._check()
        return self.alive.pop(0) if self.alive else 0

    def seal(self, run_id: UUID, silent: float) -> bool:
        return not self.living(run_id, silent)

    def counts(self, _run_id: UUID) -> Counts:
        return Counts(sent=7)

    def request_stop(self, _run_id: UUID, reason: RunOutcome) -> None:
        self._check()
        self.told.append(reason)

    def _check(self) -> None:
        if self.away:
            raise StoreError("away", transient=True)


@dataclass
class FakeSendDue:
    fault: Exception | None = None
    lanes: list[int] = field(default_factory=list)
    away: RunFailed | None = None

    def probe(self, run):
        if self.away:
            raise self.away

    def __call__(self, run, lane):
        self.lanes.append(lane)
        if self.fault:
            raise self.fault


def batch(lanes, send_due=None, *, helpers=2, call_helper=lambda _run, _lane: None, clock=None, due=lambda: 1_000):
    return SendMailBatch(
        due=due,
        group_size=100,
        send_due=send_due or FakeSendDue(),
        lanes=lanes,
        clock=clock or FakeClock(),
        helpers=helpers,
        call_helper=call_helper,
    )


def test_helpers_are_called_for_the_other_lanes():
    called = []
    run = FakeRun()
    batch(Helpers(), call_helper=lambda run_id, lane: called.append((run_id, lane)))(run)
    assert called == [(run.id, 1), (run.id, 2)]


@pytest.mark.parametrize(("due", "called"), [(0, 0), (1, 0), (100, 0), (101, 1), (200, 1), (201, 2), (10_000, 2)])
def test_no_helper_is_called_for_whom_there_is_no_group(due, called):
    calls, send_due = [], FakeSendDue()
    batch(Helpers(), send_due, call_helper=lambda _run, lane: calls.append(lane), due=lambda: due)(FakeRun())
    assert calls == [1, 2][:called]
    assert send_due.lanes == ([0, 0] if called else [0])


def test_a_database_that_cannot_count_costs_the_helpers_and_not_the_run(caplog):
    def away():
        raise StoreError("away", transient=True)

    send_due = FakeSendDue()
    batch(Helpers(), send_due, call_helper=pytest.fail, due=away)(FakeRun())
    assert send_due.lanes == [0]
    assert "no helpers are called" in caplog.text


def test_with_one_lane_nobody_is_called_and_nobody_waited_for():
    send_due = FakeSendDue()
    batch(Helpers(away=True), send_due, helpers=0, call_helper=pytest.fail)(FakeRun())
    assert send_due.lanes == [0]


def test_the_run_ends_after_the_last_helper_and_takes_up_what_it_gave_back():
    lanes, send_due, run = Helpers(alive=[2, 1, 1]), FakeSendDue(), FakeRun()
    batch(lanes, send_due)(run)
    assert lanes.alive == []
    assert send_due.lanes == [0, 0]
    assert run.others == Counts(sent=7)


def test_a_stop_of_lane_0_is_passed_on():
    lanes = Helpers(alive=[1])
    batch(lanes)(FakeRun(stop=FakeStop(RunOutcome.REVOKED)))
    assert lanes.told[0] is RunOutcome.REVOKED


def test_helpers_do_not_grind_on_through_a_backlog_that_lane_0_could_not_work_on():
    lanes = Helpers()
    with pytest.raises(RunFailed):
        batch(lanes, FakeSendDue(RunFailed("the relay is away")))(FakeRun())
    assert lanes.told == [RunOutcome.FAILED]


def test_why_lane_0_failed_is_not_lost_when_helpers_cannot_be_told():
    lanes = Helpers(away=True)
    with pytest.raises(RunFailed, match="failed to find"):
        batch(lanes, FakeSendDue(RunFailed("failed to find reservation mail list")))(FakeRun())


def test_a_database_that_stays_away_is_not_waited_for_for_ever():
    clock = FakeClock()
    began = clock.now
    batch(Helpers(away=True), clock=clock)(FakeRun())
    assert DEAD_AFTER <= clock.now - began < 3 * DEAD_AFTER


def test_no_helper_is_called_while_the_relay_is_left_alone():
    called = []
    work = batch(
        Helpers(),
        FakeSendDue(away=RunFailed("the relay r is left alone")),
        call_helper=lambda _run, lane: called.append(lane),
    )
    with pytest.raises(RunFailed, match="left alone"):
        work(FakeRun())
    assert (called, work.send_due.lanes) == ([], [])


def test_nobody_can_join_once_lane_0_is_done_and_what_a_latecomer_did_is_counted():
    class Latecomer(Helpers):
        """A helper joins while the run is being sealed, sends one mail and leaves."""

        tries = 0

        def seal(self, run_id, silent):
            self.tries += 1
            return self.tries > 1

        def counts(self, run_id):
            return Counts(sent=8 if self.tries > 1 else 7)

    lanes, run = Latecomer(), FakeRun()
    batch(lanes)(run)
    assert (lanes.tries, run.others) == (2, Counts(sent=8))
