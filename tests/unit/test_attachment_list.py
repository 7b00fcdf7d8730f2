"""The column ``attachments``: what it may hold, and one line for each thing that is wrong."""

from __future__ import annotations

import base64

import pytest

from mailbatch.domain.attachment import Attachment, basename, file_problems, largest_file, size_on_wire
from mailbatch.domain.attachment_list import InFolder, Inline, InStore, Reference, read_attachments
from mailbatch.domain.content_types import content_type_of

UNKNOWN_KEY = (
    "attachments: a.pdf: the key 'name' is not known; "
    "give one of path, file and content, and filename, content_type, content_id"
)
ID = "0123456789abcdef" * 4


def read(column) -> list[Reference]:
    faults: list[str] = []
    references = read_attachments(column, faults)
    assert faults == []
    return references


def faults_of(column) -> list[str]:
    faults: list[str] = []
    read_attachments(column, faults)
    assert all(fault.isprintable() and len(fault) < 300 for fault in faults)
    return faults


def test_a_file_is_named_by_path_by_id_or_stands_in_the_mail():
    assert read(
        [
            {"path": "2026/invoice.pdf"},
            {"file": ID, "filename": "terms.pdf", "content_type": "application/pdf"},
            {"content": "aGk=", "filename": "hi.txt", "content_id": "hi@x"},
        ]
    ) == [
        Reference(source=InFolder("2026/invoice.pdf")),
        Reference(source=InStore(ID), filename="terms.pdf", content_type="application/pdf"),
        Reference(source=Inline("aGk="), filename="hi.txt", content_id="hi@x"),
    ]


def test_without_a_filename_it_is_the_last_part_of_the_path():
    assert read([{"path": "2026/invoice.pdf"}])[0].name == "invoice.pdf"
    assert read([{"file": ID}])[0].name is None


def test_null_and_an_empty_text_mean_that_nothing_is_given():
    entry = {"path": "a.pdf", "file": None, "content": None, "filename": "", "content_type": None, "content_id": ""}
    assert read([entry]) == [Reference(source=InFolder("a.pdf"))]


def test_an_empty_file_may_stand_in_the_mail():
    [reference] = read([{"content": "", "filename": "empty.txt"}])
    assert reference.source.decoded() == b""


def test_base64_may_have_line_breaks_as_databases_write_it():
    content = bytes(range(256)) * 3
    [reference] = read([{"content": base64.encodebytes(content).decode(), "filename": "a.bin"}])
    assert reference.source.decoded() == content
    assert reference.source.size == len(content)


@pytest.mark.parametrize("text", ["a", "aGk", "aG k=!", "aGk=aGk=", "_-8=", "ä", "=", "====", "aGk=\x00"])
def test_what_is_no_base64_is_an_error(text):
    with pytest.raises(ValueError, match=r"base64|ascii|padding|data|ASCII"):
        Inline(text).decoded()


@pytest.mark.parametrize(
    ("column", "line"),
    [
        ({"path": "a"}, "attachments: is dict, not a JSON array of objects"),
        ("a.pdf", "attachments: is str, not a JSON array of objects"),
        (7, "attachments: is int, not a JSON array of objects"),
        ([{"path": "a"}] * 10_000, "attachments: has 10000 files; at most 100 are sent with a mail"),
        (["a.pdf"], "attachments: number 1 is str, not an object; give one of path, file and content"),
        ([{}], "attachments: number 1: has no content; give one of path, file and content"),
        ([{"path": "a.pdf", "file": ID}], "attachments: a.pdf: has path and file; give one of path, file and content"),
        ([{"path": 7}], "attachments: number 1: path is int, not text"),
        ([{"content": "aGk="}], "attachments: number 1: content needs a filename"),
        ([{"content": [], "filename": "a"}], "attachments: a: content is list, not text"),
        ([{"file": "x/../y"}], "attachments: y: file is no id of a stored file (64 hexadecimal digits in lower case)"),
        ([{"path": "a.pdf", "name": "b"}], UNKNOWN_KEY),
        (
            [{"path": "a.png", "content_id": "x"}, {"path": "b.png", "content_id": "x"}],
            "attachments: b.png: another file has the same content_id",
        ),
    ],
)
def test_each_mistake_has_a_line_that_names_the_file(column, line):
    assert line in faults_of(column)


def test_hidden_characters_of_a_name_are_shown_as_their_numbers():
    assert faults_of([{"path": "a\u202efdp.exe\r\n", "x": 1}])[0].startswith(
        r"attachments: a\u202efdp.exe\r\n: the key"
    )


@pytest.mark.parametrize(
    ("filename", "why"),
    [
        ("a\r\nBcc: eve@example.org.pdf", "line break"),
        ("a\x00.pdf", "NUL"),
        ("a\ud800.pdf", "surrogate"),
        ("a\x07.pdf", "U+0007"),
        ("a\u202efdp.exe", "U+202E"),
        ("a\u2066b.pdf", "U+2066"),
        ("x" * 300, "255 bytes"),
        ("", "no file name"),
        ("..", "no file name"),
        (" . ", "no file name"),
    ],
)
def test_a_name_that_is_no_name_is_refused(filename, why):
    assert any(why in problem for problem in file_problems(filename, "application/pdf", None))


@pytest.mark.parametrize(
    "filename", ["Rechnung für Zoë.pdf", "山田.csv", "חשבון\u200f.pdf", "👩‍👩‍👧.png", "a b.c", ".x"]
)
def test_names_in_all_scripts_are_names(filename):
    assert not list(file_problems(filename, "application/pdf", None))


