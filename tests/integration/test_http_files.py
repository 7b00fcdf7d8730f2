"""Files and finished messages over HTTP, on both databases."""

from __future__ import annotations

import base64
import json
import os
import re
import socket
import subprocess
from email.message import EmailMessage
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa
from support.api import MAIL, OPERATE, READ, Api

from mailbatch.domain.attachment import largest_file
from mailbatch.infrastructure.db.tables import api_answers, mail_files, mail_reservations

if TYPE_CHECKING:
    from collections.abc import Iterator

HOW_TO = Path(__file__).parents[2] / "docs" / "how-to"
MOST = 1_000_000
"""MAX_MESSAGE_BYTES. Without a token no body may be larger."""
LARGEST = largest_file(MOST)
MESSAGE = EmailMessage()
MESSAGE["From"] = "Shop <shop@example.com>"
MESSAGE["To"] = "Ann Example <ann@example.com>, bob@example.com"
MESSAGE["Bcc"] = "eve@example.com"
MESSAGE["Subject"] = "Invitation"
MESSAGE.set_content("It is on Monday.")
RAW = MESSAGE.as_bytes()
RECIPIENTS = '"Ann Example" <ann@example.com>, bob@example.com, eve@example.com'


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


@pytest.fixture(scope="module")
def served(module_database_url, redis_server, tmp_path_factory) -> Iterator[Api]:
    """One server for all tests here."""
    settings = {
        "database_url": module_database_url,
        "redis_url": redis_server.url,
        "smtp_url": "smtp://127.0.0.1:1",
        "attachment_dir": tmp_path_factory.mktemp("files"),
        "refused_files": "*.exe",
        "max_message_bytes": MOST,
        "max_inline_bytes": 1000,
        "api_token": OPERATE,
        "api_read_token": READ,
    }
    with Api(settings, OPERATE) as api:
        yield api


@pytest.fixture
def api(served) -> Api:
    """The server, with nothing in its database."""
    with served.parts.engine.begin() as connection:
        for table in (mail_reservations, mail_files, api_answers):
            connection.execute(sa.delete(table))
    return served


def store(api: Api, content: Any, status: int = 201, /, headers: Any = None, **query: str) -> Any:
    answer = api.client.post("/api/files", content=content, headers=headers, params=query)
    assert answer.status_code == status, answer.text
    return answer.json()


def reserve_message(api: Api, raw: bytes, status: int = 201, /, **query: Any) -> Any:
    headers = {"Content-Type": "message/rfc822"}
    answer = api.client.post("/api/reservations", content=raw, headers=headers, params=query)
    assert answer.status_code == status, answer.text
    return answer.json()


def rows(api: Api, table: sa.Table = mail_reservations) -> list[Any]:
    with api.parts.engine.connect() as connection:
        return list(connection.execute(sa.select(table)))


# --- files ---


def test_a_file_is_stored_as_it_was_sent_and_once(api):
    content = bytes(range(256)) * 300
    stored = store(api, content, headers={"Content-Type": "application/pdf"}, filename="2026/Rechnung 17 é.pdf")
    own = sha256(content).hexdigest()
    assert stored == {
        "id": own,
        "size": 76_800,
        "filename": "Rechnung 17 é.pdf",
        "content_type": "application/pdf",
    }
    assert store(api, iter([content[:1000], content[1000:]]), 200, filename="other.pdf") == stored
    [row] = rows(api, mail_files)
    assert (row.id, bytes(row.content), row.filename) == (own, content, "Rechnung 17 é.pdf")


@pytest.mark.parametrize(
    ("headers", "labels"),
    [
        ({}, (None, None)),
        ({"Content-Type": "application/x-www-form-urlencoded"}, (None, None)),
        ({"Content-Type": "text/csv;charset=utf-8"}, (None, "text/csv; charset=utf-8")),
        ({"Content-Disposition": 'attachment; filename="a b.csv"'}, ("a b.csv", None)),
        ({"Content-Disposition": "attachment; filename=x; filename*=UTF-8''na%C3%AFve.csv"}, ("naïve.csv", None)),
        ({"Content-Disposition": 'attachment; filename="C:\\\\temp\\\\naïve.csv"'.encode()}, ("naïve.csv", None)),
        ({"Content-Disposition": "attachment; filename*=no-such''%FF.csv"}, ("ÿ.csv", None)),
        ({"Content-Disposition": "inline"}, (None, None)),
    ],
)
def test_the_header_of_a_request_names_its_file(api, headers, labels):
    stored = store(api, b"a,b", headers=headers)
    assert (stored["filename"], stored["content_type"]) == labels


