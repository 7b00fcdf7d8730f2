"""Who waits for a run learns that its worker was killed."""

from __future__ import annotations

from uuid import UUID

import pytest

from mailbatch.domain.errors import StoreError
from mailbatch.interfaces.cli.send_all import RunObserver

OURS, ANOTHER = UUID(int=1), UUID(int=2)


def progress(run_id, trigger="manual"):
    return {"run_id": str(run_id), "trigger": trigger, "state": "running"}


def sight(going_on, before=None):
    return RunObserver(lambda: going_on[0], before and str(before))


def lost_at(seen, until=60):
    return next((second for second in range(until) if seen.lost(second)), None)


def test_a_run_whose_worker_was_killed_is_lost_after_a_grace():
    seen = sight([None])
    seen.shown(progress(OURS))
    assert lost_at(seen) == 11
    assert seen.lost(12) == str(OURS)


def test_a_run_that_the_next_one_took_over_is_lost():
    seen = sight([ANOTHER])
    seen.shown(progress(OURS))
    assert lost_at(seen) == 11


def test_a_run_that_shows_signs_of_life_is_never_lost():
    seen = sight([OURS])
    seen.shown(progress(OURS))
    assert lost_at(seen, 600) is None


def test_a_run_that_comes_back_within_the_grace_is_not_lost():
    going_on = [None]
    seen = sight(going_on)
    seen.shown(progress(OURS))
    assert lost_at(seen, 9) is None
    going_on[0] = OURS
    assert lost_at(seen, 60) is None


@pytest.mark.parametrize(
    "other", [progress(ANOTHER, "beat"), progress(ANOTHER)], ids=["of beat", "shown before the call"]
)
def test_the_end_of_another_run_says_nothing_of_a_call_that_waits_for_its_turn(other):
    seen = sight([None], before=ANOTHER)
    seen.shown(other)
    assert lost_at(seen) is None


def test_a_database_that_is_away_says_nothing_of_the_run():
    def away():
        raise StoreError("away", transient=True)

    seen = RunObserver(away)
    seen.shown(progress(OURS))
    assert lost_at(seen) is None
