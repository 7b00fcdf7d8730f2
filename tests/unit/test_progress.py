"""The progress of the run that goes on: from its row, or from the board where that is newer."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from support.rows import run_row

from mailbatch.application.looking.inquire import ShowReservation, ShowRun, progress_of
from mailbatch.domain.errors import NotFound

RUN, OTHER = uuid4(), uuid4()


def look(run_id=RUN, silence=None, age=20.0) -> Any:
    return SimpleNamespace(run_id=run_id, silence=silence, health=SimpleNamespace(run_age=age))


def row(**changes):
    return run_row(run_id=RUN, **{"sent": 40, "failed": 0, "deferred": 0, "in_doubt": 0, "expired": 0, **changes})


def board(run_id=RUN, **changes):
    return {"run_id": str(run_id), "state": "running", "sent": 60, "elapsed": 30.0, **changes}


def test_the_board_is_newer_than_the_row_of_the_same_run():
    found = progress_of(look(), row(), board(), unsent=20)
    assert (found.done, found.whole, found.elapsed, found.rate, found.seconds_left) == (60, 80, 30.0, 2.0, 10.0)


def test_what_the_board_shows_of_another_run_is_not_read():
    found = progress_of(look(), row(), board(OTHER), unsent=20)
    assert (found.run_id, found.done, found.elapsed, found.rate) == (RUN, 40, 20.0, 2.0)


@pytest.mark.parametrize("state", ["running", "finished"])
def test_a_run_without_a_row_is_not_the_one_on_the_board(state):
    found = progress_of(look(run_id=None), None, board(OTHER, state=state), unsent=1)
    assert (found.run_id, found.done, found.whole) == (None, 0, 1)


def test_a_board_without_figures_counts_nothing_and_promises_no_rate():
    found = progress_of(look(), row(), {"run_id": str(RUN)}, unsent=20)
    assert (found.done, found.elapsed, found.rate, found.seconds_left) == (0, 0.0, None, None)


def test_while_nobody_is_answered_there_is_no_rate():
    assert progress_of(look(silence=30.0), row(), None, unsent=20).rate is None


def test_a_run_that_is_not_there_is_not_found():
    reports: Any = SimpleNamespace(run=lambda _run_id: None)
    with pytest.raises(NotFound, match=f"no run {RUN}"):
        ShowRun(reports)(RUN)


def test_a_reservation_that_is_not_there_is_not_found():
    reservations: Any = SimpleNamespace(get=lambda _id: None)
    with pytest.raises(NotFound, match=f"no reservation {OTHER}"):
        ShowReservation(reservations)(OTHER)
