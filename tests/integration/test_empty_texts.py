"""An empty text is nothing given, in every column and by every door; what went out before goes out still."""

from __future__ import annotations

import contextlib
import io
from collections import Counter
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest
import sqlalchemy as sa
from sqlalchemy import exc
from support.api import MAIL, Api
from support.backlogs import database
from support.databases import make_older
from support.strange import insert, quoted, reservation, stranger

from mailbatch import client
from mailbatch.application.acting.csv_records import read_csv
from mailbatch.application.acting.jsonl_records import read_jsonl
from mailbatch.batch.send_all import send_all
from mailbatch.bootstrap import Parts
from mailbatch.config import Settings
from mailbatch.domain.errors import InvalidReservation
from mailbatch.domain.reservation import Status
from mailbatch.infrastructure.db.migrate import upgrade
from mailbatch.infrastructure.db.tables import mail_reservations

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.sink import Sink

_r = mail_reservations.c
OPTIONAL = ("cc", "bcc", "sender", "reply_to", "subject", "body_text", "body_html", "tag")


@pytest.fixture
def templates(tmp_path: Path) -> Path:
    folder = tmp_path / "templates"
    for name, files in {"all": ("subject.txt", "body.txt", "body.html"), "bare": ()}.items():
        (folder / name).mkdir(parents=True)
        for file in files:
            (folder / name / file).write_text(f"of the template: {file}", encoding="utf-8")
    (folder / "bare" / "body.html").write_text("<p>bare</p>", encoding="utf-8")
    return folder


@contextlib.contextmanager
def opened(url: str, sink: Sink, templates: Path) -> Iterator[Parts]:
    given = {"database_url": url, "smtp_url": sink.url, "sender": "shop@example.com", "template_dir": templates}
    with contextlib.closing(Parts(Settings(**given))) as parts:
        yield parts


def mails_of(url: str) -> list[Any]:
    with database(url) as connection:
        return list(connection.execute(sa.select(mail_reservations)))