@pytest.mark.parametrize(
    ("headers", "query", "said"),
    [
        ({}, {"filename": "a\r\nb.pdf"}, "filename: a\\r\\nb.pdf: has a line break (U+000D); it must be one line"),
        ({}, {"filename": "a\u202efdp.pdf"}, "filename: a\\u202efdp.pdf: has the character U+202E"),
        ({}, {"filename": "x" * 300}, "is no file name; give one of at most 255 bytes"),
        ({}, {"filename": "virus.EXE. "}, "may not be attached; MAILBATCH_REFUSED_FILES has *.exe"),
        ({"Content-Type": "pdf"}, {}, "content_type: 'pdf' is no content type (RFC 2045 §5.1: type/subtype)"),
        ({"Content-Type": "message/rfc822"}, {}, "content_type: message/rfc822 cannot be attached as it is"),
    ],
)
def test_a_file_that_no_mail_could_have_is_refused_by_its_field(api, headers, query, said):
    assert said in store(api, b"a", 422, headers=headers, **query)["problems"][0]
    assert rows(api, mail_files) == []


def test_a_form_is_no_file(api):
    answer = api.client.post("/api/files", files={"file": b"a"})
    assert answer.status_code == 415
    assert "curl --data-binary @FILE" in answer.json()["detail"]


def test_the_largest_file_is_stored_and_a_larger_one_refused(api):
    assert store(api, b"x" * LARGEST)["size"] == LARGEST
    assert f"larger than {LARGEST} bytes" in store(api, b"y" * (LARGEST + 1), 413)["detail"]
    assert len(rows(api, mail_files)) == 1


def test_a_file_that_is_too_large_is_refused_before_it_has_arrived(api):
    head = f"POST /api/files HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {OPERATE}\r\n"
    with socket.create_connection(("localhost", api.port), 10) as raw:
        raw.sendall(f"{head}Content-Length: {LARGEST + 1}\r\n\r\n".encode())
        assert raw.recv(65_536).startswith(b"HTTP/1.1 413 ")
    with socket.create_connection(("localhost", api.port), 10) as raw:
        # It never ends.
        raw.sendall(f"{head}Transfer-Encoding: chunked\r\n\r\n".encode())
        piece = b"%x\r\n%b\r\n" % (2**16, b"x" * 2**16)
        for _ in range(LARGEST // 2**16 + 1):
            raw.sendall(piece)
        assert raw.recv(65_536).startswith(b"HTTP/1.1 413 ")
    assert rows(api, mail_files) == []


def test_only_who_may_act_stores_files(api):
    assert api.asking(READ).post("/api/files", content=b"a").status_code == 403
    assert api.asking().post("/api/files", content=b"a").status_code == 401
    assert rows(api, mail_files) == []


def test_a_full_disk_is_told_with_what_to_do(api, monkeypatch):
    def full(*_args: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tempfile.SpooledTemporaryFile.write", full)
    told = store(api, b"a", 503)["detail"]
    assert "No space left on device; make room there, or set MAILBATCH_SPOOL_DIR" in told


# --- files of a mail ---


def test_a_mail_keeps_its_files_as_they_were_given(api):
    own = store(api, b"terms", filename="terms.txt")["id"]
    given = [
        {"content": b64(b"ticket"), "filename": "ticket.pdf"},
        {"file": own},
        {"path": "2026/invoice.pdf", "content_type": "application/pdf", "content_id": "invoice"},
        "2026/terms.pdf",
    ]
    stored = api.post(
        "/api/reservations", MAIL | {"attachments": given, "locale": "pt-BR", "envelope_sender": "<>"}, 201
    )
    [row] = rows(api)
    assert (str(row.id), row.attachments) == (stored["id"], [*given[:3], {"path": "2026/terms.pdf"}])
    assert (row.locale, row.envelope_sender) == ("pt-BR", "<>")


MISSING = sha256(b"missing").hexdigest()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"attachments": {"a": 1}}, "attachments: '{\"a\": 1}' is not a list of files"),
        ({"attachments": "[1"}, "attachments: '[1' is no JSON array"),
        ({"attachments": [1]}, "attachments: number 1 is int, not an object; give one of path, file and content"),
        ({"attachments": [{"content": "?", "filename": "a"}]}, "attachments: a: content is no base64: "),
        ({"attachments": [{"content": "YQ==", "path": "a"}]}, "attachments: a: has path and content; give one of"),
        ({"attachments": [{"content": "YQ=="}]}, "attachments: number 1: content needs a filename"),
        ({"attachments": [{"file": MISSING}]}, f"attachments: there is no file {MISSING}; store it first"),
        ({"attachments": [{"file": "1"}]}, "file is no id of a stored file"),
        ({"attachments": [{"path": "../a"}]}, "has .. in its path"),
        ({"attachments": [{"path": "a", "size": 1}]}, "the key 'size' is not known"),
        ({"attachments": [{"content": b64(b"x" * 1001), "filename": "a"}]}, "MAILBATCH_MAX_INLINE_BYTES allows 1000"),
        ({"attachments": [{"path": "a.exe"}]}, "MAILBATCH_REFUSED_FILES has *.exe"),
        ({"message": b64(RAW)}, "subject: does not go with message; write it into the header of the message"),
        ({"message": "a"}, "message: is no base64 (RFC 4648 §4): "),
        ({"message": 1}, "message: int is not a text in base64"),
        ({"message": ""}, "message: is empty; give a message with a header (RFC 5322)"),
        ({"locale": "pt BR"}, "locale: "),
        ({"envelope_sender": "nobody"}, "envelope_sender: "),
    ],
)
def test_what_could_never_be_sent_is_refused_by_its_field_and_not_stored(api, given, said):
    refused = api.post("/api/reservations", MAIL | given, 422)["problems"]
    assert said in refused[0]
    many = api.post("/api/reservations", [MAIL | given, MAIL])
    assert (many["reserved"], many["results"][0]["problems"]) == (1, refused)
    assert [row.attachments for row in rows(api)] == [None]


