"""How `celery -A mailbatch …` starts: settings, the database, the log, and a celeryconfig.py of the user's own."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import support
from support.stack import Stack
from support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

COMMANDS = [("worker",), ("worker", "-B"), ("beat",), ("call", "send-all"), ("inspect", "ping"), ("status",)]


@pytest.fixture
def plain(sqlite_url: str, redis_url: str, tmp_path: Path) -> Iterator[Stack]:
    with Stack(sqlite_url, redis_url, "smtp://localhost:1", tmp_path / "stack") as stack:
        stack.folder.mkdir()
        yield stack


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_wrong_setting_ends_every_command_with_two_and_one_line(plain, command):
    plain.settings["SCHEDULE"] = "every day"
    done = plain.celery(*command)
    assert done.returncode == 2
    [line] = done.stderr.splitlines()
    assert line.startswith("MAILBATCH_SCHEDULE=every day: must be seconds")
    assert done.stdout == ""


def test_each_wrong_setting_has_its_line_and_no_secret_is_shown(plain):
    plain.settings |= {"DATABASE_URL": "oracle://scott:tiger@db/x", "PAGE_SIZE": 0}
    done = plain.celery("worker")
    assert done.returncode == 2
    first, second = done.stderr.splitlines()
    assert first.startswith("MAILBATCH_DATABASE_URL=oracle://scott:***@db/x: ")
    assert second.startswith("MAILBATCH_PAGE_SIZE=0: ")


@pytest.mark.parametrize("text", ["this is no Python", "import nothing_of_that_name", "1 / 0"])
def test_a_broken_celeryconfig_of_the_users_own_is_one_line(plain, text):
    path = plain.folder / "celeryconfig.py"
    path.write_text(f"\n{text}\n")
    done = plain.celery("worker")
    assert done.returncode == 2
    [line] = done.stderr.splitlines()
    assert line.startswith(f"{path}: ")


@pytest.mark.parametrize("command", [("worker", "-B"), ("beat",)], ids=" ".join)
def test_an_unmigrated_database_stops_the_start_with_one_line_that_says_what_to_do(plain, command, tmp_path):
    plain.database_url = f"sqlite:///{tmp_path}/fresh.db"
    done = plain.celery(*command)
    assert done.returncode == 1
    [line] = [line for line in done.stderr.splitlines() if "CRITICAL" in line]
    assert line.endswith(f"the database {tmp_path}/fresh.db has no mailbatch tables; run `mailbatch migrate`")
    assert "Traceback" not in done.stderr


def test_the_start_says_where_the_database_is_and_which_variables_look_like_slips(plain, monkeypatch, tmp_path):
    plain.settings["SCHEDUEL"] = "60"
    plain.database_url = "sqlite:///here.db"
    shutil.copy(tmp_path / "mailbatch.db", plain.folder / "here.db")
    worker = plain.worker()
    log = worker.log_text()
    assert f"database: {plain.folder}/here.db" in log
    assert "MAILBATCH_SCHEDUEL is no setting; did you mean MAILBATCH_SCHEDULE?" in log


def test_a_newcomer_has_a_run_in_seconds_not_after_an_interval(plain):
    plain.worker("-B").wait_for_log("job finished", 20)


def test_lines_of_celery_and_ours_have_one_form(plain):
    plain.settings["LOG_FORMAT"] = "json"
    worker = plain.worker("-B")
    worker.wait_for_log("job finished")
    lines = [json.loads(line) for line in worker.log_text().splitlines() if line.startswith("{")]
    loggers = {line["logger"].split(".")[0] for line in lines}
    assert {"celery", "mailbatch"} <= loggers
    assert all(line.keys() >= {"timestamp", "level", "logger", "event"} for line in lines)
    assert {line["run_id"] for line in lines if line["event"].startswith(("job started", "job finished"))}


def test_a_celeryconfig_of_the_users_own_adds_a_task_and_an_entry_and_keeps_ours(plain):
    shutil.copy(Path(support.__path__[0]) / "tinybatch.py", plain.folder)
    journal = plain.folder / "journal"
    (plain.folder / "celeryconfig.py").write_text(
        "from datetime import timedelta\n"
        'imports = ("tinybatch",)\n'
        f'beat_schedule = {{"hello": {{"task": "hello", "schedule": timedelta(seconds=1),'
        f' "kwargs": {{"journal": {str(journal)!r}}}, "options": {{"queue": "mailbatch"}}}}}}\n'
    )
    worker = plain.worker("-B")
    worker.wait_for_log("tick: hello", 10)
    wait_until(journal.exists, 10, "the user's own task has run")
    worker.wait_for_log("job finished", 10)


def test_another_scheduler_of_celery_can_be_used(plain):
    plain.settings["SCHEDULE"] = 1
    plain.worker("-B", "--scheduler", "celery.beat:PersistentScheduler").wait_for_log("job finished", 20)


def test_importing_the_app_opens_nothing_and_loads_no_worker(plain):
    script = (
        "import sys, mailbatch.celery; assert not {'mailbatch.batch.worker', 'sqlalchemy'} & set(sys.modules);"
        "assert mailbatch.celery.app._pool is None"
    )
    done = plain.run(sys.executable, "-c", script)
    assert (done.returncode, done.stderr) == (0, "")
    assert not (plain.folder / "mailbatch.db").exists()
