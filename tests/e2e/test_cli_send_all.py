"""``mailbatch send-all``, through a worker and in its own process, and how each is stopped."""

from __future__ import annotations

import json
import re
import signal
from typing import TYPE_CHECKING

import pytest
from support.waiting import wait_until

if TYPE_CHECKING:
    from support.processes import ManagedProcess
    from support.sink import Sink
    from support.stack import Stack

MAILS = 60


@pytest.fixture
def slow_stack(sqlite_stack: Stack, smtp_sink: Sink) -> Stack:
    """A relay that takes its time, and a backlog of some seconds."""
    smtp_sink.stop()
    smtp_sink.latency = 0.05
    smtp_sink.start()
    sqlite_stack.settings |= {"CONNECTIONS": 1, "WINDOW": 4}
    sqlite_stack.folder.mkdir()
    rows = "".join(f"u{i}@example.com,Hello {i},Text\n" for i in range(MAILS))
    (sqlite_stack.folder / "m.csv").write_text(f"recipients,subject,body_text\n{rows}")
    assert sqlite_stack.cli("import", "m.csv").returncode == 0
    return sqlite_stack


def wait_for_mails(sink: Sink, count: int) -> None:
    wait_until(lambda: len(sink.accepted()) >= count, 30, f"{count} mails at the relay")


def output(process: ManagedProcess) -> str:
    return process.log_text()


def test_a_worker_sends_and_the_report_is_printed(slow_stack, smtp_sink):
    slow_stack.worker("-c", "1")
    done = slow_stack.cli("send-all")
    assert done.returncode == 0, done.stderr
    assert re.search(rf"^sent +{MAILS}$", done.stdout, re.MULTILINE)
    report = slow_stack.json("send-all")
    assert (report["outcome"], report["sent"], report["trigger"]) == ("completed", 0, "manual")
    slow_stack.cli("pause", "--all")
    paused = slow_stack.cli("send-all", "--json")
    assert (paused.returncode, json.loads(paused.stdout)["outcome"]) == (1, "paused")


def test_ctrl_c_leaves_the_run_running_and_says_how_to_stop_it(slow_stack, smtp_sink):
    slow_stack.worker("-c", "1")
    asking = slow_stack.process("mailbatch", "send-all")
    wait_for_mails(smtp_sink, 5)
    asking.signal(signal.SIGINT)
    assert asking.wait_exit(5) == 130
    assert re.search(r"to stop it: celery -A mailbatch control revoke [0-9a-f-]{36}", output(asking))
    assert "Traceback" not in output(asking)
    wait_for_mails(smtp_sink, MAILS)
    wait_until(lambda: slow_stack.json("runs")[0]["outcome"] == "completed", 10, "the run is completed")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_run_in_this_process_stops_between_two_mails(slow_stack, smtp_sink, number):
    sending = slow_stack.process("mailbatch", "send-all", "--here", "--json")
    wait_for_mails(smtp_sink, 5)
    sending.signal(number)
    assert sending.wait_exit(10) == 1
    report = json.loads(re.search(r"^\{.*^\}", output(sending), re.MULTILINE | re.DOTALL)[0])
    assert report["outcome"] == "shutdown"
    assert 0 < report["remaining"] == MAILS - report["sent"]
    assert slow_stack.json("status")["reservations"]["sending"] == 0
    assert slow_stack.json("send-all", "--here")["sent"] == report["remaining"]
    assert len(smtp_sink.accepted()) == len({mail.message_id for mail in smtp_sink.accepted()}) == MAILS


def test_a_second_run_in_another_process_is_skipped(slow_stack, smtp_sink):
    slow_stack.process("mailbatch", "send-all", "--here")
    wait_for_mails(smtp_sink, 1)
    smtp_sink.freeze()
    done = slow_stack.cli("send-all", "--here")
    assert (done.returncode, done.stdout) == (0, "skipped: job is already running\n")
    standing = slow_stack.json("status")
    assert standing["running"]
    assert standing["progress"]["state"] == "running"