@pytest.fixture(params=["sqlite", "postgresql"])
def older_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database as the version before left it."""
    url = f"sqlite:///{tmp_path}/older.db"
    if request.param == "postgresql":
        url = request.getfixturevalue("empty_postgres_url")
    make_older(url)
    return url


def test_what_went_out_before_with_an_empty_text_goes_out_still(older_url, smtp_sink, templates):
    rows = [reservation(Status.PENDING, **{name: "''"}) for name in OPTIONAL]
    rows.append(reservation(Status.PENDING, idempotency_key="''"))
    rows.append(reservation(Status.PENDING, subject="''", body_text="''", body_html="''"))
    rows.append(reservation(Status.PENDING, body_text="''", body_html="'<p>x</p>'"))
    for name in ("all", "bare"):
        named = {"template": quoted(name), "subject": "''" if name == "all" else "'s'"}
        rows += [reservation(Status.PENDING, **{**named, column: "''"}) for column in OPTIONAL]
    # A template named so was none: it goes out now, if there is a subject and a body.
    rows.append(reservation(Status.PENDING, template="''"))
    with stranger(older_url).begin() as connection:
        assert all(insert(connection, "mail_reservations", row) for row in rows)
    upgrade(older_url)
    with opened(older_url, smtp_sink, templates) as parts:
        report = send_all(parts, lock=False)()
    assert Counter(mail.status for mail in mails_of(older_url)) == {"sent": len(rows)}
    assert report.counts.sent == len(smtp_sink.accepted()) == len(rows)


def composed(parts: Parts, **columns: str) -> tuple[str, str]:
    """Subject and bytes of a mail that was stored with ``columns``."""
    row = reservation(Status.PENDING, **columns)
    with stranger(str(parts.engine.url)).begin() as connection:
        assert insert(connection, "mail_reservations", row)
    (found,) = [
        one for one in parts.stores.upcoming.mails(None, 10) if one.claim.reservation_id == UUID(row["id"].strip("'"))
    ]
    data = b"".join(parts.sending.compose(found).data.splitlines(keepends=True)).decode()
    subject = next((line for line in data.splitlines() if line.startswith("Subject:")), "")
    return subject.removeprefix("Subject:").strip(), data


def test_an_empty_text_gives_way_to_the_templates(sqlite_url, smtp_sink, templates):
    with opened(sqlite_url, smtp_sink, templates) as parts:
        empty = {"subject": "''", "body_text": "''", "body_html": "''"}
        subject, data = composed(parts, template="'all'", **empty)
        assert subject == "of the template: subject.txt"
        assert "of the template: body.txt" in data
        assert "of the template: body.html" in data
        # What the template leaves out is empty, or not there.
        subject, data = composed(parts, template="'bare'", **empty)
        assert (subject, data.count("text/plain"), data.count("text/html")) == ("", 0, 1)


def test_without_a_template_an_empty_subject_and_body_go_out_empty(sqlite_url, smtp_sink, templates):
    with opened(sqlite_url, smtp_sink, templates) as parts:
        subject, data = composed(parts, subject="''", body_text="''", template="''")
        assert (subject, data.count("text/plain"), data.count("multipart")) == ("", 1, 0)
        _, data = composed(parts, body_text="''", body_html="'<p>x</p>'")
        assert (data.count("text/plain"), data.count("text/html"), data.count("multipart")) == (0, 1, 0)


# --- doors ---

NOTHING = ("cc", "bcc", "sender", "reply_to", "template", "body_html", "tag")
EMPTY = dict.fromkeys(NOTHING, "")


def stored(url: str) -> dict[str, Any]:
    (row,) = mails_of(url)
    return {name: getattr(row, name) for name in NOTHING}


def test_the_client_stores_nothing_for_an_empty_text(database_url):
    empty = {name: "" for name in NOTHING if name != "body_html"}
    with database(database_url) as connection:
        own = client.reserve(connection, to="ann@example.org", subject="s", text="t", html="", key="k", **empty)
        assert client.reserve(connection, to="ann@example.org", subject="s", text="t", key="k") == own
    assert stored(database_url) == dict.fromkeys(NOTHING)


def test_the_api_stores_nothing_for_an_empty_text(database_url):
    with Api({"database_url": database_url, "redis_url": "redis://127.0.0.1:1"}) as api:
        api.post("/api/reservations", MAIL | EMPTY, 201)
        answer = api.post("/api/reservations", MAIL | {"idempotency_key": ""}, 422)
    assert "idempotency_key: is empty" in str(answer)
    assert stored(database_url) == dict.fromkeys(NOTHING)


def test_the_command_line_stores_nothing_for_an_empty_text(say, sqlite_url):
    flags = [f"--{name}=" for name in ("cc", "bcc", "sender", "reply-to", "template", "html", "tag")]
    given = ["reserve", "--to", "ann@example.org", "--subject", "s", "--text", "t", *flags]
    assert say(*given, DATABASE_URL=sqlite_url)[0] == 0
    code, _, err = say(*given, "--key", "", DATABASE_URL=sqlite_url)
    assert (code, "--key: is empty; leave it out" in err) == (1, True)
    assert stored(sqlite_url) == dict.fromkeys(NOTHING)


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_an_import_stores_nothing_for_an_empty_text(sqlite_url, smtp_sink, templates, form):
    if form == "csv":
        names = ",".join(["recipients", "subject", "body_text", *NOTHING])
        found = list(read_csv(io.BytesIO(f"{names}\nann@example.org,s,t{',' * len(NOTHING)}\n".encode())))
    else:
        fields = ", ".join(f'"{name}": ""' for name in NOTHING)
        line = f'{{"recipients": "ann@example.org", "subject": "s", "body_text": "t", {fields}}}'
        found = list(read_jsonl(io.BytesIO(line.encode())))
    with opened(sqlite_url, smtp_sink, templates) as parts, parts.stores.reservations.intake() as intake:
        for record in found:
            intake.add(parts.reserving.check_draft(record.draft))
    assert stored(sqlite_url) == dict.fromkeys(NOTHING)


def test_an_empty_key_is_refused_by_the_client(sqlite_url):
    with database(sqlite_url) as connection, pytest.raises(InvalidReservation, match=r"^key: is empty"):
        client.reserve(connection, to="ann@example.org", subject="s", text="t", key="")


@pytest.mark.parametrize("key", ["''", "x''"])
def test_an_empty_key_is_refused_by_the_database(database_url, key):
    engine = stranger(database_url)
    if engine.dialect.name == "postgresql" and key != "''":
        pytest.skip("PostgreSQL keeps text alone")
    row = reservation(Status.PENDING)
    with engine.begin() as connection:
        assert not insert(connection, "mail_reservations", reservation(Status.PENDING, idempotency_key=key))
        assert insert(connection, "mail_reservations", row)
    with pytest.raises(exc.IntegrityError, match="idempotency_key"), engine.begin() as connection:
        connection.exec_driver_sql(f"UPDATE mail_reservations SET idempotency_key = {key}")  # noqa: S608
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE mail_reservations SET idempotency_key = ' '")


def test_a_mail_that_had_an_empty_key_has_none_and_can_be_changed(older_url):
    row = reservation(Status.PENDING, idempotency_key="''")
    with stranger(older_url).begin() as connection:
        assert insert(connection, "mail_reservations", row)
    upgrade(older_url)
    with stranger(older_url).begin() as connection:
        assert connection.exec_driver_sql("UPDATE mail_reservations SET status = 'cancelled'").rowcount == 1
    (mail,) = mails_of(older_url)
    assert (mail.status, mail.idempotency_key) == ("cancelled", None)
