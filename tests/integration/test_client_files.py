"""Files and finished messages from Python, inside the caller's own transaction."""

from __future__ import annotations

import os
from email.message import EmailMessage
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from mailbatch.client import Attachment, reserve, reserve_message, store_file
from mailbatch.domain.errors import InvalidReservation, KeyConflict
from mailbatch.infrastructure.db.engine import connect
from mailbatch.infrastructure.db.files import SqlFiles
from mailbatch.infrastructure.db.tables import mail_files, mail_reservations

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from sqlalchemy.engine import Engine

LETTER: dict[str, Any] = {"to": "ada@example.com", "subject": "Hello", "text": "Hello."}
PDF, LOGO = b"%PDF-1.7 \x00\xff", b"\x89PNG"


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    """The caller's engine: SQLAlchemy's own, with none of our settings."""
    engine = sa.create_engine(database_url)
    yield engine
    engine.dispose()


def rows(engine: Engine, table: sa.Table = mail_reservations) -> list[Any]:
    ours = connect(engine.url.render_as_string(hide_password=False))
    with ours.connect() as connection:
        found = connection.execute(sa.select(table)).all()
    ours.dispose()
    return list(found)


def sha(content: bytes) -> str:
    return sha256(content).hexdigest()


def test_files_of_every_kind_are_stored_once_and_named(engine, tmp_path):
    invoice = tmp_path / "Rechnung ü.pdf"
    invoice.write_bytes(PDF)
    with Session(engine) as session, session.begin():
        terms = store_file(session, b"Terms.", filename="terms.txt", content_type="text/plain")
        reserve(
            session,
            **LETTER,
            attachments=[
                invoice,
                ("copy.pdf", PDF),
                Attachment(filename="a/logo.png", content=LOGO, content_type="image/png", content_id="logo"),
                terms,
                {"path": "terms/de.pdf"},
            ],
            locale="de-AT",
            envelope_sender="bounces@example.com",
        )
    [row] = rows(engine)
    assert row.attachments == [
        {"file": sha(PDF), "filename": "Rechnung ü.pdf"},
        {"file": sha(PDF), "filename": "copy.pdf"},
        {"file": sha(LOGO), "filename": "logo.png", "content_type": "image/png", "content_id": "logo"},
        {"file": terms},
        {"path": "terms/de.pdf"},
    ]
    assert (row.locale, row.envelope_sender) == ("de-AT", "bounces@example.com")
    stored = {file.id: (file.content, file.content_type, file.size) for file in rows(engine, mail_files)}
    assert stored == {
        terms: (b"Terms.", "text/plain", 6),
        sha(PDF): (PDF, None, len(PDF)),
        sha(LOGO): (LOGO, "image/png", len(LOGO)),
    }


def test_rolled_back_nothing_is_left(engine):
    with Session(engine) as session:
        reserve(session, **LETTER, attachments=[("a.pdf", PDF)])
        session.rollback()
    with engine.connect() as connection, connection.begin() as transaction:
        store_file(connection, PDF)
        reserve_message(connection, b"To: a@example.com\r\n\r\nHi")
        transaction.rollback()
    assert rows(engine) == rows(engine, mail_files) == []


def test_the_same_key_and_files_are_the_same_reservation(engine):
    with engine.begin() as connection:
        first = reserve(connection, **LETTER, attachments=[("a.pdf", PDF)], key="k")
        assert reserve(connection, **LETTER, attachments=[("a.pdf", PDF)], key="k") == first
        with pytest.raises(KeyConflict, match="differs in attachments"):
            reserve(connection, **LETTER, attachments=[("a.pdf", LOGO)], key="k")
        message = reserve_message(connection, b"To: a@example.com\r\n\r\nHi", key="m")
        assert reserve_message(connection, b"To: a@example.com\r\n\r\nHi", key="m") == message
        with pytest.raises(KeyConflict, match="differs in message"):
            reserve_message(connection, b"To: a@example.com\r\n\r\nHo", key="m")


@pytest.mark.parametrize(
    ("attachments", "expected"),
    [
        (["0" * 64], f"attachments: there is no file {'0' * 64}; store it first"),
        (["/no/such/file.pdf"], r"attachments: /no/such/file.pdf: cannot be read \(No such file or directory\)"),
        ([b"bytes"], r"attachments: bytes is no file; give a path, \(name, bytes\)"),
        ([("a.pdf", "text")], "attachments: tuple is no file"),
        ([5], "attachments: int is no file"),
        (["a\x00b"], r"attachments: a\\x00b: embedded null byte"),
        (["/dev/zero"], "attachments: /dev/zero: is no regular file"),
        (["/proc"], "attachments: /proc: is no regular file"),
        (["/proc/self/environ"], "attachments: /proc/self/environ: was changed while it was read"),
        ([Attachment(filename="a", content="text")], "attachments: a: content is str, not bytes"),
        ([Attachment(filename=5, content=b"")], "attachments: filename of an Attachment is int, not text"),
        ([Attachment(filename="a", content=b"", content_id=5)], "attachments: a: content_id is int, not text"),
    ],
)
def test_what_is_no_file_is_refused_in_one_line(engine, attachments, expected):
    with engine.begin() as connection, pytest.raises(InvalidReservation, match=expected) as refused:
        reserve(connection, **LETTER, attachments=[("a.pdf", PDF), *attachments])
    assert len(refused.value.problems) == 1
    assert rows(engine) == rows(engine, mail_files) == []


