"""Thousands of mails with files of each kind, some of them broken: each arrives whole, or fails by its file's name."""

from __future__ import annotations

import os
import random
import threading
from base64 import b64encode
from contextlib import contextmanager
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import psutil
import pytest
import sqlalchemy as sa
from support.backlogs import database
from support.long import LONG
from support.sink import Sink

from mailbatch.batch.send_all import send_all
from mailbatch.bootstrap import Parts
from mailbatch.config import Settings
from mailbatch.infrastructure.db.tables import mail_files, mail_reservations

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_r = mail_reservations.c
MB = 2**20
BROKEN = 30
SHARED = [random.Random(n).randbytes(3_000 + n) for n in range(40)]  # noqa: S311 - any bytes will do
BREAKS: list[dict[str, Any]] = [
    {"path": "absent"},
    {"path": "../outside"},
    {"path": "link"},
    {"path": "folder"},
    {"path": "fifo"},
    {"file": "0" * 64},
    {"content": "!"},
    {"content": b64encode(bytes(100_001)).decode()},
    {"path": "0.bin", "content_type": "no type"},
    {"path": "0.bin", "content_id": "no id"},
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "files"
    (folder / "folder").mkdir(parents=True)
    (tmp_path / "outside").write_bytes(b"not yours")
    (folder / "link").symlink_to(tmp_path / "outside")
    os.mkfifo(folder / "fifo")
    for n, content in enumerate(SHARED):
        (folder / f"{n}.bin").write_bytes(content)
    return folder


def mail(n: int) -> tuple[dict[str, Any], str]:
    """Return the columns of the mail ``n``, and the digest of its file."""
    shared = SHARED[n % len(SHARED)]
    own = b"%d " % n * 300
    source, content = [
        ({"path": f"{n % len(SHARED)}.bin"}, shared),
        ({"file": sha256(shared).hexdigest()}, shared),
        ({"content": b64encode(own).decode()}, own),
    ][n % 3]
    return _row(n, [{**source, "filename": f"{n}.bin"}]), sha256(content).hexdigest()


def _row(n: int, attachments: list[dict[str, Any]]) -> dict[str, Any]:
    return {"recipients": f"to{n}@example.org", "subject": "s", "body_text": "t", "attachments": attachments}


@contextmanager
def peak_memory() -> Iterator[list[int]]:
    """Note the largest resident set of this process meanwhile, in bytes."""
    process, over = psutil.Process(), threading.Event()
    peak = [process.memory_info().rss]

    def look() -> None:
        while not over.wait(0.05):
            peak[0] = max(peak[0], process.memory_info().rss)

    looking = threading.Thread(target=look)
    looking.start()
    try:
        yield peak
    finally:
        over.set()
        looking.join()


@pytest.mark.parametrize("count", [600, pytest.param(10_000, marks=LONG)])
def test_each_arrives_whole_and_each_broken_one_fails_by_name(database_url, redis_url, tmp_path, folder, count):
    first = count // 4
    mails = {n: mail(n) for n in range(count)}
    broken = [_row(n, [{**BREAKS[n % len(BREAKS)], "filename": f"broken-{n}.bin"}]) for n in range(BROKEN)]
    with database(database_url) as connection:
        stored = [{"id": sha256(content).hexdigest(), "content": content} for content in SHARED]
        connection.execute(sa.insert(mail_files), stored)
        connection.execute(sa.insert(mail_reservations), [mails[n][0] for n in range(first)])
    with Sink(tmp_path / "sink", digest=True) as sink:
        settings = {
            "smtp_url": sink.url,
            "sender": "s@example.com",
            "attachment_dir": folder,
            "max_inline_bytes": 100_000,
        }
        parts = Parts(Settings(database_url=database_url, redis_url=redis_url, **settings))
        assert send_all(parts, lock=False)().counts.sent == first
        with database(database_url) as connection:
            rows = [mails[n][0] for n in range(first, count)]
            connection.execute(sa.insert(mail_reservations), [*rows[: count // 2], *broken, *rows[count // 2 :]])
        before = psutil.Process().memory_info().rss
        with peak_memory() as peak:
            report = send_all(parts, lock=False)()
        parts.close()
        digests = {one.recipients[0]: one.digest for one in sink.accepted()}
    assert (report.outcome, report.counts.sent, report.counts.failed) == ("completed", count - first, BROKEN)
    assert digests == {row["recipients"]: digest for row, digest in mails.values()}
    with database(database_url) as connection:
        failed = connection.execute(sa.select(_r.attachments, _r.last_error).where(_r.status == "failed")).all()
    assert len(failed) == BROKEN
    for attachments, why in failed:
        path = attachments[0].get("path", "")
        assert attachments[0]["filename"] in why or f"attachments: {path}: " in why
        assert "\n" not in why
    grown = peak[0] - before
    assert grown < 16 * MB, f"{grown / MB:.1f} MB"
