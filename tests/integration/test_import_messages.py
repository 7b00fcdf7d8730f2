"""``mailbatch import`` of files that rows name, and of finished messages: a folder, a Maildir, an mbox."""

from __future__ import annotations

import gc
import io
import json
import mailbox
from email.message import EmailMessage
from hashlib import sha256
from typing import TYPE_CHECKING

import psutil
import pytest
import sqlalchemy as sa
from support.backlogs import database
from support.long import LONG

from mailbatch.application.acting.importing import Imported
from mailbatch.application.acting.mbox_records import Mbox
from mailbatch.bootstrap import Parts
from mailbatch.config import Settings
from mailbatch.infrastructure.db.tables import mail_files, mail_reservations
from mailbatch.interfaces.cli.main import run

if TYPE_CHECKING:
    from collections.abc import Callable

FROM = b"From ann@example.org Sat Nov 28 12:00:00 2026\n"
r = mail_reservations.c


def eml(n: int, more: bytes = b"") -> bytes:
    head = (
        b"From: shop@example.org\r\nTo: Ada <a%d@example.org>\r\nBcc: b@example.org\r\nMessage-ID: <%d@example.org>\r\n"
    )
    return head % (n, n) + b"Subject: n\r\n" + more + b"\r\nHello.\r\n"


@pytest.fixture
def imported(sqlite_url, monkeypatch, capsys) -> Callable[..., tuple[int, str, list[str]]]:
    """Run the command; return its exit code, its last line, and its lines on stderr."""
    monkeypatch.setenv("MAILBATCH_DATABASE_URL", sqlite_url)
    monkeypatch.setenv("MAILBATCH_SENDER", "sender@example.com")
    monkeypatch.setenv("MAILBATCH_REFUSED_FILES", "*.exe")

    def imported(*args: object) -> tuple[int, str, list[str]]:
        code = run(["import", *map(str, args)])
        said = capsys.readouterr()
        return code, said.out.strip(), said.err.splitlines()

    return imported


def stored(url: str, *columns: sa.Column) -> list[tuple[object, ...]]:
    with database(url) as connection:
        return [tuple(row) for row in connection.execute(sa.select(*columns).order_by(columns[0]))]


# --- files that rows name --------------------------------------------------------------------------------------------


def test_paths_begin_at_the_imported_file_and_each_file_is_stored_once(imported, sqlite_url, tmp_path):
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "terms.pdf").write_bytes(b"%PDF")
    (tmp_path / "a;b.txt").write_bytes(b"text")
    table = "recipients,subject,body_text,attachments\n"
    rows = [
        "a@x.org,Hi,Text,files/terms.pdf",
        'b@x.org,Hi,Text,"[""a;b.txt"", {""path"": ""files/terms.pdf"", ""filename"": ""AGB.pdf""}]"',
        "c@x.org,Hi,Text,files/terms.pdf; files/./terms.pdf ;",
        "d@x.org,Hi,Text,",
    ]
    (tmp_path / "mails.csv").write_text(table + "\n".join(rows) + "\n")
    assert imported(tmp_path / "mails.csv") == (0, "4 imported", [])
    pdf, text = sha256(b"%PDF").hexdigest(), sha256(b"text").hexdigest()
    terms = {"file": pdf, "filename": "terms.pdf"}
    assert stored(sqlite_url, r.recipients, r.attachments) == [
        ("a@x.org", [terms]),
        ("b@x.org", [{"file": text, "filename": "a;b.txt"}, {"file": pdf, "filename": "AGB.pdf"}]),
        ("c@x.org", [terms, terms]),
        ("d@x.org", None),
    ]
    assert {row[0] for row in stored(sqlite_url, mail_files.c.id)} == {pdf, text}


