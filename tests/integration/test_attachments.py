"""Mails with files, from a plain INSERT to the relay, on both databases."""

from __future__ import annotations

import base64
import resource
from contextlib import contextmanager
from email.parser import BytesParser
from email.policy import default
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa
from support.backlogs import database, reserve, states
from support.sink import Sink

from mailbatch.application.looking.explanation import Reason
from mailbatch.batch.send_all import send_all
from mailbatch.bootstrap import Parts, read_settings
from mailbatch.domain.run import RunOutcome
from mailbatch.infrastructure.db.tables import mail_files, mail_reservations
from mailbatch.infrastructure.files import folder

if TYPE_CHECKING:
    from collections.abc import Iterator
    from email.message import EmailMessage

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "attachments.md"
INVOICE = b"%PDF-1.7 \r\n.\r\n" * 80_000


@pytest.fixture
def sink(tmp_path) -> Iterator[Sink]:
    (tmp_path / "sink").mkdir()
    with Sink(tmp_path / "sink", store=True) as sink:
        yield sink


@pytest.fixture
def parts(database_url, sink, tmp_path, monkeypatch) -> Iterator[Parts]:
    (tmp_path / "files" / "2026").mkdir(parents=True)
    (tmp_path / "files" / "2026" / "invoice-17.pdf").write_bytes(INVOICE)
    order = tmp_path / "templates" / "order"
    order.mkdir(parents=True)
    (order / "subject.txt").write_text("Order {{ n }}")
    (order / "body.html").write_text('<p><img src="logo.png"><img src="absent.png">{{ n }}</p>')
    (order / "logo.png").write_bytes(b"PNG")
    settings = {
        "DATABASE_URL": database_url,
        "SMTP_URL": sink.url,
        "SENDER": "s@example.com",
        "ATTACHMENT_DIR": tmp_path / "files",
        "TEMPLATE_DIR": tmp_path / "templates",
        "REFUSED_FILES": "*.exe",
    }
    for name, value in settings.items():
        monkeypatch.setenv(f"MAILBATCH_{name}", str(value))
    made = Parts(read_settings())
    yield made
    made.close()


def sent(parts: Parts, sink: Sink) -> list[EmailMessage]:
    send_all(parts, lock=False)()
    return [BytesParser(policy=default).parsebytes(sink.raw(one)) for one in sink.accepted()]


def files_of(message: EmailMessage) -> list[tuple[str | None, str, bytes]]:
    parts = [part for part in message.walk() if part.get_filename()]
    return [(part.get_filename(), part.get_content_type(), part.get_payload(decode=True)) for part in parts]


def errors(url: str) -> list[str]:
    with database(url) as connection:
        return list(connection.scalars(sa.select(mail_reservations.c.last_error)))


def attempts(url: str) -> list[int]:
    with database(url) as connection:
        return sorted(connection.scalars(sa.select(mail_reservations.c.attempts)))


def due_again(url: str) -> None:
    with database(url) as connection:
        connection.execute(sa.update(mail_reservations).values(retry_at=None).where(mail_reservations.c.attempts == 0))


