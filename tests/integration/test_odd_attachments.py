"""Whatever the column ``attachments`` has, and through whichever door it came, is one mail's own error, in one line."""

from __future__ import annotations

import json
import os
import socket
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa
from click.testing import CliRunner
from support.api import MAIL
from support.backlogs import database, reserve, states
from support.sink import Sink
from support.strange import Doors

from mailbatch import client
from mailbatch.batch.send_all import send_all
from mailbatch.domain.errors import InvalidReservation
from mailbatch.infrastructure.db.tables import mail_reservations
from mailbatch.interfaces.cli.main import cli

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_r = mail_reservations.c
SECRET = b"not yours"
KEYS = ("path", "file", "content", "filename", "content_type", "content_id", "bogus", "Path")
SOURCES: dict[str, dict[str, str]] = {"path": {}, "file": {}, "content": {"filename": "a.txt"}}
TYPES: list[Any] = [0, -1, 1.5, 10**30, True, False, [], [1], ["a"], {}, {"a": {"b": [None]}}, [[[[]]]]]
TEXTS = ["a\nb", "a\r\nBcc: x@example.org", "\u202eevil", "..", "../x", "a/../../x", "/etc/passwd", "//x", "-"]
SPELT = ["%2e%2e/x", "..\\x", "\u2024\u2024/x", "\uff0e\uff0e/x", "~root", "file:///etc/passwd", "C:\\x", "."]
SPECIAL = ["fifo", "socket", "zero", "environ", "folder", "folder/", "out/secret", "loop"]


def entry(key: str, value: Any) -> dict[str, Any]:
    return {**SOURCES.get(key, {"path": "good.txt"}), key: value}


COLUMNS: list[Any] = [
    *([entry(key, value)] for key in KEYS for value in TYPES),
    *([entry(key, value)] for key in SOURCES for value in (*TEXTS, *SPELT)),
    *([entry("path", value)] for value in (*SPECIAL, "x" * 300, "")),
    *([entry("filename", value)] for value in ("a\nb", "\u202eevil", "x" * 300, "..", " ")),
    *([entry(key, value)] for key in ("content_type", "content_id") for value in ("a b", "a\nb", "x" * 300, "\u202e")),
    *([value] for value in (*TYPES, None)),
    *(value for value in TYPES if value),
    [{"path": "good.txt", "file": "0" * 64}],
    [{"path": "good.txt", "content_id": "a"}] * 2,
    [{"path": "good.txt"}] * 101,
    "good.txt",
]
"""Values with which no mail can be sent."""
ARRAYS = [column for column in COLUMNS if isinstance(column, list)]
NO_ARRAYS = [column for column in COLUMNS if not isinstance(column, list)]


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """The folder of attachments, with everything in it that is no file to be sent."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret").write_bytes(SECRET)
    folder = tmp_path / "files"
    (folder / "folder").mkdir(parents=True)
    (folder / "good.txt").write_bytes(b"good")
    os.mkfifo(folder / "fifo")
    targets = {"zero": "/dev/zero", "environ": "/proc/self/environ", "out": tmp_path / "outside", "loop": "loop"}
    for name, target in targets.items():
        (folder / name).symlink_to(target)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / "socket"))
        yield folder


@pytest.fixture
def settings(database_url, redis_url, folder, tmp_path) -> Iterator[dict[str, Any]]:
    with Sink(tmp_path / "sink") as sink:
        yield {
            "database_url": database_url,
            "redis_url": redis_url,
            "smtp_url": sink.url,
            "sender": "shop@example.com",
            "attachment_dir": folder,
        }


def test_stored_by_an_insert_it_is_that_mails_error_and_every_screen_shows_it(settings, database_url, tmp_path):
    with database(database_url) as connection:
        for other in NO_ARRAYS:
            with pytest.raises(sa.exc.IntegrityError), connection.begin_nested():
                connection.execute(sa.insert(mail_reservations), {**MAIL, "attachments": other})
        rows = [{**MAIL, "attachments": column} for column in ARRAYS]
        connection.execute(sa.insert(mail_reservations), rows)
    reserve(database_url, 3, attachments=[{"path": "good.txt"}])
    with Doors(settings) as doors:
        doors.say("plan", "--limit", "1000", allowed=(0, 1))
        assert send_all(doors.parts, lock=False)().outcome == "completed"
        assert states(database_url) == {"failed": len(ARRAYS), "sent": 3}
        with database(database_url) as connection:
            failed = connection.execute(sa.select(_r.id, _r.last_error).where(_r.status == "failed")).all()
        for row in failed:
            assert row.last_error.startswith("attachments: ")
            assert row.last_error.isprintable()
            assert str(tmp_path) not in row.last_error
        for row in failed[:: len(failed) // 4]:
            doors.at(str(row.id))
    assert doors.faults == []


def test_given_over_http_it_is_refused_or_stored_but_never_a_fault_of_the_server(settings):
    with Doors(settings) as doors:
        answers = [doors.post("/api/reservations", {**MAIL, "attachments": column}) for column in COLUMNS]
    assert {answer.status_code for answer in answers} == {HTTPStatus.CREATED, HTTPStatus.UNPROCESSABLE_ENTITY}
    for answer in answers:
        if answer.status_code == HTTPStatus.UNPROCESSABLE_ENTITY:
            assert answer.json()["problems"], answer.text


def test_given_by_an_application_it_is_refused_in_lines_and_nothing_is_stored(database_url, folder, monkeypatch):
    monkeypatch.chdir(folder.parent)
    engine = sa.create_engine(database_url)
    for column in COLUMNS:
        with engine.connect() as connection:
            problems = refusal(connection, column)
        assert problems or "path" in column[0], "only what such a path leads to is not known yet"
        assert all(line.isprintable() for line in problems)
    engine.dispose()


def refusal(connection: sa.Connection, column: Any) -> list[str]:
    try:
        client.reserve(connection, to="a@example.org", subject="s", text="t", attachments=column)
    except InvalidReservation as error:
        return list(error.problems)
    return []


def test_in_an_imported_file_it_is_one_line_with_its_number(settings, folder, monkeypatch):
    for name, value in settings.items():
        monkeypatch.setenv(f"MAILBATCH_{name.upper()}", str(value))
    lines = [json.dumps({**MAIL, "attachments": column}) for column in COLUMNS]
    (folder / "mails.jsonl").write_text("\n".join(lines))
    result = CliRunner().invoke(cli, ["import", str(folder / "mails.jsonl")])
    assert result.exit_code == 1
    named = [line for line in result.output.splitlines() if "mails.jsonl:" in line]
    assert len(named) == len(COLUMNS) - 1, "a text is the path of a file"
    assert SECRET.decode() not in result.output