def test_a_row_whose_file_cannot_be_attached_is_named_and_the_others_are_kept(imported, sqlite_url, tmp_path):
    (tmp_path / "a.exe").write_bytes(b"MZ")
    (tmp_path / "link.pdf").symlink_to("/etc/passwd")
    given = [["no.pdf"], ["../x.pdf"], ["/etc/passwd"], ["link.pdf"], ["a.exe"], [7], {"path": "x"}, "[1", None]
    rows = [{"recipients": "a@x.org", "subject": "s", "body_text": "t", "attachments": one} for one in given]
    (tmp_path / "mails.jsonl").write_text("\n".join(map(json.dumps, rows)))
    code, out, said = imported(tmp_path / "mails.jsonl")
    assert (code, out) == (1, "1 imported, 8 bad")
    assert [line.partition("; ")[0] for line in said] == [
        "mails.jsonl:1: attachments: no.pdf: is not there",
        "mails.jsonl:2: attachments: ../x.pdf: has .. in its path, which may not lead upwards",
        "mails.jsonl:3: attachments: /etc/passwd: is an absolute path",
        "mails.jsonl:4: attachments: link.pdf: is a link",
        "mails.jsonl:5: attachments: a.exe: may not be attached",
        "mails.jsonl:6: attachments: number 1 is int, not an object",
        'mails.jsonl:7: attachments: \'{"path": "x"}\' is not a list of files',
        "mails.jsonl:8: attachments: '[1' is no JSON array (Expecting ',' delimiter: line 1 column 3 (char 2))",
    ]
    assert stored(sqlite_url, mail_files.c.id) == []


def test_a_strict_import_with_a_bad_row_keeps_no_file(imported, sqlite_url, tmp_path):
    (tmp_path / "a.pdf").write_bytes(b"%PDF")
    (tmp_path / "m.csv").write_text("recipients,subject,body_text,attachments\na@x.org,s,t,a.pdf\nb@x.org,s,t,no.pdf\n")
    assert imported("--strict", tmp_path / "m.csv")[:2] == (1, "nothing imported: 1 bad")
    assert stored(sqlite_url, mail_files.c.id) == stored(sqlite_url, r.id) == []


# --- finished messages -----------------------------------------------------------------------------------------------


def test_each_message_of_a_folder_is_a_reservation_and_known_when_imported_again(imported, sqlite_url, tmp_path):
    for name, n in (("b.eml", 2), ("a.EML", 1), (".hidden.eml", 3), ("notes.txt", 4)):
        (tmp_path / name).write_bytes(eml(n))
    (tmp_path / "bad.eml").write_bytes(b"no header\n\nhi")
    (tmp_path / "link.eml").symlink_to(tmp_path / "b.eml")
    (tmp_path / "folder.eml").mkdir()
    options = ("--at", "2030-01-02T03:04:05Z", "--tag", "old", "--priority", 3, "--envelope-sender", "<>")
    code, out, said = imported(tmp_path, *options)
    assert (code, out) == (1, "2 imported, 3 bad")
    assert [line.removeprefix(tmp_path.name) for line in said] == [
        "/bad.eml: message: line 1 of its header is no field: 'no header'",
        "/folder.eml: message: folder.eml: is no regular file",
        "/link.eml: message: link.eml: is a link; links are not followed",
    ]
    columns = (r.idempotency_key, r.message_id, r.recipients, r.message, r.tag, r.priority, r.envelope_sender)
    assert stored(sqlite_url, *columns) == [
        (
            f"<{n}@example.org>",
            f"<{n}@example.org>",
            f'"Ada" <a{n}@example.org>, b@example.org',
            eml(n).replace(b"Bcc: b@example.org\r\n", b""),
            "old",
            3,
            "<>",
        )
        for n in (1, 2)
    ]
    assert imported(tmp_path, *options)[1] == "2 known before, 3 bad".replace("2 known", "0 imported, 2 known")
    errors = json.loads(imported(tmp_path, *options, "--json")[1])["errors"]
    assert [(one["line"], one["file"]) for one in errors] == [(1, "bad.eml"), (1, "folder.eml"), (1, "link.eml")]


def test_a_maildir_is_read_in_the_order_of_its_names(imported, sqlite_url, tmp_path):
    box = mailbox.Maildir(tmp_path / "box")
    for n in range(3):
        box.add(eml(n))
    first = min(path.name for path in (tmp_path / "box" / "new").iterdir())
    (tmp_path / "box" / "new" / first).rename(tmp_path / "box" / "cur" / f"{first}:2,S")
    assert imported(tmp_path / "box") == (0, "3 imported", [])
    assert len(stored(sqlite_url, r.message_id)) == 3