@pytest.mark.parametrize(
    ("content_type", "why"),
    [
        ("pdf", "no content type"),
        ("a/b\r\nBcc: eve@example.org", "no content type"),
        ("message/rfc822", "application/octet-stream"),
        ("multipart/mixed", "application/octet-stream"),
        ('application/pdf; name="setup.exe"', "give filename instead"),
    ],
)
def test_a_type_that_says_something_else_is_refused(content_type, why):
    assert any(why in problem for problem in file_problems("a.pdf", content_type, None))


@pytest.mark.parametrize(("length", "is_one"), [(200, True), (201, False)])
def test_a_type_has_at_most_200_characters(length, is_one):
    problems = file_problems("a.pdf", "a/" + "b" * (length - 2), None)
    assert ["no content type" in problem for problem in problems] == ([] if is_one else [True])


@pytest.mark.parametrize("content_id", ["<logo@example.org>", "two words", "", "ü"])
def test_a_content_id_that_is_none_is_refused(content_id):
    [problem] = file_problems("a.png", "image/png", content_id)
    assert "is no content id (RFC 2392 §2); write it without angle brackets" in problem


def test_a_file_by_value_tells_what_keeps_it_out_of_a_mail():
    assert list(Attachment(filename="C:\\files\\a.pdf", content=b"").problems()) == []
    [problem] = Attachment(filename="a.png", content=b"", content_id="<a>").problems()
    assert "is no content id" in problem


@pytest.mark.parametrize("path", ["a.pdf", "one/two/a.pdf", "C:\\one\\a.pdf", "one/two\\a.pdf", "/a.pdf"])
def test_the_name_of_a_file_is_what_follows_the_last_slash_of_either_kind(path):
    assert basename(path) == "a.pdf"


@pytest.mark.parametrize(
    ("filename", "content_type"),
    [
        ("A.PDF", "application/pdf"),
        ("a.b.csv", "text/csv"),
        ("a.eml", "application/octet-stream"),
        ("pdf.", "application/octet-stream"),
        ("makefile", "application/octet-stream"),
    ],
)
def test_the_type_comes_from_the_end_of_the_name(filename, content_type):
    assert content_type_of(filename) == content_type


@pytest.mark.parametrize(
    ("content_type", "ends"),
    [
        ("application/pdf", "pdf"),
        ("text/csv", "csv"),
        ("text/tab-separated-values", "tsv"),
        ("text/plain", "txt log"),
        ("text/markdown", "md"),
        ("text/html", "htm html"),
        ("text/calendar", "ics"),
        ("text/vcard", "vcf"),
        ("application/json", "json"),
        ("application/xml", "xml"),
        ("application/yaml", "yaml"),
        ("application/rtf", "rtf"),
        ("application/postscript", "ps"),
        ("application/epub+zip", "epub"),
        ("application/zip", "zip"),
        ("application/gzip", "gz"),
        ("application/x-tar", "tar"),
        ("application/x-7z-compressed", "7z"),
        ("application/msword", "doc"),
        ("application/vnd.ms-excel", "xls"),
        ("application/vnd.ms-powerpoint", "ppt"),
        ("application/vnd.openxmlformats-officedocument.wordprocessingml.document", "docx"),
        ("application/vnd.openxmlformats-officedocument.spreadsheetml.sheet", "xlsx"),
        ("application/vnd.openxmlformats-officedocument.presentationml.presentation", "pptx"),
        ("application/vnd.oasis.opendocument.text", "odt"),
        ("application/vnd.oasis.opendocument.spreadsheet", "ods"),
        ("application/vnd.oasis.opendocument.presentation", "odp"),
        ("image/png", "png"),
        ("image/jpeg", "jpg jpeg"),
        ("image/gif", "gif"),
        ("image/webp", "webp"),
        ("image/avif", "avif"),
        ("image/svg+xml", "svg"),
        ("image/bmp", "bmp"),
        ("image/vnd.microsoft.icon", "ico"),
        ("image/tiff", "tif tiff"),
        ("image/heic", "heic"),
        ("audio/mpeg", "mp3"),
        ("audio/mp4", "m4a"),
        ("audio/ogg", "ogg"),
        ("audio/wav", "wav"),
        ("video/mp4", "mp4"),
        ("video/quicktime", "mov"),
        ("video/webm", "webm"),
        ("application/pgp-keys", "asc"),
        ("application/pkcs7-signature", "p7s"),
        ("application/vnd.apple.pkpass", "pkpass"),
        ("application/wasm", "wasm"),
    ],
)
def test_the_files_that_people_attach_have_the_types_that_mail_programs_open(content_type, ends):
    assert {content_type_of(f"a.{end}") for end in ends.split()} == {content_type}


@pytest.mark.parametrize("size", [0, 1, 56, 57, 58, 114, 1_000_000])
def test_the_size_on_the_wire_is_known_before_a_file_is_read(size):
    assert size_on_wire(size) == len(base64.encodebytes(bytes(size)).replace(b"\n", b"\r\n"))


def test_the_largest_file_fills_its_room():
    for room in range(6, 400):
        assert size_on_wire(largest_file(room)) <= room < size_on_wire(largest_file(room) + 1)
    assert largest_file(26_214_400) == 19_156_674, "docs/how-to/attachments.md says so"
