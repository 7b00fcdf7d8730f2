"""Finished messages as people see them, whatever a stranger wrote."""

from __future__ import annotations

import pytest
from support.contents import Cut

from mailbatch.domain.message_subject import own_subject
from mailbatch.infrastructure.mime import message_view
from mailbatch.infrastructure.mime.message_view import see_message


@pytest.mark.parametrize(
    ("head", "subject"),
    [
        (b"From: a\r\nSubject: Hello\r\n\r\nSubject: body", "Hello"),
        (b"subject:=?utf-8?b?R3LDvMOfZQ==?=\r\n there\r\n\r\n", "Grüße there"),
        ("Subject: Grüße\n\n".encode(), "Grüße"),
        (b"From: a\r\n\r\nSubject: body", None),
        (b"Subject: =?nowhere?q?x?=\r\n\r\n", "=?nowhere?q?x?="),
        (b"Subject: " + b"x" * 5000, "x" * 2000),
        (b"", None),
        (b"\r\nSubject: body", None),
    ],
)
def test_the_subject_is_read_from_the_header_and_nowhere_else(head, subject):
    assert own_subject(head) == subject


def test_a_part_that_is_for_saving_is_not_the_text():
    seen = see_message(
        b"Content-Type: multipart/mixed; boundary=b\r\n\r\n"
        b"--b\r\nContent-Disposition: attachment; filename=notes.txt\r\n\r\nnotes\r\n"
        b"--b\r\n\r\nHi\r\n--b--\r\n"
    )
    assert (seen.text, seen.html) == ("Hi", None)
    assert [(part.filename, part.content_type, part.size) for part in seen.parts] == [
        ("notes.txt", "text/plain", 5),
        ("", "text/plain", 2),
    ]


@pytest.mark.parametrize("charset", [b"idna", b"zlib", b"nowhere", b"unicode_escape"])
def test_a_charset_that_no_mail_has_is_not_run(charset):
    assert see_message(b"Content-Type: text/plain; charset=" + charset + b"\r\n\r\n\\u0041").text == "\\u0041"


@pytest.mark.parametrize("kind", [b'image/png"onerror="x', b"text/html", b"image/svg+xml;x"])
def test_only_a_plain_image_type_comes_into_the_html(kind):
    seen = see_message(b"Content-Type: " + kind + b"\r\nContent-ID: <a>\r\n\r\nx")
    assert {one.content_type for one in seen.images.values()} <= {"image/svg+xml"}


def test_a_message_of_too_many_parts_is_not_read():
    parts = b"--b\r\n\r\nx\r\n" * 1001
    with pytest.raises(ValueError, match="more than 1000 parts"):
        see_message(b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + parts + b"--b--\r\n")


def test_of_a_large_message_the_beginning_is_read(monkeypatch):
    monkeypatch.setattr(message_view, "LARGEST", 50)
    seen = see_message(Cut((b"Subject: Hi\r\n\r\n", b"x" * 100)))
    assert (seen.is_whole, seen.fields["Subject"], seen.text) == (False, "Hi", "x" * 35)