# --- finished messages ---


def test_a_message_is_reserved_as_it_is_for_the_recipients_that_it_names(api):
    stored = reserve_message(api, RAW, tag="invitations", priority="3", scheduled_at="2030-12-24T09:00:00+09:00")
    [row] = rows(api)
    assert (str(row.id), row.recipients, row.tag, row.priority) == (stored["id"], RECIPIENTS, "invitations", 3)
    assert bytes(row.message) == RAW.replace(b"Bcc: eve@example.com\n", b"")
    assert (row.scheduled_at.year, row.subject, row.body_text) == (2030, None, None)


def test_a_message_in_base64_is_the_same_mail(api):
    first = reserve_message(api, RAW, idempotency_key="invitation-1")
    again = api.post(
        "/api/reservations", {"message": base64.encodebytes(RAW).decode(), "idempotency_key": "invitation-1"}
    )
    assert again == first | {"new": False}
    many = api.post(
        "/api/reservations", [{"message": b64(RAW)}, {"message": b64(RAW), "recipients": ["zoe@example.com"]}]
    )
    assert many["reserved"] == 2
    assert sorted(row.recipients for row in rows(api)) == [RECIPIENTS, RECIPIENTS, "zoe@example.com"]


def test_the_query_names_other_recipients_of_a_message(api):
    reserve_message(api, RAW, recipients=["Zoë <zoe@example.com>", "max@example.com"], envelope_sender="<>")
    [row] = rows(api)
    assert (row.recipients, row.envelope_sender) == ("Zoë <zoe@example.com>, max@example.com", "<>")


@pytest.mark.parametrize(
    ("raw", "query", "said"),
    [
        (b"", {}, "message: is empty; give a message with a header (RFC 5322)"),
        (b"Subject: a\r\n\r\nb", {}, "recipients: is empty; give at least one address"),
        (b"To: nobody@\r\n\r\nb", {}, "message: To: "),
        (RAW, {"subject": "a"}, "subject: does not go with message; write it into the header of the message"),
        (RAW, {"campaign": "a"}, "campaign"),
        (RAW, {"priority": "high"}, "priority: 'high' is no integer"),
        (RAW, {"tag": ["a", "b"]}, 'tag: \'["a", "b"]\' is not text'),
        (RAW + b"x" * MOST, {}, "MAILBATCH_MAX_MESSAGE_BYTES allows"),
    ],
)
def test_a_message_that_could_never_be_sent_is_refused_by_its_field(api, raw, query, said):
    assert said in reserve_message(api, raw, 422, **query)["problems"][0]
    assert rows(api) == []


def test_a_message_again_with_the_same_key_gets_the_stored_response(api):
    headers = {"Content-Type": "message/rfc822", "Idempotency-Key": "one"}
    first, again = (api.client.post("/api/reservations", content=RAW, headers=headers) for _ in range(2))
    assert (first.json(), again.headers["Idempotency-Replayed"]) == (again.json(), "true")
    other = api.client.post("/api/reservations", content=RAW + b"\n", headers=headers)
    assert other.status_code == 422
    assert len(rows(api)) == 1


