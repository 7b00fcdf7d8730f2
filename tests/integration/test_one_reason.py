"""Rows that only message, template and bodies explain together: each screen tells the reason that the run writes."""

from __future__ import annotations

import html
import json
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa
from click.testing import CliRunner
from support.api import Api
from support.backlogs import database
from support.strange import insert, quoted, reservation, stranger

from mailbatch.batch.send_all import send_all
from mailbatch.bootstrap import Parts
from mailbatch.config import Settings
from mailbatch.domain.reservation import Status
from mailbatch.infrastructure.db.tables import mail_reservations
from mailbatch.interfaces.cli.main import cli

if TYPE_CHECKING:
    from collections.abc import Iterator

_r = mail_reservations.c
BARE = {"subject": "NULL", "body_text": "NULL"}
GOOD = b"From: shop@example.com\r\nSubject: Finished\r\n\r\nHello\r\n"


def octets(dialect: str, content: bytes) -> str:
    return f"x'{content.hex()}'" if dialect == "sqlite" else f"'\\x{content.hex()}'"


def shapes(dialect: str) -> dict[str, dict[str, str]]:
    """Columns as SQL, by what the row is."""
    empty, good = ({"message": octets(dialect, content)} for content in (b"", GOOD))
    return {
        "an empty message": BARE | empty,
        "an empty message and an empty template": BARE | empty | {"template": "''"},
        "an empty message and empty texts": {"subject": "''", "body_text": "''"} | empty,
        "an empty message and a subject": {"body_text": "NULL"} | empty,
        "an empty message and a body": {"subject": "NULL"} | empty,
        "an empty message and a whole mail": empty,
        "an empty message and a template": BARE | empty | {"template": "'good'"},
        "an empty message and no such template": BARE | empty | {"template": "'nowhere'"},
        "an empty message in a language": BARE | empty | {"locale": "'pt-BR'"},
        "an empty message and half a template": BARE | empty | {"template": "'half'"},
        "a message": BARE | good,
        "a message and a template": BARE | good | {"template": "'good'"},
        "a message and texts": good,
        "a message and a file": BARE | good | {"attachments": '\'[{"path": "a.pdf"}]\''},
        "a message in a language": BARE | good | {"locale": "'de'"},
        "a message that is none": BARE | {"message": octets(dialect, b"\x89PNG\r\n\x1a\n\x00")},
        "a message that is a template": BARE | {"message": octets(dialect, b"{{ subject }}")},
        "no such template": BARE | {"template": "'nowhere'"},
        "half a template": BARE | {"template": "'half'"},
        "half a template and the other half": {"subject": "'s'", "body_text": "NULL", "template": "'half'"},
        "a template that is no name": BARE | {"template": "' '"},
        "a template and a file": BARE | {"template": "'good'", "attachments": '\'[{"path": "a.pdf"}]\''},
        "a body with a fault": {"body_text": "'{{ nobody }}'"},
        "only a subject": {"body_text": "''"},
        "only a body": {"subject": "''"},
    }


@pytest.fixture
def settings(database_url, smtp_sink, tmp_path) -> dict[str, Any]:
    for name, files in {"good": ("subject.txt", "body.txt"), "half": ("body.txt",)}.items():
        (tmp_path / "templates" / name).mkdir(parents=True)
        for file in files:
            (tmp_path / "templates" / name / file).write_text("of the template", encoding="utf-8")
    given = {"database_url": database_url, "smtp_url": smtp_sink.url, "sender": "shop@example.com"}
    return given | {"redis_url": "redis://127.0.0.1:1", "template_dir": tmp_path / "templates"}


@pytest.fixture
def rows(settings) -> dict[str, str]:
    """The id of each row."""
    engine = stranger(settings["database_url"])
    found = {}
    with engine.begin() as connection:
        for name, columns in shapes(engine.dialect.name).items():
            row = reservation(Status.PENDING, **columns)
            row["tag"] = quoted(name)
            assert insert(connection, "mail_reservations", row), name
            found[name] = row["id"].strip("'")
    return found


@pytest.fixture
def api(settings) -> Iterator[Api]:
    with Api(settings) as api:
        yield api


def test_each_screen_tells_the_reason_that_the_run_then_writes(api, rows, settings, monkeypatch):
    for name, value in settings.items():
        monkeypatch.setenv(f"MAILBATCH_{name.upper()}", str(value))
    plan = json.loads(CliRunner().invoke(cli, ["plan", "--json"]).stdout)
    planned = {one["id"]: one["errors"] for one in plan["broken"]}
    explained = {name: api.get(f"/api/reservations/{own}/explain") for name, own in rows.items()}
    previews = {name: api.client.get(f"/api/reservations/{own}/preview") for name, own in rows.items()}
    pages = {name: html.unescape(api.client.get(f"/reservations/{own}").text) for name, own in rows.items()}
    assert plan["rendered"] == len(rows)

    with closing(Parts(Settings(**settings))) as parts:
        send_all(parts, lock=False)()
    with database(settings["database_url"]) as connection:
        done = {row.tag: row for row in connection.execute(sa.select(_r.tag, _r.status, _r.last_error))}

    for name, own in rows.items():
        reasons = explained[name]["facts"].get("would_fail", [])
        assert (done[name].status, done[name].last_error) == (
            ("failed", "; ".join(reasons)) if reasons else ("sent", None)
        ), name
        assert planned.get(own, []) == reasons, name
        # A preview makes the text, and opens no file.
        shown = [reason for reason in reasons if "a.pdf" not in reason]
        preview = previews[name].json()
        assert previews[name].status_code == (422 if shown else 200), name
        for reason in shown:
            assert reason in pages[name], name
            assert reason in (preview.get("problems") or [preview["detail"]]), name


def test_an_empty_message_is_called_empty_and_not_a_missing_subject(api, rows):
    own = rows["an empty message"]
    facts = api.get(f"/api/reservations/{own}/explain")["facts"]
    assert facts["would_fail"] == ["message: is empty; give a message with a header (RFC 5322)"]
    assert facts["finished_message"] == "empty"
    assert api.get(f"/api/reservations/{own}")["message"] == {"size": 0}