@pytest.mark.parametrize("call", ["reserve", "store_file"])
@pytest.mark.parametrize(("kind", "why"), [("fifo", "is no regular file"), ("large", "at most"), ("link", "at most")])
def test_a_path_that_would_block_or_has_no_end_is_refused(engine, tmp_path, kind, why, call):
    path = tmp_path / kind
    match kind:
        case "fifo":
            os.mkfifo(path)
        case "large":
            path.touch()
            os.truncate(path, 10**12)
        case _:
            (tmp_path / "end").touch()
            os.truncate(tmp_path / "end", 10**12)
            path.symlink_to(tmp_path / "end")
    with engine.begin() as connection, pytest.raises(InvalidReservation, match=f"{kind}: .*{why}"):
        store_file(connection, path) if call == "store_file" else reserve(connection, **LETTER, attachments=path)


@pytest.mark.parametrize(
    ("labels", "why"),
    [
        ({"filename": "a\nb"}, r"filename: a\\nb: has a line break"),
        ({"filename": "x" * 300}, "filename: x+: is no file name"),
        ({"filename": "\ud800"}, r"filename: \\ud800: has a lone surrogate"),
        ({"filename": 5}, "filename: is int, not text"),
        ({"content_type": "pdf"}, "content_type: 'pdf' is no content type"),
        ({"content_type": b"a/b"}, "content_type: is bytes, not text"),
    ],
)
def test_a_file_that_no_mail_could_have_is_not_stored(engine, labels, why):
    with engine.begin() as connection, pytest.raises(InvalidReservation, match=why) as refused:
        store_file(connection, b"x", **labels)
    assert len(refused.value.problems) == 1
    assert rows(engine, mail_files) == []


@pytest.mark.parametrize("attachments", [5, b"bytes", 0.5])
def test_what_is_neither_a_file_nor_a_list_is_refused_in_one_line(engine, attachments):
    with engine.begin() as connection, pytest.raises(InvalidReservation, match="is no file; give a path") as refused:
        reserve(connection, **LETTER, attachments=attachments)
    assert len(refused.value.problems) == 1


@pytest.mark.parametrize(("attachments", "stored"), [(None, 0), ((), 0), (("a.pdf", PDF), 1), ({"path": "a"}, 1)])
def test_a_single_file_needs_no_list_and_none_is_no_file(engine, attachments, stored):
    with engine.begin() as connection:
        reserve(connection, **LETTER, attachments=attachments)
    assert len(rows(engine)[0].attachments or ()) == stored


def test_a_message_goes_to_whom_its_header_names_and_hides_its_bcc(engine):
    message = EmailMessage()
    message["From"], message["To"], message["Bcc"] = "shop@example.com", "Ada <ada@example.com>", "eve@example.com"
    message["Subject"] = "Grüße"
    message.set_content("Hello.")
    message.add_attachment(PDF, maintype="application", subtype="pdf", filename="a.pdf")
    with engine.begin() as connection:
        reserve_message(connection, message, tag="t", envelope_sender="<>")
        reserve_message(connection, message, to=["bob@example.com"])
    first, second = sorted(rows(engine), key=lambda row: len(row.recipients), reverse=True)
    assert (first.recipients, first.tag, first.subject) == ('"Ada" <ada@example.com>, eve@example.com', "t", None)
    assert first.envelope_sender == "<>"
    assert b"To: Ada" in first.message
    assert b"eve@example.com" not in first.message
    assert second.recipients == "bob@example.com"


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (b"Subject: s\r\n\r\nHi", "to: is empty; give at least one address"),
        ("To: a@example.com", "message: must be an EmailMessage or bytes, not str"),
        (b"To: a@example.com\r\n\r\n" + b"x" * 1000, "message: has 1021 bytes"),
        (b"", "message: is empty; give a message with a header"),
        (b"To: a@x.org\nDKIM-Signature: x\n\na\x00", "message: its body .text/plain. has a NUL byte, and a signature"),
    ],
)
def test_a_message_that_cannot_go_out_is_refused(engine, message, expected):
    with engine.begin() as connection, pytest.raises(InvalidReservation, match=expected):
        reserve_message(connection, message, max_message_bytes=1000)
    assert rows(engine) == []


def test_a_file_that_is_too_large_for_any_message_is_refused_and_not_stored(engine):
    large = {"max_message_bytes": 1_000}
    with engine.begin() as connection:
        stored = store_file(connection, b"x" * 900, filename="list.csv")
    for files in ([("list.csv", b"x" * 901)], [stored], [("a.pdf", PDF), ("b.pdf", b"y" * 900)]):
        with engine.begin() as connection, pytest.raises(InvalidReservation, match="with it the message is larger"):
            reserve(connection, **LETTER, attachments=files, **large)
    assert rows(engine) == []
    assert [file.id for file in rows(engine, mail_files)] == [stored]


def test_a_message_keeps_its_own_message_id_in_the_row(engine):
    with engine.begin() as connection:
        reserve_message(connection, b"To: a@example.com\r\nMessage-ID: <own@x.org>\r\n\r\nHi")
        reserve(connection, **LETTER)
    assert {row.message_id for row in rows(engine)} == {"<own@x.org>", None}


def test_a_path_is_stored_under_its_name(engine, tmp_path: Path):
    (tmp_path / "logo.png").write_bytes(LOGO)
    with engine.begin() as connection:
        own = store_file(connection, tmp_path / "logo.png")
        assert store_file(connection, str(tmp_path / "logo.png"), filename="other.png") == own
        with pytest.raises(InvalidReservation, match="is no regular file"):
            store_file(connection, tmp_path)
    [file] = rows(engine, mail_files)
    assert (file.id, file.filename, file.content_type) == (own, "logo.png", None)
    assert SqlFiles(engine).find(own) is not None
