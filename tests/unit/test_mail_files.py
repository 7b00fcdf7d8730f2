"""What people see of the files of a mail, and what they may save of them."""

from __future__ import annotations

from base64 import b64encode
from contextlib import contextmanager
from hashlib import sha256
from uuid import UUID

import pytest
from support.fake_files import FakeFiles, store
from support.fake_tables import FakeTables

from mailbatch.application.looking.mail_files import MailFiles
from mailbatch.application.sending.envelope_sender import returns_to
from mailbatch.domain.attachment_list import InTemplates, Reference
from mailbatch.domain.content import ContentInMemory
from mailbatch.domain.errors import CannotCompose, NotFound
from mailbatch.domain.file_rules import FileRules
from mailbatch.domain.return_path import ReturnPath
from mailbatch.infrastructure.mime.addresses import read_addresses
from mailbatch.interfaces.downloads import disposition

OWN = UUID("01890a5d-ac96-774b-bcce-b302099a8057")


class Disk:
    """The port ``Folder`` in memory."""

    def __init__(self, **files: bytes) -> None:
        self.files = files

    @contextmanager
    def open(self, path):
        if path not in self.files:
            raise CannotCompose([f"attachments: {path}: is not there"])
        yield ContentInMemory(self.files[path])


@pytest.fixture
def tables():
    return FakeTables()


@pytest.fixture
def show(tables):
    return MailFiles(
        files=FakeFiles(tables),
        folder=Disk(invoice=b"%PDF"),
        templates=Disk(logo=b"PNG!"),
        rules=FileRules(max_inline_bytes=100, refused=["*.exe"]),
        max_bytes=1_000,
    )


def inline(filename: str, content: bytes = b"hello", **more: str) -> dict[str, str]:
    return {"filename": filename, "content": b64encode(content).decode(), **more}


def test_each_file_has_a_name_a_type_a_size_and_a_place(show, tables):
    terms = store(tables, b"the terms", "terms.pdf", None)
    column = [{"path": "invoice", "filename": "Invoice 17.pdf"}, {"file": terms}, inline("code.png", content_id="code")]
    image = Reference(source=InTemplates("logo"), content_id="logo.png")
    files, faults = show(column, [image])
    told = [(one.source, one.named, one.filename, one.content_type, one.content_id, one.size) for one in files]
    assert told == [
        ("path", "invoice", "Invoice 17.pdf", "application/pdf", None, 4),
        ("file", terms, "terms.pdf", "application/pdf", None, 9),
        ("content", None, "code.png", "image/png", "code", 5),
        ("template", "logo", "logo", "application/octet-stream", "logo.png", 4),
    ]
    assert faults == []
    assert not any(one.problems for one in files)
    assert show.files.reads == {}, "no content of a stored file is asked for"


@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        ({"path": "absent.pdf"}, "attachments: absent.pdf: is not there"),
        ({"path": "../etc/passwd"}, "attachments: ../etc/passwd: has .. in its path, which may not lead upwards"),
        ({"file": "0" * 64}, f"attachments: {'0' * 64}: there is no stored file with the id {'0' * 64}"),
        (inline("a.exe"), "attachments: a.exe: may not be attached; MAILBATCH_REFUSED_FILES has *.exe"),
        (inline("a", b"x" * 101), "attachments: a: has 101 bytes; MAILBATCH_MAX_INLINE_BYTES allows 100 for content"),
        ({"content": "%", "filename": "a"}, "attachments: a: content is no base64"),
    ],
)
def test_a_file_with_which_the_mail_cannot_be_sent_says_so(show, entry, problem):
    [file], _ = show([entry])
    [told] = file.problems
    assert told.startswith(problem)


def test_a_stored_file_without_any_name_says_so(show, tables):
    [file], _ = show([{"file": store(tables, b"x", None, None)}])
    assert "the stored file has no name; give filename" in file.problems[0]


def test_only_the_file_with_which_the_message_is_too_large_says_so(show, tables):
    large = store(tables, b"x" * 800, "large.bin", None)
    files, _ = show([inline("a.txt"), {"file": large}, {"file": large, "filename": "again.bin"}])
    assert [len(one.problems) for one in files] == [0, 1, 0]
    assert "with it the message is larger than MAILBATCH_MAX_MESSAGE_BYTES (1000)" in files[1].problems[0]


def test_what_is_no_file_is_a_line_and_no_number(show):
    files, faults = show([{"paht": "invoice"}, {"path": "invoice"}])
    assert [one.named for one in files] == ["invoice"]
    assert "the key 'paht' is not known" in faults[0]
    assert b"".join(show.open([{"paht": "invoice"}, {"path": "invoice"}], 1).content.pieces()) == b"%PDF"


@pytest.mark.parametrize("column", [None, [], "junk", {"a": 1}, [1]])
def test_whatever_the_column_holds_is_shown(show, column):
    files, faults = show(column)
    assert files == []
    assert bool(faults) == bool(column)


def test_each_file_is_opened_by_its_number(show, tables):
    terms = store(tables, b"the terms", "terms.pdf", None)
    column = [{"path": "invoice"}, {"file": terms}, inline("a.exe")]
    read = [b"".join(show.open(column, number).content.pieces()) for number in (1, 2, 3)]
    assert read == [b"%PDF", b"the terms", b"hello"]
    assert sha256(read[1]).hexdigest() == terms


@pytest.mark.parametrize(
    ("entry", "number", "why"),
    [
        ({"path": "invoice"}, 2, "the mail has no file number 2"),
        ({"path": "invoice"}, 0, "the mail has no file number 0"),
        ({"path": "absent"}, 1, "is not there"),
        ({"path": "../x"}, 1, "may not lead upwards"),
        ({"file": "0" * 64}, 1, "no stored file"),
        ({"content": "%", "filename": "a"}, 1, "no base64"),
    ],
)
def test_a_file_that_is_not_there_is_not_opened(show, entry, number, why):
    with pytest.raises(NotFound, match=why):
        show.open([entry], number)


@pytest.mark.parametrize(
    ("filename", "expected"),
    [
        ("invoice.pdf", 'attachment; filename="invoice.pdf"'),
        ("Grüße.pdf", "attachment; filename=\"Gr__e.pdf\"; filename*=UTF-8''Gr%C3%BC%C3%9Fe.pdf"),
        ("../../etc/passwd", 'attachment; filename="passwd"'),
        ('a"; filename="b.exe', 'attachment; filename="a_; filename=_b.exe"'),
        ("a\r\nSet-Cookie: x", 'attachment; filename="a__Set-Cookie_ x"'),
        ("a\u202efdp.exe", 'attachment; filename="a_fdp.exe"'),
        ("", 'attachment; filename="file"'),
        (".. ", 'attachment; filename="file"'),
        ("x" * 300 + ".pdf", f'attachment; filename="{"x" * 180}.pdf"'),
        ("a\ud800", 'attachment; filename="a_"'),
    ],
)
def test_a_saved_file_has_a_name_that_is_safe(filename, expected):
    assert disposition(filename) == expected


@pytest.mark.parametrize(
    ("given", "path", "expected"),
    [
        (None, None, None),
        ("", "", None),
        ("b@example.com", "r+{id}@example.com", "b@example.com"),
        ("<>", None, ""),
        (None, "r+{id}@example.com", f"r+{OWN}@example.com"),
    ],
)
def test_a_mail_is_returned_to_what_it_names_and_else_to_what_the_settings_name(given, path, expected):
    assert returns_to(given, OWN, ReturnPath(path) if path else None, read_addresses) == expected