def test_another_type_of_body_is_told_what_to_send(api):
    answer = api.client.post("/api/reservations", content=RAW, headers={"Content-Type": "text/plain"})
    assert answer.status_code == 415
    assert "message/rfc822" in answer.json()["detail"]


# --- lists ---


def test_lists_say_what_a_mail_has_and_read_none_of_it(api):
    given = {"attachments": [{"path": "a.pdf"}], "locale": "de", "envelope_sender": "bounces@example.com"}
    with_files = api.post("/api/reservations", MAIL | given, 201)["id"]
    message = reserve_message(api, RAW)["id"]
    (plain,) = api.reserve()
    statements = list[str]()

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        statements.append(statement)

    sa.event.listen(api.parts.engine, "before_cursor_execute", note)
    listed = {item["id"]: item for item in api.get("/api/reservations")["items"]}
    sa.event.remove(api.parts.engine, "before_cursor_execute", note)
    assert {own: (one["has_attachments"], one["has_message"]) for own, one in listed.items()} == {
        with_files: (True, False),
        message: (False, True),
        plain: (False, False),
    }
    assert (listed[with_files]["locale"], listed[with_files]["envelope_sender"]) == ("de", "bounces@example.com")
    (read,) = [one for one in statements if "has_message" in one]
    assert not re.search(r"reservations\.(attachments|message)\b(?! IS NOT NULL)", read)


# --- downloads ---


def test_who_may_read_a_mail_may_save_its_files_and_its_message(api):
    (api.parts.settings.attachment_dir / "big.bin").write_bytes(b"big" * 100_000)
    own = store(api, b"terms", filename="terms.html", headers={"Content-Type": "text/html"})["id"]
    given = [{"content": b64(b"ticket"), "filename": "Fahrkarte für Zoë.pdf"}, {"file": own}, {"path": "big.bin"}]
    mail = api.post("/api/reservations", MAIL | {"attachments": given}, 201)["id"]
    reader = api.asking(READ)
    saved = [reader.get(f"/api/reservations/{mail}/attachments/{n}") for n in (1, 2, 3)]
    assert [one.content for one in saved] == [b"ticket", b"terms", b"big" * 100_000]
    assert saved[0].headers["Content-Disposition"].endswith("filename*=UTF-8''Fahrkarte%20f%C3%BCr%20Zo%C3%AB.pdf")
    for one in saved:
        assert one.headers["Content-Disposition"].startswith("attachment; ")
        assert one.headers["Content-Type"] == "application/octet-stream"
        assert one.headers["X-Content-Type-Options"] == "nosniff"
    message = reserve_message(api, RAW)["id"]
    assert reader.get(f"/api/reservations/{message}/message").content == RAW.replace(b"Bcc: eve@example.com\n", b"")
    assert api.asking().get(f"/api/reservations/{mail}/attachments/1").status_code == 401


@pytest.mark.parametrize("path", ["attachments/0", "attachments/2", "attachments/1", "message"])
def test_what_a_mail_does_not_have_is_not_found(api, path):
    mail = api.post("/api/reservations", MAIL | {"attachments": [{"path": "absent.pdf"}]}, 201)["id"]
    assert api.get(f"/api/reservations/{mail}/{path}", 404)["detail"]


# --- the pages ---


def test_the_requests_of_the_pages_do_what_they_say(api, tmp_path):
    files = {"terms.pdf": b"%PDF-1.7 terms", "ticket.pdf": b"%PDF-1.7 ticket" * 60, "invitation.eml": RAW}
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    store_it, reserve_it = requests_of("attachments.md")
    (send_it,) = requests_of("finished-messages.md")
    own = sha256(files["terms.pdf"]).hexdigest()
    assert curl(api, store_it, tmp_path)["id"] == own
    assert curl(api, reserve_it, tmp_path, ID=own)["new"]
    assert curl(api, send_it, tmp_path)["new"]
    mail, message = sorted(rows(api), key=lambda row: row.message is not None)
    assert mail.attachments == [{"file": own}, {"content": b64(files["ticket.pdf"]), "filename": "ticket.pdf"}]
    assert (message.recipients, message.idempotency_key) == (RECIPIENTS, "invitation-17")


def requests_of(page: str) -> list[str]:
    text = (HOW_TO / page).read_text(encoding="utf-8")
    return [block for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL) if block.startswith("curl ")]


def curl(api: Api, command: str, folder: Path, **variables: str) -> Any:
    told = {"PATH": os.environ["PATH"], "URL": f"http://localhost:{api.port}", "TOKEN": OPERATE, **variables}
    done = subprocess.run(["sh", "-c", command], cwd=folder, env=told, capture_output=True, check=True, timeout=30)
    return json.loads(done.stdout)