def test_an_mbox_is_imported_and_goes_on_where_it_was_broken_off(imported, sqlite_url, tmp_path):
    messages = [
        eml(1),
        eml(2).replace(b"Message-ID", b"X"),
        eml(3).replace(b"Hello", b">From here"),
        eml(1, b"X: y\r\n"),
    ]
    data = b"".join(FROM + one.replace(b"\r\n", b"\n") + b"\n" for one in messages)
    (tmp_path / "old.mbox").write_bytes(data[: data.rindex(FROM)])
    (tmp_path / "all.mbox").write_bytes(data + FROM + b"To: nobody\n\nlast")
    assert imported(tmp_path / "old.mbox")[:2] == (0, "3 imported")
    code, out, said = imported(tmp_path / "all.mbox")
    assert (code, out) == (1, "0 imported, 3 known before, 2 bad")
    assert said[0].startswith("all.mbox:28: idempotency_key: '<1@example.org>' was used before")
    assert said[1].startswith('all.mbox:38: message: To: "nobody" is no address')
    keys = {str(key).partition(":")[0] for (key,) in stored(sqlite_url, r.idempotency_key)}
    assert keys == {"<1@example.org>", "<3@example.org>", "sha256"}
    assert any(b"\n\nFrom here.\n" in bytes(message) for (message,) in stored(sqlite_url, r.message))


@pytest.mark.parametrize(
    ("name", "options", "code", "expected"),
    [
        (
            "a.csv",
            ("--tag", "x", "--at", "2030-01-01T00:00:00Z"),
            2,
            "--at, --tag: only for finished messages; a table says this in its columns",
        ),
        ("a.mbox", ("--context-column", "x"), 2, "--context-column: finished messages have no columns"),
        (".", ("--mbox-format", "mboxo"), 2, "--mbox-format: a folder has no mbox"),
        (".", (), 1, "has no message; messages are files that end with .eml"),
        ("a.mbox", (), 1, "a.mbox: is no mbox: its first line does not begin with 'From '"),
        (
            "a.eml",
            (),
            2,
            "a.eml: .eml is not known; name it .csv or .jsonl, or .mbox if it has messages; mailbatch reserve",
        ),
    ],
)
def test_what_does_not_go_together_is_refused_in_one_line(imported, tmp_path, name, options, code, expected):
    for file in ("a.csv", "a.mbox", "box.txt"):
        (tmp_path / file).write_bytes(b"x")
    if name == "a.eml":
        (tmp_path / name).write_bytes(eml(1))
    found, _, said = imported(tmp_path / name, *options)
    assert (found, expected in said[-1]) == (code, True), said


class Box(io.RawIOBase):
    """An mbox of many messages that is never whole anywhere."""

    def __init__(self, count: int) -> None:
        self._numbers = iter(range(count))
        self._rest = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:
        while len(self._rest) < len(buffer) and (n := next(self._numbers, None)) is not None:
            self._rest += FROM + eml(n).replace(b"\r\n", b"\n") + (b"y" * 76 + b"\n") * 130 + b"\n"
        given, self._rest = self._rest[: len(buffer)], self._rest[len(buffer) :]
        buffer[: len(given)] = given
        return len(given)


@pytest.mark.parametrize("count", [2_000, pytest.param(10_000, marks=LONG)])
def test_many_messages_need_no_more_memory_than_a_few(sqlite_url, tmp_path, count):
    parts = Parts(Settings(database_url=sqlite_url))
    process, sizes = psutil.Process(), list[int]()

    def on_progress(done: Imported) -> None:
        if done.new % 1_000 == 0:
            gc.collect()
            sizes.append(process.memory_info().rss)

    records = parts.reserving.message_records().of_mbox(io.BufferedReader(Box(count)), Mbox.QUOTED)
    reserve = parts.reserving.import_mails(tmp_path)
    done = reserve(records, strict=False, on_bad=lambda _: None, on_progress=on_progress)
    parts.close()
    assert done == Imported(new=count)
    assert sizes[-1] - sizes[0] < 8 * 2**20


def test_a_message_of_the_email_package_is_the_same_by_each_way(imported, sqlite_url, tmp_path):
    message = EmailMessage()
    message["To"], message["Message-ID"] = "a@example.org", "<own@example.org>"
    message.set_content("From here\n")
    data = message.as_bytes(policy=message.policy.clone(mangle_from_=False))
    (tmp_path / "a.eml").write_bytes(data)
    box = mailbox.mbox(tmp_path / "a.mbox")
    box.add(message)
    box.close()
    assert imported(tmp_path)[1] == "1 imported"
    assert imported(tmp_path / "a.mbox")[:2] == (0, "0 imported, 1 known before")
    assert stored(sqlite_url, r.message) == [(data,)]
