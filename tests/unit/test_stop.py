"""The stop token and the stop board: which reason a run or a task sees."""

from __future__ import annotations

import shutil
import tempfile
from typing import TYPE_CHECKING

import pytest

from mailbatch.batch.stop import board
from mailbatch.batch.stop.stop_token import CombinedStopToken
from mailbatch.domain.run import RunOutcome

if TYPE_CHECKING:
    from pathlib import Path

TASK = "7a3d"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> board.BoardFolder:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv(board.ENVIRONMENT, "")
    return board.BoardFolder()


def boards(tmp_path: Path) -> list[Path]:
    return list(tmp_path.glob("mailbatch-board-*"))


# --- the token ---


def test_a_token_without_a_reason_lets_the_run_go_on():
    assert CombinedStopToken(lambda: None, lambda: None).reason() is None


def test_the_first_source_that_gives_a_reason_decides():
    token = CombinedStopToken(lambda: None, lambda: RunOutcome.REVOKED, lambda: RunOutcome.SHUTDOWN)
    assert token.reason() is RunOutcome.REVOKED


def test_the_first_reason_stays():
    reasons = iter([RunOutcome.SHUTDOWN, None])
    token = CombinedStopToken(lambda: next(reasons))
    assert token.reason() is RunOutcome.SHUTDOWN
    token.request_stop(RunOutcome.PAUSED)
    assert token.reason() is RunOutcome.SHUTDOWN


def test_a_requested_stop_goes_before_the_sources():
    token = CombinedStopToken(lambda: RunOutcome.SHUTDOWN)
    token.request_stop(RunOutcome.PAUSED)
    assert token.reason() is RunOutcome.PAUSED


# --- the board ---


def test_without_a_board_no_task_has_a_reason_to_stop(monkeypatch):
    monkeypatch.delenv(board.ENVIRONMENT, raising=False)
    board.post_shutdown()
    assert board.reason_for(TASK) is None


def test_a_posted_revoke_concerns_only_its_task(folder):
    board.post_revoke(TASK)
    assert board.reason_for(TASK) is RunOutcome.REVOKED
    assert board.reason_for("another") is None
    folder.take_down_revoke(TASK)
    assert board.reason_for(TASK) is None


def test_a_posted_shutdown_concerns_every_task_and_a_revoke_goes_before_it(folder):
    board.post_shutdown()
    board.post_revoke(TASK)
    assert board.reason_for("another") is RunOutcome.SHUTDOWN
    assert board.reason_for(TASK) is RunOutcome.REVOKED


def test_a_posted_end_concerns_only_its_task_and_is_no_revoke(folder):
    board.post_end(TASK)
    assert board.has_ended(TASK)
    assert not board.has_ended("another")
    assert board.reason_for(TASK) is None


@pytest.mark.parametrize("task_id", ["../../etc/passwd", "stopping", "a\0b", "\ud800", "x" * 10_000, ""])
def test_a_task_id_of_any_kind_stays_inside_the_folder(folder, tmp_path, task_id):
    board.post_revoke(task_id)
    assert board.reason_for(task_id) is RunOutcome.REVOKED
    (only,) = boards(tmp_path)
    assert len(list(only.iterdir())) == 1
    assert not board.is_shutting_down()


def test_a_board_that_was_removed_is_made_again_without_its_posts(folder, tmp_path):
    board.post_revoke(TASK)
    assert folder.keep()
    shutil.rmtree(boards(tmp_path)[0])
    board.post_shutdown()
    assert not folder.keep()
    assert board.reason_for(TASK) is None
    board.post_revoke(TASK)
    assert board.reason_for(TASK) is RunOutcome.REVOKED


def test_a_worker_removes_its_own_board(folder, tmp_path):
    folder.remove()
    assert boards(tmp_path) == []


def test_a_pool_child_does_not_remove_the_board_of_its_worker(folder, tmp_path, monkeypatch):
    monkeypatch.setattr("os.getpid", lambda: -1)
    folder.remove()
    assert len(boards(tmp_path)) == 1


def test_only_boards_without_a_living_worker_are_removed(folder, tmp_path):
    (tmp_path / "mailbatch-board-dead").mkdir()
    board.remove_abandoned()
    (living,) = boards(tmp_path)
    assert living.name != "mailbatch-board-dead"
