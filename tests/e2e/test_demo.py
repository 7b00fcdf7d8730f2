"""``mailbatch demo``, as a newcomer runs it: in an empty folder, whatever the shell's settings are."""

from __future__ import annotations

import json
import os
import re
import time
from signal import SIGINT, SIGKILL, SIGTERM
from typing import TYPE_CHECKING

import httpx2
import psutil
import pytest
from support.long import LONG
from support.processes import ManagedProcess, children_with
from support.stack import Stack
from support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HOSTILE = {
    "MAILBATCH_DATABASE_URL": "postgresql://real.invalid/shop",
    "MAILBATCH_REDIS_URL": "redis://real.invalid",
    "MAILBATCH_SMTP_URL": "smtp://real.invalid:25",
    "MAILBATCH_LANES": "many",
    "MAILBATCH_REDIRECT_ALL_TO": "boss@real.invalid",
    "CELERY_BROKER_URL": "redis://real.invalid",
}
"""The settings of a real installation, and a wrong one."""


class Demo:
    """A demo in ``folder``; ``stack`` runs other commands in the same folder."""

    def __init__(self, folder: Path, *words: str) -> None:
        self.folder = folder
        self.stack = Stack(database_url="", redis_url="", smtp_url="", folder=folder)
        # What a real installation has here must not be laid over the demo's.
        (folder / "celeryconfig.py").write_text("raise SystemExit('the celeryconfig of somebody else was read')\n")
        self.process = ManagedProcess(
            [self.command, "demo", *words], log=folder / "out", env={**self.stack.env, **HOSTILE}, cwd=folder
        )

    @property
    def command(self) -> str:
        return f"{self.stack.env['PATH'].split(os.pathsep)[0]}/mailbatch"

    def left(self) -> list[str]:
        """What runs of it, found by its folder in environment or command line."""
        return [found for process in psutil.process_iter() if (found := self._is_of_it(process))]

    def _is_of_it(self, process: psutil.Process) -> str | None:
        try:
            words = " ".join(process.cmdline())
            told = "\n".join((words, *process.environ().values()))
        except psutil.Error:
            return None
        return f"{process.pid} {words}" if str(self.folder / "var") in told else None

    def worker(self) -> psutil.Process:
        return children_with("celery", self.process.pid)[0]

    def journal(self, folder: str = "demo") -> list[dict[str, object]]:
        text = (self.folder / "var" / folder / "inbox" / "journal.jsonl").read_text(encoding="utf-8")
        return [json.loads(line) for line in text.splitlines()]


@pytest.fixture
def demos(tmp_path: Path) -> Iterator[list[Demo]]:
    started: list[Demo] = []
    yield started
    for demo in started:
        demo.process.close()


def begin(demos: list[Demo], folder: Path, *words: str) -> Demo:
    demos.append(Demo(folder, *words))
    return demos[-1]


def every_example_mail_is_there_once(demo: Demo, folder: Path) -> None:
    told = demo.process.log_text()
    assert "988 sent, 12 failed" in told
    assert "8 were put off and taken later" in told
    assert "As expected" in told
    assert len(re.findall(r"^  line \d+ left out: ", told, re.MULTILINE)) == 8
    mails = demo.journal(folder.name)
    assert len({mail["message_id"] for mail in mails}) == len(mails) == 992
    assert len(list((folder / "inbox").glob("*.eml"))) == 992


@LONG
def test_a_newcomer_sees_every_example_mail_sent_once_and_nothing_is_left_running(demos, tmp_path):
    began = time.monotonic()
    demo = begin(demos, tmp_path)
    assert demo.process.wait_exit(5 * 60) == 0, demo.process.log_text()
    # A minute is promised; the machine may be busy.
    assert time.monotonic() - began < 5 * 60
    folder = tmp_path / "var" / "demo"
    every_example_mail_is_there_once(demo, folder)
    assert (folder / "inbox" / "index.html").read_text(encoding="utf-8").count("<tr><td>") == 992
    assert demo.left() == []


@pytest.mark.parametrize("number", [SIGINT, pytest.param(SIGTERM, marks=LONG), pytest.param(SIGKILL, marks=LONG)])
def test_a_demo_that_is_ended_in_mid_run_leaves_nothing_running(demos, tmp_path, number):
    demo = begin(demos, tmp_path)
    demo.process.wait_for_log(r"\d+ sent", 60)
    assert len(demo.left()) >= 4, "Redis, inbox, worker and its children are found where there are any"
    demo.process.signal(number)
    # 5 s are promised; the machine may be busy.
    assert demo.process.wait_exit(15) == (-SIGKILL if number is SIGKILL else 130)
    if number is not SIGKILL:
        assert "nothing is left running" in demo.process.log_text()
        assert demo.left() == []
    wait_until(lambda: not demo.left(), 15, lambda: f"all to end; left: {demo.left()}")


def test_a_worker_that_dies_ends_the_demo_with_its_last_words(demos, tmp_path):
    demo = begin(demos, tmp_path)
    demo.process.wait_for_log(r"\d+ sent", 60)
    demo.worker().kill()
    assert demo.process.wait_exit(20) == 1
    told = demo.process.log_text()
    assert "mailbatch: the worker has ended; its log: var/demo/worker.log" in told
    assert "job=send-all" in told  # a line of the worker's own
    assert "Traceback" not in told
    assert demo.left() == []


def test_a_stack_that_is_kept_takes_commands_of_other_shells_and_ends_by_ctrl_c(demos, tmp_path):
    demo = begin(demos, tmp_path, "--keep-running", "--folder", "var/dev")
    demo.process.wait_for_log("Ctrl-C ends it all", 300)
    every_example_mail_is_there_once(demo, tmp_path / "var" / "dev")
    address = re.search(r"^The console +(http://localhost:\d+)$", demo.process.log_text(), re.MULTILINE)[1]
    page = httpx2.get(address, timeout=20).text
    assert "<h1" in page
    assert ">988<" in page, "what was sent is shown there"
    text = "It works"
    told = demo.stack.run(
        "sh", "-c", f". var/dev/env && mailbatch reserve --to me@example.com --subject Hello --text '{text}'"
    )
    assert told.returncode == 0, told.stderr
    wait_until(lambda: demo.journal("dev")[-1]["recipients"] == ["me@example.com"], 20, "a tick sends the mail")
    pages = tmp_path / "var" / "dev" / "inbox" / "pages"
    wait_until(lambda: any(text in page.read_text() for page in pages.glob("*me@*.html")), 20, "its page is made")
    index = tmp_path / "var" / "dev" / "inbox" / "index.html"
    wait_until(lambda: index.read_text().count("<tr><td>") == len(demo.journal("dev")), 20, "the index lists all")

    second = demo.stack.run("mailbatch", "demo", "--folder", "var/dev")
    assert second.returncode == 1
    assert second.stderr.startswith("mailbatch: a demo is running in ")

    demo.process.signal(SIGINT)
    assert demo.process.wait_exit(15) == 0
    assert demo.left() == []
