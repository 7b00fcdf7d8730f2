"""The ports ``Run`` and ``StopToken``: what the work of a run sees of it, in lane 0 and in a helper."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

import pytest
from support.fake_clock import FakeClock
from support.fake_stores import FakeLanes, FakeRun, FakeRuns, FakeStop
from support.waiting import wait_until

from mailbatch.batch.lanes import LaneRun
from mailbatch.batch.run_in_progress import RunInProgress
from mailbatch.batch.stop.stop_token import CombinedStopToken
from mailbatch.domain.run import Counts, ItemError, RunOutcome, Trigger

RUN = UUID(int=7)
ERROR = ItemError(1, uuid4(), ("550 no",))


class Fake:
    def __init__(self) -> None:
        self.run = FakeRun(RUN)

    def counts(self) -> Counts:
        return self.run.counts + self.run.others

    def errors(self) -> list[ItemError]:
        return self.run.errors

    def let_time_pass(self) -> None:
        for callback in self.run.upkeep:
            callback()

    def stop(self) -> None:
        self.run.stop.why = RunOutcome.REVOKED


class _Real:
    """A run whose rows are in memory."""

    def __init__(self, run: Any, runs: FakeRuns) -> None:
        self.run = run
        self.runs = runs

    def errors(self) -> list[ItemError]:
        self.run.errors.write()
        return self.runs.tables.errors[RUN]

    def let_time_pass(self) -> None:
        """Real threads call the callbacks."""

    def stop(self) -> None:
        self.run.stop.request_stop(RunOutcome.REVOKED)


class Lane0(_Real):
    def __init__(self) -> None:
        runs = FakeRuns()
        run = RunInProgress(RUN, Trigger.BEAT, CombinedStopToken(), runs=runs, clock=FakeClock(), began=0.0)
        super().__init__(run, runs)

    def counts(self) -> Counts:
        return self.run.total


class Helper(_Real):
    def __init__(self) -> None:
        runs = FakeRuns()
        super().__init__(LaneRun(RUN, 1, runs, FakeLanes(runs.tables), lambda: None), runs)

    def counts(self) -> Counts:
        return self.run.counts


@pytest.fixture(params=[Fake, Lane0, Helper])
def world(request: pytest.FixtureRequest) -> Any:
    return request.param()


def test_the_work_knows_its_run(world):
    assert (world.run.id, world.run.trigger, world.run.stop.reason()) == (RUN, Trigger.BEAT, None)


def test_counts_add_up(world):
    world.run.count(Counts(sent=2))
    world.run.count(Counts(sent=1, failed=1))
    assert world.counts() == Counts(sent=3, failed=1)


@pytest.mark.parametrize("kind", [Fake, Lane0])
def test_the_counts_of_the_helpers_so_far_replace_those_before(kind):
    world = kind()
    world.run.count(Counts(sent=1))
    for so_far in (Counts(sent=10), Counts(sent=15, deferred=1)):
        world.run.set_helper_counts(so_far)
    assert world.counts() == Counts(sent=16, deferred=1)


def test_an_item_error_is_kept_and_stops_nothing(world):
    world.run.item_error(ERROR)
    assert world.errors() == [ERROR]
    assert world.run.stop.reason() is None


def test_a_periodic_callback_is_called_again_and_again(world):
    calls: list[int] = []
    world.run.every(0.01, lambda: calls.append(1))
    for n in (1, 2):
        world.let_time_pass()
        wait_until(lambda n=n: len(calls) >= n, 5, "the callback is called")
    if not isinstance(world, Fake):
        world.run.periodic_tasks.__exit__()


def test_a_stopped_run_says_why(world):
    world.stop()
    assert world.run.stop.reason() is RunOutcome.REVOKED


def _combined(reasons: list[RunOutcome | None]) -> CombinedStopToken:
    left = iter(reasons)
    return CombinedStopToken(lambda: None, lambda: next(left))


@pytest.mark.parametrize(
    "token",
    [FakeStop(RunOutcome.PAUSED, after=2), _combined([None, None, RunOutcome.PAUSED, None])],
    ids=["fake", "combined"],
)
def test_a_token_keeps_to_its_first_reason(token):
    assert [token.reason() for _ in range(4)] == [None, None, RunOutcome.PAUSED, RunOutcome.PAUSED]
