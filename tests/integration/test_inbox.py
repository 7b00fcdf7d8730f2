"""The local inbox: a mail server that keeps everything, and pages that can be opened without a risk."""

from __future__ import annotations

import smtplib
import socket
import subprocess
import sys
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from signal import SIGKILL
from typing import TYPE_CHECKING

import pytest
from support.waiting import wait_until

from mailbatch.infrastructure.redis.parent_death import ending_with_parent
from mailbatch.interfaces.cli.inbox import file_name, read_journal
from mailbatch.interfaces.cli.inbox_pages import StoredMail, write_page
from mailbatch.interfaces.visible import HIDDEN

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Running:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.port = listener.getsockname()[1]
            words = [sys.executable, "-m", "mailbatch.interfaces.cli.inbox", str(listener.fileno()), str(folder)]
            self.process = subprocess.Popen(
                ending_with_parent(words, at_parents_end=SIGKILL), pass_fds=(listener.fileno(),)
            )

    def client(self) -> smtplib.SMTP:
        return smtplib.SMTP("127.0.0.1", self.port, timeout=20)

    def send(self, content: bytes, *to: str) -> None:
        with self.client() as client:
            client.sendmail("sender@example.com", list(to), content)

    def end(self) -> int:
        self.process.terminate()
        return self.process.wait(20)

    def index(self) -> str:
        return (self.folder / "index.html").read_text(encoding="utf-8")

    def page(self, n: int = 1) -> str:
        return next((self.folder / "pages").glob(f"{n:04}-*.html")).read_text(encoding="utf-8")


@pytest.fixture
def inbox(tmp_path: Path) -> Iterator[Running]:
    running = Running(tmp_path)
    yield running
    running.process.kill()
    running.process.wait()


def mail(subject: str, *, text: str = "text", html: str | None = None) -> bytes:
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = "sender@example.com", "to@example.com", subject
    message["Message-ID"] = f"<{len(subject)}@example.com>"
    message.set_content(text)
    if html is not None:
        message.add_alternative(html, subtype="html")
    return message.as_bytes()


def test_a_mail_is_in_the_journal_and_in_a_file_before_it_is_answered(inbox):
    content = mail("one").replace(b"\n", b"\r\n")
    inbox.send(content, "one@example.com", "two@example.com")
    (kept,) = read_journal(inbox.folder)
    assert (kept.sender, kept.recipients) == ("sender@example.com", ("one@example.com", "two@example.com"))
    assert kept.message_id == "<3@example.com>"
    assert (inbox.folder / kept.file).read_bytes() == content
    assert kept.size == len(content)


def test_refused_recipients_stay_refused_and_deferred_ones_are_taken_later(inbox):
    with inbox.client() as client:
        client.ehlo()
        for _ in range(2):
            client.mail("sender@example.com")
            assert client.rcpt("refused.1@example.com")[0] == 550
            assert client.rcpt("Refused.2@example.com")[1].startswith(b"5.1.1 ")
            client.rset()
        client.mail("sender@example.com")
        assert client.rcpt("deferred.1@example.com") == (
            451,
            b"4.7.1 <deferred.1@example.com> not now, come back later",
        )
        assert client.rcpt("deferred.1@example.com")[0] == 250
        assert client.rcpt("deferred.2@example.com")[0] == 451, "each is put off once"


def test_it_offers_what_the_examples_need_and_takes_their_addresses(inbox):
    with inbox.client() as client:
        client.ehlo()
        for extension in ("smtputf8", "8bitmime", "size"):
            assert client.has_extn(extension), extension
        client.sendmail("sender@example.com", ["用户@例子.example"], mail("一"), ["SMTPUTF8", "BODY=8BITMIME"])
    (kept,) = read_journal(inbox.folder)
    assert kept.recipients == ("用户@例子.example",)
    assert kept.file == "0001-用户@例子.example.eml"


def test_every_mail_has_a_page_when_it_ends_and_the_last_is_listed_first(inbox):
    inbox.send(mail("first"), "one@example.com")
    inbox.send(mail("ἡ δευτέρα"), "two@example.com")
    assert inbox.end() == 0
    index = inbox.index()
    assert index.index("ἡ δευτέρα") < index.index(">first<")
    assert "2 mails" in index
    assert "ἡ δευτέρα" in inbox.page(2)


