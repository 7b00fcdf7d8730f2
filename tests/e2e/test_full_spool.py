"""A real worker whose temporary file cannot grow: a limit of the kernel on the size of its files, as on a full disk."""

from __future__ import annotations

import json
import resource
from typing import TYPE_CHECKING

import psutil
import sqlalchemy as sa
from support.backlogs import database, reserve, states

from mailbatch.client import store_file
from mailbatch.infrastructure.db.tables import mail_reservations

if TYPE_CHECKING:
    from support.sink import Sink
    from support.stack import Stack

_r = mail_reservations.c


def limit(pid: int, size: int) -> None:
    """Let no file that the process ``pid`` and its children write grow beyond ``size`` bytes."""
    for process in (psutil.Process(pid), *psutil.Process(pid).children(recursive=True)):
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def test_a_full_spool_lets_only_those_mails_wait_that_do_not_fit(stack: Stack, smtp_sink: Sink):
    contents = [bytes([n]) * 3_000_000 for n in (1, 2)]
    with database(stack.database_url) as connection:
        fits, does_not = (store_file(connection, content, filename="a.bin") for content in contents)
    reserve(stack.database_url, 3, attachments=[{"file": fits}], priority=1)
    reserve(stack.database_url, 3, attachments=[{"file": does_not}])
    reserve(stack.database_url, 9)
    worker = stack.worker("-c", "1")
    limit(worker.pid, 6_000_000)
    done = stack.cli("send-all", "--json")
    report = json.loads(done.stdout)
    assert (done.returncode, report["outcome"], report["sent"], report["failed"]) == (1, "failed", 12, 0)
    assert states(stack.database_url) == {"sent": 12, "pending": 3}
    with database(stack.database_url) as connection:
        waiting = connection.execute(sa.select(_r.attempts, _r.last_error).where(_r.status == "pending")).all()
        connection.execute(sa.update(_r.id.table).values(retry_at=None).where(_r.status == "pending"))
    [(attempts, why)] = set(map(tuple, waiting))
    assert attempts == 0
    assert "File too large; make room there, or set MAILBATCH_SPOOL_DIR" in why
    assert f"mails wait: {why}" in stack.cli("status").stdout
    limit(worker.pid, resource.RLIM_INFINITY)
    assert stack.json("send-all")["outcome"] == "completed"
    assert states(stack.database_url) == {"sent": 15}
    assert len(smtp_sink.accepted()) == 15
