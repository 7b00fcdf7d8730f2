"""A mail whose composing blocks its process, in every way to run: it alone fails, by name, and all others are sent.

The bounds of templates let nothing through that hangs; what they did not foresee is stood for by a filter that does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa
from support.backlogs import database, ended, reserve, runs, states
from support.long import LONG
from support.processes import children_with
from support.waiting import wait_until

from mailbatch.infrastructure.db.tables import mail_reservations

if TYPE_CHECKING:
    from pathlib import Path

    from support.stack import Stack

_SITE = """
import jinja2.filters

def upper(text, _upper=jinja2.filters.FILTERS["upper"]):
    return ("a" * 8_000_000).rfind("ab" + "a" * 4_000_000) if text == "HANG" else _upper(text)

jinja2.filters.FILTERS["upper"] = upper
from mailbatch.infrastructure.system.watchdog import ProcessWatchdog
ProcessWatchdog.__init__.__defaults__ = ({seconds},)
"""
GOOD = 100
HANGS = "{{ 'HANG'|upper }}"


@pytest.fixture
def hanging(sqlite_stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A backlog with a mail in its middle that hangs, and a watchdog that bites after a second."""
    site(tmp_path, monkeypatch, seconds=1.0)
    sqlite_stack.settings |= {"LEASE": 3, "LOCK_TTL": 2}
    sqlite_stack.folder.mkdir()
    return filled(sqlite_stack)


def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site/sitecustomize.py").write_text(_SITE.format(seconds=seconds))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))


def filled(stack: Stack) -> tuple[Stack, str]:
    reserve(stack.database_url, GOOD // 2, body="Hello {{{{ {i} }}}}")
    reserve(stack.database_url, 1, start=GOOD, body="x", subject=HANGS)
    reserve(stack.database_url, GOOD - GOOD // 2, start=GOOD // 2, body="Hello {{{{ {i} }}}}")
    with database(stack.database_url) as connection:
        hostile = sa.select(mail_reservations.c.id).where(mail_reservations.c.subject == HANGS)
        return stack, str(connection.scalar(hostile))


def send(stack: Stack) -> int:
    return stack.cli("send-all", "--here", "--no-lock").returncode


def over(stack: Stack, hostile: str) -> bool:
    """Whether all others have gone, and the mail that hangs has failed by name."""
    if states(stack.database_url) != {"sent": GOOD, "failed": 1}:
        return False
    with database(stack.database_url) as connection:
        row = connection.execute(sa.select(mail_reservations).where(mail_reservations.c.status == "failed")).one()
    assert str(row.id) == hostile
    assert row.last_error.startswith("composing it held its process for more than")
    return True


def test_a_pool_child_dies_of_it_alone_and_its_slot_is_filled_again(hanging, smtp_sink):
    stack, hostile = hanging
    worker = stack.worker("-c", "2")
    stack.call()
    worker.wait_for_log(rf"mailbatch: mail {hostile}, claim +1 held its process", 60)
    wait_until(
        lambda: stack.cli("send-all").returncode in (0, 1) and over(stack, hostile), 90, "all is settled", every=1.0
    )
    assert worker.log_text().count(f"mailbatch: mail {hostile}") == 1
    # Both slots are filled, and one that sends hears a revoke.
    wait_until(lambda: len(children_with("celery", worker.pid, recursive=True)) >= 2, 30, "both slots are filled")
    smtp_sink.stop()
    smtp_sink.latency = 0.2
    smtp_sink.start()
    stack.settings |= {"CONNECTIONS": 1}
    # So many that the command to revoke is in time on any machine.
    reserve(stack.database_url, 1000, start=1000)
    task = stack.call()
    wait_until(lambda: states(stack.database_url)["sent"] > GOOD, 30, "mails go")
    assert stack.celery("control", "revoke", task).returncode == 0
    wait_until(lambda: ended(stack.database_url), 30, "the run ends")
    assert states(stack.database_url)["sent"] < GOOD + 1000
    assert runs(stack.database_url)[-1].outcome == "revoked"


@pytest.mark.parametrize("pool", ["solo", pytest.param("threads", marks=LONG)])
def test_a_worker_without_children_ends_with_a_line_and_the_next_one_goes_on(hanging, pool):
    stack, hostile = hanging
    worker = stack.worker("--pool", pool)
    stack.call()
    assert worker.wait_exit(60) == 1
    assert f"mailbatch: mail {hostile}" in worker.log_text()
    stack.worker("--pool", pool)
    wait_until(
        lambda: stack.cli("send-all").returncode in (0, 1) and over(stack, hostile), 90, "all is settled", every=1.0
    )


def test_a_run_in_the_foreground_ends_with_exit_code_1_and_a_line(hanging):
    stack, hostile = hanging
    done = stack.cli("send-all", "--here", "--no-lock")
    assert done.returncode == 1
    [line] = [line for line in done.stderr.splitlines() if "held its process" in line]
    assert line.startswith(f"mailbatch: mail {hostile}")
    wait_until(
        lambda: stack.cli("send-all", "--here", "--no-lock").returncode == 0 and over(stack, hostile),
        60,
        "all is settled",
        every=1.0,
    )


def test_once_requeued_it_is_tried_again(hanging):
    stack, hostile = hanging
    assert send(stack) == 1
    wait_until(
        lambda: stack.cli("send-all", "--here", "--no-lock").returncode == 0 and over(stack, hostile),
        60,
        "all is settled",
        every=1.0,
    )
    with database(stack.database_url) as connection:
        mended = sa.update(mail_reservations).where(mail_reservations.c.subject == HANGS)
        connection.execute(mended.values(subject="{{ 'mended'|upper }}"))
    assert stack.cli("requeue", hostile).returncode == 0
    assert stack.json("send-all", "--here", "--no-lock")["sent"] == 1


def test_without_the_note_as_on_another_host_it_is_set_aside_after_some_deaths(hanging, tmp_path):
    stack, hostile = hanging
    stack.settings |= {"MAX_ATTEMPTS": 3}

    def tried() -> bool:
        send(stack)
        for note in (stack.folder / "tmp").glob("mailbatch-composing-*/*"):
            note.unlink(missing_ok=True)
        return states(stack.database_url).get("failed") == 1 and states(stack.database_url).get("sent") == GOOD

    wait_until(tried, 120, "it is set aside", every=1.0)
    with database(stack.database_url) as connection:
        row = connection.execute(sa.select(mail_reservations).where(mail_reservations.c.status == "failed")).one()
    assert (str(row.id), row.last_error[:9]) == (hostile, "set aside")
