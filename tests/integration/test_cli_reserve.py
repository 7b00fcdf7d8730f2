"""``mailbatch reserve`` with files and with finished messages."""

from __future__ import annotations

from hashlib import sha256

import pytest
import sqlalchemy as sa
from support.backlogs import database

from mailbatch.infrastructure.db.tables import mail_files, mail_reservations
from mailbatch.interfaces.cli.main import run

LETTER = ("--to", "ada@example.com", "--subject", "Hello", "--text", "Hello.")
EML = b"From: shop@example.com\r\nTo: Ada <ada@example.com>\r\nBcc: bob@example.com\r\nSubject: Hi\r\n\r\nHello.\r\n"


@pytest.fixture
def reserve(sqlite_url, monkeypatch, capsys, tmp_path):
    """Run the command; return its exit code and its last line on stderr."""
    monkeypatch.setenv("MAILBATCH_DATABASE_URL", sqlite_url)
    monkeypatch.setenv("MAILBATCH_SENDER", "sender@example.com")
    monkeypatch.chdir(tmp_path)

    def reserve(*args):
        code = run(["reserve", *args])
        said = capsys.readouterr().err.strip().splitlines()
        return code, said[-1] if said else ""

    return reserve


def stored(url, *columns):
    with database(url) as connection:
        return connection.execute(sa.select(*columns)).all()


def test_a_file_is_attached_and_an_image_is_what_the_html_shows(reserve, sqlite_url, tmp_path):
    (tmp_path / "invoice 7.pdf").write_bytes(b"%PDF")
    (tmp_path / "logo.png").write_bytes(b"PNG")
    assert reserve(*LETTER, "--attach", "invoice 7.pdf", "--inline", "logo.png") == (0, "")
    [(entries,)] = stored(sqlite_url, mail_reservations.c.attachments)
    assert [(e["filename"], e.get("content_id")) for e in entries] == [
        ("invoice 7.pdf", None),
        ("logo.png", "logo.png"),
    ]
    files = stored(sqlite_url, mail_files.c.id, mail_files.c.content)
    assert dict(map(tuple, files)) == {sha256(content).hexdigest(): content for content in (b"%PDF", b"PNG")}


def test_a_refused_mail_leaves_no_file_behind(reserve, sqlite_url, tmp_path):
    (tmp_path / "a.pdf").write_bytes(b"%PDF")
    code, _ = reserve("--to", "nobody", "--subject", "s", "--text", "t", "--attach", "a.pdf")
    assert code == 1
    assert stored(sqlite_url, mail_files.c.id) == []


def test_an_image_whose_name_cannot_stand_in_html_is_named(reserve, tmp_path):
    (tmp_path / "my logo.png").write_bytes(b"PNG")
    code, said = reserve(*LETTER, "--inline", "my logo.png")
    assert (code, "--inline: my logo.png" in said, said.endswith("rename the file")) == (1, True, True)


def test_a_file_whose_name_has_a_line_break_is_refused(reserve, sqlite_url, tmp_path):
    (tmp_path / "a\nb.pdf").write_bytes(b"%PDF")
    code, said = reserve(*LETTER, "--attach", "a\nb.pdf")
    assert (code, "--attach: a\\nb.pdf: has a line break" in said) == (1, True)
    assert stored(sqlite_url, mail_files.c.id) == []


def test_an_empty_message_is_called_empty(reserve, tmp_path):
    (tmp_path / "mail.eml").write_bytes(b"")
    code, said = reserve("--message", "mail.eml")
    assert (code, "--message: is empty" in said) == (1, True)


def test_a_file_that_is_not_there_is_named(reserve):
    code, said = reserve(*LETTER, "--attach", "nothing.pdf")
    assert (code, "nothing.pdf" in said) == (2, True)


def test_a_finished_message_goes_to_those_in_its_header_and_hides_bcc(reserve, sqlite_url, tmp_path):
    (tmp_path / "mail.eml").write_bytes(EML)
    assert reserve("--message", "mail.eml", "--envelope-sender", "<>") == (0, "")
    r = mail_reservations.c
    [(recipients, message, sender, subject)] = stored(sqlite_url, r.recipients, r.message, r.envelope_sender, r.subject)
    assert recipients == '"Ada" <ada@example.com>, bob@example.com'
    assert message == EML.replace(b"Bcc: bob@example.com\r\n", b"")
    assert (sender, subject) == ("<>", None)


def test_the_recipients_of_a_finished_message_can_be_given(reserve, sqlite_url, tmp_path):
    (tmp_path / "mail.eml").write_bytes(EML)
    assert reserve("--message", "mail.eml", "--to", "eve@example.com") == (0, "")
    assert stored(sqlite_url, mail_reservations.c.recipients) == [("eve@example.com",)]


def test_options_of_a_mail_are_refused_beside_a_finished_message(reserve, tmp_path):
    (tmp_path / "mail.eml").write_bytes(EML)
    code, said = reserve("--message", "mail.eml", "--subject", "x", "--reply-to", "a@example.com")
    assert (code, "leave out --subject, --reply-to" in said) == (2, True)


def test_a_message_without_recipients_says_what_to_give(reserve, tmp_path):
    (tmp_path / "mail.eml").write_bytes(b"From: shop@example.com\r\n\r\nHello.\r\n")
    code, said = reserve("--message", "mail.eml")
    assert (code, "--to" in said) == (1, True)


def test_show_says_that_a_message_is_finished_and_preview_reads_it(reserve, sqlite_url, tmp_path, capsys):
    (tmp_path / "mail.eml").write_bytes(EML)
    reserve("--message", "mail.eml")
    [(own,)] = stored(sqlite_url, mail_reservations.c.id)
    assert run(["show", str(own)]) == 0
    assert f"a finished message of {len(EML) - len(b'Bcc: bob@example.com..')} bytes" in capsys.readouterr().out
    assert run(["preview", str(own)]) == 0
    assert "subject: " in capsys.readouterr().out