def test_pages_are_made_while_it_runs_once_nothing_comes(inbox):
    inbox.send(mail("first"), "one@example.com")
    wait_until((inbox.folder / "index.html").exists, 10, "the index is made")
    inbox.send(mail("second"), "one@example.com")
    wait_until(lambda: "second" in inbox.index(), 10, "the index is made anew")


def test_nothing_that_a_mail_holds_becomes_a_part_of_the_page(inbox):
    evil = '"><script>alert(1)</script>'
    inbox.send(mail(evil, text=f"</pre>{evil}", html=f"<p>{evil}</p>"), "one@example.com")
    inbox.end()
    for page in (inbox.index(), inbox.page()):
        assert "<script" not in page
        assert "&lt;script&gt;" in page
    assert "<iframe sandbox srcdoc=" in inbox.page()


def test_a_page_connects_to_nobody_and_holds_nothing_that_reorders_it(inbox):
    hint = '<link rel="preconnect" href="https://tracker.example"><p>Hi</p>'
    inbox.send(mail("a\u202eb", text="c\u2066d\x07", html=hint), "one@example.com")
    inbox.end()
    for page in (inbox.index(), inbox.page()):
        assert not HIDDEN.search(page)
        assert r"a\u202eb" in page
    assert "Hi&lt;/p&gt;" in inbox.page()
    assert "&lt;link" not in inbox.page()
    assert "default-src 'none'" in inbox.page()


def test_the_files_of_a_mail_are_listed_and_can_be_saved_and_its_images_are_shown(tmp_path):
    message = EmailMessage()
    message["Subject"] = "files"
    message.set_content("text")
    message.add_alternative('<img src="cid:logo@x">', subtype="html")
    message.get_body(("html",)).add_related(b"PNG!", "image", "png", cid="<logo@x>")
    message.add_attachment(b"<script>", maintype="text", subtype="html", filename='Rechnung "März".html')
    message.add_attachment(b"x" * (8 * 2**20 + 1), maintype="video", subtype="mp4", filename="large.mp4")
    message.add_attachment(message_from_bytes(mail("inside"), policy=default))
    page = page_of(tmp_path, message.as_bytes())
    assert "image/png, 4 bytes" in page
    assert "src=&quot;data:image/png;base64,UE5HIQ==&quot;" in page
    link = 'download="Rechnung &quot;März&quot;.html" href="data:application/octet-stream;base64,PHNjcmlwdD4="'
    assert link in page, "saved, and never opened"
    assert "text/html, 8 bytes" in page
    assert '<li><bdi dir="auto">large.mp4</bdi> video/mp4, 8,388,609 bytes' in page, "too large for the page"
    assert "message/rfc822" in page
    assert "<h2>Files</h2>" not in page_of(tmp_path, mail("bare", html="<p>x"))


def page_of(folder: Path, content: bytes) -> str:
    (folder / "1.eml").write_bytes(content)
    write_page(folder, StoredMail(1, 0.0, "1.eml", "s@example.com", ("a@example.com",), None, len(content)))
    return (folder / "pages" / "1.html").read_text(encoding="utf-8")


def test_a_mail_that_cannot_be_shown_costs_the_others_nothing(inbox):
    inbox.send(
        b"Content-Type: text/plain; charset=none-such\r\nSubject: =?x?q?\xff?=\r\n\r\n\xff\xfe", "one@example.com"
    )
    inbox.send(b"no header at all", "two@example.com")
    inbox.send(mail("after it"), "three@example.com")
    assert inbox.end() == 0
    assert "3 mails" in inbox.index()
    assert "source" in inbox.page(1)
    assert "after it" in inbox.page(3)


def test_an_address_cannot_leave_the_folder(inbox):
    inbox.send(mail("up"), '"../../up"@example.com')
    (kept,) = read_journal(inbox.folder)
    assert (inbox.folder / kept.file).resolve().parent == inbox.folder.resolve()
    assert file_name('"../$(rm)\n"@x') == "_..___rm___@x"
