"""Measures the memory of the process that sends fat mails: attachments and finished messages of megabytes.

Run it by ``make bench-fat``. A worker with one lane sends from a private PostgreSQL to a sink that digests what it
takes. The process that sends may have 64 MB and the largest mail more than when it is idle, and each mail must arrive
whole.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from email.message import EmailMessage
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from support.backlogs import database, ended, reserve, runs, states
from support.postgres import PostgresServer
from support.sink import Sink
from support.stack import Stack
from support.waiting import wait_until

from bench.watch import peak_mb, resident_mb
from mailbatch.infrastructure.db.migrate import upgrade
from mailbatch.infrastructure.db.tables import mail_files, mail_reservations
from mailbatch.infrastructure.redis import embedded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MB = 2**20
ALLOWED = 64
"""Megabytes that the sender may have more than when it is idle, beside the largest mail."""
WARM_UP = 200
_PATIENCE = 3600.0

say = partial(print, flush=True)


@dataclass(frozen=True)
class Load:
    """``mails`` that are fat in the same way.

    ``columns(i)``: the columns of mail i, and the digest of its largest part. ``megabytes``: of a mail as it is sent.
    """

    name: str
    mails: int
    megabytes: float
    columns: Callable[[int], tuple[dict[str, Any], str]]


def main() -> int:
    """Send each load. Return 1 if the sender grew by more than is allowed, or a mail did not arrive whole."""
    reader = argparse.ArgumentParser(prog="fat", description=__doc__.splitlines()[0])
    reader.add_argument("--share", type=float, default=1.0, help="send only this share of the mails")
    reader.add_argument("--only", default="", help="only loads whose name contains this")
    said = reader.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="fat-", dir="/var/tmp") as name,
        embedded.start(Path(name, "redis"), append_only=False) as redis,
        PostgresServer(durable=False) as postgres,
    ):
        folder = Path(name)
        failed = False
        for load in _loads(folder / "files"):
            if said.only in load.name:
                url = postgres.url(postgres.create_database())
                upgrade(url)
                failed |= not _measure(load, max(1, round(load.mails * said.share)), url, redis.url, folder)
    return int(failed)


# --- what is sent ---


def _loads(files: Path) -> Iterator[Load]:
    files.mkdir()
    yield Load("one file of 1 MB for all, by path", 3_000, 1.4, lambda _: _by_path(files, "shared", 1))
    yield Load("one file of 1 MB for all, by file", 3_000, 1.4, lambda _: _by_file(_random(1)))
    yield Load("a file of 10 MB for each", 200, 13.7, lambda i: _by_path(files, f"file{i}", 10))
    yield Load("a text of 5 MB in each", 50, 5.0, _text)
    yield Load("a finished message of 20 MB for each", 50, 20.0, _message)


def _random(megabytes: float, seed: int = 0) -> bytes:
    block = hashlib.shake_128(b"fat").digest(MB)
    return (seed.to_bytes(8) + block * int(megabytes + 1))[: int(megabytes * MB)]


def _by_path(files: Path, name: str, megabytes: int) -> tuple[dict[str, Any], str]:
    path = files / f"{name}.pdf"
    content = _random(megabytes, int.from_bytes(name.encode()[-6:]))
    if not path.exists():
        path.write_bytes(content)
    return {"attachments": [{"path": path.name}]}, _digest(content)


def _by_file(content: bytes) -> tuple[dict[str, Any], str]:
    return {"attachments": [{"file": _digest(content), "filename": "shared.pdf"}]}, _digest(content)


def _text(i: int) -> tuple[dict[str, Any], str]:
    line = f"fünf Megabyte in Mail {i}, Zeile um Zeile\n"
    text = line * (5 * MB // len(line.encode()))
    return {"body_text": text}, _digest(text.replace("\n", "\r\n").encode())


def _message(i: int) -> tuple[dict[str, Any], str]:
    content = _random(14.5, i)
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = "sender@example.com", f"to{i}@example.org", "finished"
    message.set_content("hello")
    message.add_attachment(content, maintype="application", subtype="pdf", filename="a.pdf")
    return {"message": message.as_bytes(), "subject": None, "body_text": None}, _digest(content)


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


# --- sending it ---


def _measure(load: Load, mails: int, url: str, redis_url: str, folder: Path) -> bool:
    """Send ``mails`` of ``load``; print what that took. Return whether all is as it must be."""
    with Sink(folder / f"sink{time.monotonic_ns()}", digest=True) as sink:
        settings = {"ATTACHMENT_DIR": folder / "files", "SPOOL_DIR": folder, "LOG_LEVEL": "WARNING"}
        with Stack(url, redis_url, sink.url, folder / f"stack{time.monotonic_ns()}", settings) as stack:
            stack.worker("-c", "1")
            pid = _warm_up(stack)
            idle = resident_mb(pid)
            expected = _reserve(load, mails, url)
            Path(f"/proc/{pid}/clear_refs").write_text("5")  # the peak counts from here
            began = time.monotonic()
            stack.call()
            everything = {"sent": WARM_UP + mails}
            wait_until(lambda: states(url) == everything or ended(url, 2), _PATIENCE, "all mails to be sent", every=0.2)
            seconds, grown = time.monotonic() - began, peak_mb(pid) - idle
        arrived = Counter(mail.digest for mail in sink.accepted()[WARM_UP:])
    is_whole, may = arrived == expected and states(url) == everything, ALLOWED + load.megabytes
    say(
        f"{load.name}: {mails} mails, {mails / seconds:.1f}/s, {mails * load.megabytes / seconds:.0f} MB/s; "
        f"idle {idle:.0f} MB, peak {grown:+.1f} MB of {may:.0f} allowed; "
        f"{'all whole' if is_whole else f'NOT WHOLE: {states(url)}'}"
    )
    return is_whole and grown <= may


def _warm_up(stack: Stack) -> int:
    """Send small mails; return the pid of the process that did."""
    reserve(stack.database_url, WARM_UP, start=1_000_000)
    stack.call()
    wait_until(lambda: ended(stack.database_url), 60, "the small mails to be sent")
    pid: int = runs(stack.database_url)[0].pid
    return pid


def _reserve(load: Load, mails: int, url: str) -> Counter[str]:
    """Store the mails; return how often each digest must arrive."""
    digests = Counter[str]()
    with database(url) as connection:
        connection.execute(sa.insert(mail_files), _file(_random(1)))
        for i in range(mails):
            columns, digest = load.columns(i)
            digests[digest] += 1
            row = {"recipients": f"to{i}@example.org", "subject": f"fat {i}", "body_text": "hello", **columns}
            connection.execute(sa.insert(mail_reservations), row)
    return digests


def _file(content: bytes) -> dict[str, Any]:
    return {
        "id": _digest(content),
        "content": content,
        "filename": "shared.pdf",
        "content_type": "application/pdf",
    }


if __name__ == "__main__":
    sys.exit(main())