@contextmanager
def files_up_to(size: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_the_inserts_of_the_page_arrive_with_their_files(parts, sink, database_url):
    page = PAGE.read_text(encoding="utf-8")
    under = "psql" if database_url.startswith("postgresql") else "sqlite3"
    statements = page.partition(f"\n## {under}\n")[2].partition("```sql\n")[2].partition("```")[0]
    with database(database_url) as connection:
        for statement in filter(str.strip, statements.split(";\n")):
            connection.exec_driver_sql(statement.replace("%", "%%"))
    messages = sent(parts, sink)
    found = {str(message["Subject"]): message for message in messages}
    assert files_of(found["Your invoice"]) == [("Rechnung 17.pdf", "application/pdf", INVOICE)]
    if under == "psql":
        assert files_of(found["Your ticket"]) == [("code.png", "image/png", b"not really a picture")]
        assert found["Your ticket"].get_content_type() == "multipart/related"


def test_a_file_of_many_mails_is_read_once_and_arrives_whole_with_each(parts, sink, database_url, monkeypatch):
    reads: list[int] = []
    pread = folder.os.pread
    monkeypatch.setattr(folder.os, "pread", lambda *given: reads.append(given[2]) or pread(*given))
    stored = b"terms \x00\xff" * 100_000
    own = sha256(stored).hexdigest()
    with database(database_url) as connection:
        connection.execute(sa.insert(mail_files).values(id=own, content=stored, filename="terms.bin"))
    reserve(database_url, 40, attachments=[{"path": "2026/invoice-17.pdf"}, {"file": own}])
    messages = sent(parts, sink)
    assert len(messages) == 40
    expected = [
        ("invoice-17.pdf", "application/pdf", INVOICE),
        ("terms.bin", "application/octet-stream", stored),
    ]
    assert all(files_of(message) == expected for message in messages)
    from_the_folder = [at for at in reads if at == len(INVOICE)]
    assert len(from_the_folder) == 1, "the end of the file was read once"


def test_what_cannot_be_sent_is_its_own_mails_error(parts, sink, database_url, tmp_path):
    (tmp_path / "secret.txt").write_bytes(b"not yours")
    (tmp_path / "files" / "out.txt").symlink_to(tmp_path / "secret.txt")
    bad = [
        [{"path": "../secret.txt"}],
        [{"path": "out.txt"}],
        [{"path": "absent.pdf"}],
        [{"file": "0" * 64}],
        [{"content": "!", "filename": "a.txt"}],
        [{"content": base64.b64encode(bytes(1_048_577)).decode(), "filename": "bomb.txt"}],
        [{"path": "2026/invoice-17.pdf", "filename": "Setup.EXE"}],
        [{"path": "2026/invoice-17.pdf"}] * 101,
        ["invoice-17.pdf"],
        [7],
    ]
    for attachments in bad:
        reserve(database_url, 1, attachments=attachments)
    reserve(database_url, 3)
    assert len(sent(parts, sink)) == 3
    assert states(database_url) == {"failed": len(bad), "sent": 3}
    told = [error for error in errors(database_url) if error]
    assert len(told) == len(bad)
    assert all("attachments: " in error and "\n" not in error and "not yours" not in error for error in told)


@pytest.mark.parametrize("how", ["gone", "not mounted"])
@pytest.mark.parametrize("what", ["files", "templates"])
def test_a_folder_that_is_away_lets_its_mails_wait_and_all_others_go(parts, sink, database_url, tmp_path, what, how):
    needs = {"files": {"attachments": [{"path": "2026/invoice-17.pdf"}]}, "templates": {"template": "order"}}[what]
    reserve(database_url, 5, **needs, context={"n": 17})
    reserve(database_url, 3)
    (tmp_path / what).rename(tmp_path / "elsewhere")
    if how == "not mounted":
        (tmp_path / what).mkdir()
    report = send_all(parts, lock=False)()
    assert (states(database_url), attempts(database_url)) == ({"pending": 5, "sent": 3}, [0] * 5 + [1] * 3)
    why = "cannot be opened: No such file or directory" if how == "gone" else "is empty; is its file system mounted?"
    kind = {"files": "attachments", "templates": "templates"}[what]
    fault = f"{kind}: the folder {tmp_path / what} {why}"
    assert [error for error in errors(database_url) if error] == [fault] * 5
    assert (report.outcome, list(report.errors)) == (RunOutcome.FAILED, [f"mails wait: {fault}"])
    [found] = [one for one in parts.operating.watch("send-all")("send-all") if one.name == "mails_wait"]
    assert found.what == f"mails wait: {fault}"
    if how == "not mounted":
        (tmp_path / what).rmdir()
    (tmp_path / "elsewhere").rename(tmp_path / what)
    due_again(database_url)
    assert send_all(parts, lock=False)().outcome is RunOutcome.COMPLETED
    assert states(database_url) == {"sent": 8}


def test_a_spool_without_room_lets_the_mails_wait_that_need_it(parts, sink, database_url, tmp_path):
    """RLIMIT_FSIZE stands for the full disk; the database has its own process or small files."""
    reserve(database_url, 3, attachments=[{"path": "2026/invoice-17.pdf"}])
    reserve(database_url, 3)
    with files_up_to(500_000):
        report = send_all(parts, lock=False)()
    assert states(database_url) == {"pending": 3, "sent": 3}
    assert report.outcome is RunOutcome.FAILED
    assert "temporary file in" in report.errors[0]
    assert "File too large; make room there, or set MAILBATCH_SPOOL_DIR" in report.errors[0]
    due_again(database_url)
    assert len(sent(parts, sink)) == 6
    assert attempts(database_url) == [1] * 6


def test_a_mail_that_waits_for_a_folder_is_explained(parts, database_url, tmp_path):
    reserve(database_url, 1, attachments=[{"path": "2026/invoice-17.pdf"}])
    (tmp_path / "files").rename(tmp_path / "elsewhere")
    send_all(parts, lock=False)()
    with database(database_url) as connection:
        [own] = connection.scalars(sa.select(mail_reservations.c.id))
    explained = parts.operating.explain(own)
    assert explained.reason is Reason.WAITS_FOR_RETRY
    assert "It was put back and waits for its next try" in explained.sentence
    assert f"the folder {tmp_path / 'files'} cannot be opened" in explained.sentence
    assert "would_fail" not in explained.facts


def test_an_image_of_the_templates_folder_is_shown_by_its_html(parts, sink, database_url):
    with database(database_url) as connection:
        row = {"recipients": "ann@example.org", "template": "order", "context": {"n": 17}}
        connection.execute(sa.insert(mail_reservations).values(row))
    [message] = sent(parts, sink)
    assert message.get_content_type() == "multipart/related"
    html, image = message.iter_parts()
    assert f'src="cid:{image["Content-ID"][1:-1]}"' in html.get_content()
    assert 'src="absent.png"' in html.get_content()
    assert (image.get_filename(), image.get_payload(decode=True)) == ("logo.png", b"PNG")
