"""The messages of an mbox: where each begins and ends, and how its text was before it was put there."""

from __future__ import annotations

import io
import mailbox
from email.message import EmailMessage

import pytest

from mailbatch.application.acting.mbox_records import Mbox, TooLong, read_mbox
from mailbatch.application.acting.records import UnreadableFile

FROM = b"From ann@example.org Sat Nov 28 12:00:00 2026\n"
TEXT = b"Hi\n>From you\n>>From me\n"


def read(data: bytes, style: Mbox = Mbox.QUOTED, largest: int = 100_000) -> list[tuple[int, bytes | TooLong]]:
    return list(read_mbox(io.BytesIO(data), largest, style))


@pytest.mark.parametrize(
    ("style", "text"),
    [
        (Mbox.QUOTED, b"Hi\nFrom you\n>From me\n"),
        (Mbox.QUOTED_ONCE, b"Hi\nFrom you\n>>From me\n"),
        (Mbox.BY_LENGTH, TEXT),
    ],
)
@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_lines_that_begin_with_from_are_as_they_were(style, text, end):
    data = FROM + b"To: a@x.org\n\n" + TEXT + b"\n" + FROM + b"To: b@x.org\n\nFrom the end\n\n"
    first, second = read(data.replace(b"\n", end), style)
    assert first == (1, (b"To: a@x.org\n\n" + text).replace(b"\n", end))
    assert second == (8, b"To: b@x.org\n\nFrom the end\n".replace(b"\n", end))


@pytest.mark.parametrize(
    "separator",
    [
        b"From MAILER-DAEMON Thu Jan  1 00:00:00 1970",
        b"From - Sat Nov 28 12:00:00 2026",
        b"From 1850000000000000000@xxx Sat Nov 28 12:00:00 +0000 2026",
        b"From ann at example.org  Sat Nov 28 12:00 2026",
        b"From 4b825dc642cb6eb9a060e54bf8d69288fbee4904 Mon Sep 17 00:00:00 2001",
    ],
)
def test_the_lines_between_messages_of_other_programs_are_known(separator):
    assert [number for number, _ in read((separator + b"\nTo: a@x.org\n\nHi\n\n") * 2)] == [1, 6]


@pytest.mark.parametrize("ending", [b"", b"\n", b"\n\n"])
def test_the_last_message_may_lack_its_end(ending):
    [(_, message)] = read(FROM + b"To: a@x.org\n\nlast" + ending)
    assert message == b"To: a@x.org\n\nlast" + ending[:1]


def test_a_paragraph_that_begins_with_from_is_no_message():
    [(_, message)] = read(FROM + b"To: a@x.org\n\nHi\n\nFrom 12 on: see 2026\n")
    assert message == b"To: a@x.org\n\nHi\n\nFrom 12 on: see 2026\n"


def test_a_content_length_counts_where_a_message_ends_there():
    body = FROM + b">From z\nend"
    head = b"To: a@x.org\nContent-Length: %d\n\n"
    behind = b"\n\n" + FROM + b"To: b@x.org\n\nz\n\n"
    (_, first), (line, second) = read(FROM + head % len(body) + body + behind, Mbox.BY_LENGTH)
    assert (first, line, second) == (head % len(body) + body, 9, b"To: b@x.org\n\nz\n")
    for wrong in (3, len(body) + 5, 10**11):
        messages = read(FROM + head % wrong + b"Hi\n>From you\n" + behind)
        assert [message for _, message in messages] == [head % wrong + b"Hi\nFrom you\n\n", b"To: b@x.org\n\nz\n"]


def test_a_text_of_known_length_keeps_the_empty_line_at_its_end():
    [(_, message)] = read(FROM + b"To: a@x.org\nContent-Length: 4\n\nHi\n\n\n")
    assert message == b"To: a@x.org\nContent-Length: 4\n\nHi\n\n"


def test_no_more_is_read_at_once_than_a_message_may_have():
    class Careful(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            assert 0 <= (size or 0) <= 1_000
            return super().read(size)

    data = FROM + b"To: a@x.org\nContent-Length: 99999999999\n\nHi\n"
    [(_, message)] = read_mbox(Careful(data), 1_000)
    assert isinstance(message, bytes)


def test_a_message_that_is_too_long_is_passed_over():
    data = FROM + b"To: a@x.org\n\n" + b"x" * 200_000 + b"\n\n" + FROM + b"To: b@x.org\n\nz\n"
    (first, long), (second, whole) = read(data)
    assert isinstance(long, TooLong)
    assert (first, second, whole) == (1, 6, b"To: b@x.org\n\nz\n")


@pytest.mark.parametrize("data", [b"To: a@x.org\n\nHi\n", b"\n" + FROM, b"\x00\x01"])
def test_a_file_that_is_no_mbox_is_refused(data):
    with pytest.raises(UnreadableFile, match="is no mbox: its first line does not begin with 'From '"):
        read(data)


def test_an_empty_mbox_has_no_message():
    assert read(b"") == []


def test_what_the_standard_library_puts_into_an_mbox_is_read_as_it_was(tmp_path):
    box = mailbox.mbox(tmp_path / "a.mbox")
    texts = ["Hi\n", "From here\n\nFrom there Sat Nov 28 12:00:00 2026\n", "", "a\n\n\n", "x" * 900 + "\n"]
    messages = []
    for text in texts:
        message = EmailMessage()
        message["To"] = "a@example.org"
        message.set_content(text)
        box.add(message)
        messages.append(message.as_bytes(policy=message.policy.clone(mangle_from_=False)))
    box.close()
    with (tmp_path / "a.mbox").open("rb") as file:
        assert [message for _, message in read_mbox(file, 10_000, Mbox.QUOTED_ONCE)] == messages
