"""A finished message goes out as its author wrote it: read back it is the same, and SMTP can carry it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from email import message_from_bytes
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailbatch.domain.content import PIECE, lines_of
from mailbatch.domain.errors import CannotCompose
from mailbatch.domain.written_message import Additions
from mailbatch.infrastructure.mime.finished import FinishedWriter
from mailbatch.infrastructure.mime.region import has_long_line
from mailbatch.infrastructure.mime.structure import DEEPEST, MOST_PARTS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from email.message import Message

    from mailbatch.domain.content import Lines

NOTHING = Additions(
    message_id="1@house.example",
    date=datetime(2026, 11, 28, 12, tzinfo=UTC),
    sender="House <house@example.org>",
    auto_submitted=False,
    needs_author=False,
)
FROM = b"From: ann@example.org\r\nDate: Sat, 28 Nov 2026 12:00:00 +0000\r\nMessage-ID: <own@example.org>\r\n"


@dataclass(frozen=True)
class InPieces:
    """A content in pieces of ``step`` bytes."""

    data: bytes
    step: int = 7

    @property
    def size(self) -> int:
        return len(self.data)

    @property
    def lines(self) -> Lines:
        return lines_of(self.data)

    def pieces(self) -> Iterator[bytes]:
        return (self.data[at : at + self.step] for at in range(0, len(self.data), self.step))


def put(pieces: Iterable[bytes]) -> InPieces:
    return InPieces(b"".join(pieces))


def written(message: bytes, additions: Additions = NOTHING) -> bytes:
    """Write ``message``, and check what must hold of any message on the wire."""
    data = FinishedWriter(put)(message, additions).data
    assert isinstance(data, bytes)
    assert lines_of(data).are_whole
    assert max(map(len, data.split(b"\r\n"))) <= 998
    return data


def refusal(message: bytes) -> str:
    with pytest.raises(CannotCompose) as caught:
        written(message)
    [line] = caught.value.errors
    assert line.isprintable()
    return line


def leaves(data: bytes) -> list[Any]:
    """Return each part as the standard library reads it, with one kind of line end."""
    return [_leaf(part) for part in message_from_bytes(data).walk()]


def _leaf(part: Message) -> tuple[str, str | None, bytes | None]:
    content = None if part.is_multipart() else part.get_payload(decode=True)
    if isinstance(content, bytes):
        content = content.replace(b"\r\n", b"\n").replace(b"\r", b"\n").rstrip(b"\n")
    return part.get_content_type(), part.get_filename(), content if isinstance(content, bytes) else None


# --- what arrives ----------------------------------------------------------------------------------------------------

TEXTS = st.one_of(
    st.text("ab \u00fc.=-\n", max_size=60).map(str.encode),
    st.binary(max_size=60).map(lambda data: data.replace(b"--", b"-")),
    st.just(b"x" * 999 + b"\nFrom y\n.\n"),
)
TYPES = st.sampled_from(["text/plain", "text/html; charset=utf-8", "application/pdf", "image/png; name=a.png"])
ENDS = st.sampled_from([b"\n", b"\r\n"])


@st.composite
def entities(draw, depth: int = 0) -> bytes:
    """Make a part: its header, an empty line, its body."""
    end = draw(ENDS)
    if depth < 3 and draw(st.integers(0, 2)) == 0:
        boundary = b"b%d" % depth
        parts = [draw(entities(depth + 1)) for _ in range(draw(st.integers(1, 3)))]
        opening = b"".join(end + b"--" + boundary + end + part for part in parts)
        head = b'Content-Type: multipart/mixed; boundary="' + boundary + b'"' + end + end + draw(TEXTS)
        return head + opening + end + b"--" + boundary + b"--" + end
    if depth and draw(st.integers(0, 5)) == 0:
        return b"Content-Type: message/rfc822" + end + end + b"Subject: inside" + end + draw(entities(depth + 1))
    encoding = draw(st.sampled_from([b"", b"8bit", b"binary", b"base64", b"quoted-printable"]))
    head = b"Content-Type: " + draw(TYPES).encode() + end
    if encoding:
        head += b"Content-Transfer-Encoding: " + encoding + end
    body = b"QUJD" * draw(st.integers(0, 500)) if encoding == b"base64" else draw(TEXTS)
    return head + end + body.replace(b"\r", b"") if encoding != b"binary" else head + end + body


@given(entities(), st.integers(1, 50))
def test_whatever_it_is_made_of_the_standard_library_reads_the_same_parts(entity, step):
    message = FROM + entity
    data = written(message)
    assert data.isascii()
    assert leaves(data) == leaves(message)
    large = FinishedWriter(lambda pieces: InPieces(b"".join(pieces), step))(InPieces(message, step), NOTHING).data
    assert not isinstance(large, bytes)
    assert b"".join(large.pieces()) == data
    assert large.lines == lines_of(data)


@pytest.mark.parametrize("body", [b"a line\n", b"gr\xc3\xbc\xc3\x9fe\n", b"a line\r\n"])
def test_a_large_message_is_kept_once_and_in_pieces_whatever_must_change(body):
    kept = []

    def keep(pieces: Iterable[bytes]) -> InPieces:
        kept.append(put(pieces))
        return kept[-1]

    message = FROM + b"Content-Transfer-Encoding: 8bit\n\n" + body * 90_000
    data = FinishedWriter(keep)(InPieces(message, PIECE), NOTHING).data
    assert not isinstance(data, bytes)
    for _ in range(2):
        pieces = list(data.pieces())
        assert b"".join(pieces) == written(message)
        assert max(map(len, pieces)) <= PIECE
    assert (len(kept), len(data)) == (1, len(written(message)))


def test_binary_data_keeps_its_line_ends():
    data = b"\x00\r\x01\n\x02\r\n\xff"
    message = FROM + b"Content-Type: image/x\r\nContent-Transfer-Encoding: binary\r\n\r\n" + data
    read = message_from_bytes(written(message))
    assert read.get_payload(decode=True) == data
    assert read["MIME-Version"] == "1.0"


def test_a_line_longer_than_what_is_looked_at_in_one_go_arrives_as_one_line():
    line = b"gr\xc3\xbc\xc3\x9fe und viele andere freundliche Worte mehr " * 5_000
    for encoding in (b"8bit", b"quoted-printable"):
        message = FROM + b"Content-Transfer-Encoding: " + encoding + b"\r\n\r\n" + line + b"end\r\n"
        data = written(message)
        assert message_from_bytes(data).get_payload(decode=True) == line + b"end\r\n"
        assert max(map(len, data.split(b"\r\n"))) <= 76


@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n"])
def test_a_line_may_have_998_bytes_without_its_end(end):
    assert not has_long_line(b"x" * 998 + end)
    assert has_long_line(b"x" * 999 + end)


@pytest.mark.parametrize(("length", "longest"), [(996, 996), (998, 998), (1000, 76)])
def test_base64_goes_out_as_it_is_until_a_line_is_too_long_and_then_in_lines_of_76(length, longest):
    head = FROM + b"Content-Type: image/x\r\nContent-Transfer-Encoding: base64\r\n\r\n"
    data = written(head + b"Q" * length + b"\r\n")
    body = data.partition(b"\r\n\r\n")[2]
    assert max(map(len, body.split(b"\r\n"))) == longest
    assert body.replace(b"\r\n", b"") == b"Q" * length


@pytest.mark.parametrize(("size", "encoding"), [(13, "quoted-printable"), (12, "base64")])
def test_a_text_is_quoted_printable_if_fewer_than_a_sixth_of_it_is_beyond_ascii(size, encoding):
    text = b"\xc3\xa9" + b"e" * (size - 2)
    head = FROM + b"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
    read = message_from_bytes(written(head + text))
    assert (read["Content-Transfer-Encoding"], read.get_payload(decode=True).rstrip()) == (encoding, text)


def test_a_message_that_smtp_carries_as_it_is_changes_in_no_byte():
    body = b"Content-Type: text/plain\r\n\r\nFrom here\r\n.\r\n.. \r\n\r\n"
    assert written(FROM + body) == FROM + body


# --- its header ------------------------------------------------------------------------------------------------------


def test_what_is_missing_is_added_and_what_is_there_is_kept():
    assert written(b"Subject: x\n\nhi") == (
        b"Subject: x\r\nFrom: House <house@example.org>\r\nDate: Sat, 28 Nov 2026 12:00:00 +0000\r\n"
        b"Message-ID: <1@house.example>\r\n\r\nhi\r\n"
    )
    assert written(FROM + b"\r\n") == FROM + b"\r\n"
    marked = replace(NOTHING, auto_submitted=True)
    assert b"Auto-Submitted: auto-generated\r\n" in written(FROM + b"\r\n", marked)
    assert b"auto-generated" not in written(FROM + b"auto-SUBMITTED: no\r\n\r\n", marked)


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_bcc_never_goes_out_and_no_other_field_changes(end):
    fields = [*FROM.split(b"\r\n")[:-1], b"X-Odd:two  blanks ", b"\tand a fold"]
    hidden = [b"bcc: secret@example.org,", b" secret2@example.org", b"Resent-BCC : secret3@example.org"]
    assert written(end.join([*hidden, *fields, b"", b"Bcc: a text", b""])) == b"\r\n".join(
        [*fields, b"", b"Bcc: a text", b""]
    )


def test_the_author_is_named_where_nothing_else_is_the_envelope_sender():
    asking = replace(NOTHING, needs_author=True)
    author = FinishedWriter(put)(b"From: a@x.org, b@x.org\nSender: Zo\xc3\xab <s@x.org>\n\n", asking).author
    assert author is not None
    assert author.addr_spec == "s@x.org"
    assert FinishedWriter(put)(FROM + b"\n", NOTHING).author is None


def test_utf8_in_a_header_is_encoded_so_that_every_relay_takes_it():
    names = "Subject: gr\u00fc\u00dfe\nTo: Zo\u00eb <z@x.org>\nList-Id: B\u00fccher <news.x.org>\n\nhi\n".encode()
    data = written(FROM + names)
    assert data.isascii()
    assert b"<z@x.org>" in data
    assert b"<news.x.org>" in data
    odd = FinishedWriter(put)(FROM + 'Content-Type: image/x; name="\u00fc"\n\n'.encode(), NOTHING)
    assert odd.has_utf8_header


def test_a_long_line_of_a_header_is_folded_at_a_blank():
    data = written(FROM + b"To: " + b", ".join([b"ann@example.org"] * 200) + b"\n\n")
    assert message_from_bytes(data)["To"].replace("\r\n", "") == ", ".join(["ann@example.org"] * 200)


def test_a_long_line_in_the_header_of_a_part_is_folded_too():
    field = b"Content-Description: " + b"word " * 300 + b"end"
    message = FROM + b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n" + field + b"\r\n\r\nhi\r\n--b--\r\n"
    [part] = message_from_bytes(written(message)).get_payload()
    assert "".join(part["Content-Description"].splitlines()) == "word " * 300 + "end"
    assert part.get_payload() == "hi"


def test_the_from_line_of_a_mail_folder_is_left_out():
    assert written(b"From ann@example.org Sat Nov 28\n" + FROM + b"\r\n") == FROM + b"\r\n"


# --- what a signature covers -----------------------------------------------------------------------------------------

SIGNED = (
    b"Content-Type: multipart/signed; micalg=sha-256; boundary=s; protocol=x/y\r\n\r\n"
    b"preamble\r\n--s\r\n%s\r\n--s\r\nContent-Type: application/pkcs7-signature\r\n\r\nQUJD\r\n--s--\r\n"
)
COVERED = b"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\ngr\xc3\xbc\xc3\x9fe  \r\n"


def test_signed_parts_stay_byte_for_byte():
    assert written(FROM + SIGNED % COVERED) == FROM + SIGNED % COVERED
    inside = b"Content-Type: multipart/mixed; boundary=m\r\n\r\n--m\r\n%s\r\n--m\r\n\r\n\xfc\r\n--m--\r\n"
    data = written(FROM + inside % (SIGNED % COVERED))
    assert SIGNED % COVERED in data
    assert b"\xfc" not in data  # what no signature covers is encoded


def test_a_message_with_a_dkim_signature_stays_but_for_line_ends_and_bcc():
    signature = b"DKIM-Signature: v=1; a=rsa-sha256; bh=x; b=y\r\nSubject: gr\xc3\xbc\xc3\x9fe\r\n"
    message = signature + FROM + b"Content-Transfer-Encoding: 8bit\r\n\r\n\xc3\xbc\r\n"
    assert written(b"Bcc: a@x.org\n" + message.replace(b"\r\n", b"\n")) == message


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (
            SIGNED % (b"Content-Type: text/plain\r\n\r\n" + b"x" * 999),
            "part 1 (text/plain) has a line of more than 998",
        ),
        (SIGNED % b"X: y\r\n\r\na\rb", "part 1 (text/plain) has a CR without LF"),
        (SIGNED % b"X: y\r\n\r\n\x00", "part 1 (text/plain) has a NUL byte"),
        (
            SIGNED % (b"X: y " + b"z" * 998 + b"\r\n\r\n"),
            "the header of part 1 (text/plain) has a line of more than 998",
        ),
        (b"DKIM-Signature: x\r\n\r\n" + b"x" * 999, "its body (text/plain) has a line of more than 998"),
        (b"DKIM-Signature: " + b"x " * 999 + b"\r\n\r\n", "its header has a line of more than 998"),
    ],
)
def test_what_cannot_be_sent_under_a_signature_is_refused_by_its_part(body, why):
    line = refusal(FROM + body)
    assert line.startswith(f"message: {why}")
    assert "signature covers it" in line


# --- what nobody can send --------------------------------------------------------------------------------------------


def nested(depth: int) -> bytes:
    return b"".join(b"Content-Type: multipart/mixed; boundary=b%d\n\n--b%d\n" % (n, n) for n in range(depth))


@pytest.mark.parametrize(
    ("message", "why"),
    [
        (FROM + nested(DEEPEST + 2), "inside each other"),
        (
            FROM + b"Content-Type: multipart/x; boundary=b\n\n" + b"--b\n\nx\n" * (MOST_PARTS + 1),
            "more than 1000 parts",
        ),
        (FROM + b"X: " + b"y" * 2_000_000 + b"\n\n", "X has a word of more than 997 bytes"),
        (FROM + b"X: y\n" * 500_000, "its header has"),
        (FROM + b"X: \x00\n\n", "NUL"),
        (FROM + b"Subject: \xff\n\n", "Subject: is not UTF-8"),
        (FROM + b"no header end\n", "is no field"),
        (FROM + b"Content-Type: multipart/x; boundary=" + b"b" * 10_000 + b"\n\n", "at most 10000 are read"),
        (FROM + b"Content-Type: message/partial\n\n\xff", "(message/partial) has 8-bit text, and a part of this type"),
        (FROM + b"Content-Type: multipart/x; boundary=b\n\nno part \xff", "its body (multipart/x) has 8-bit text"),
        (FROM + b"Content-Type: multipart/x; boundary=b\n\n--c\n\n\xff\n--b--\n", "its body (multipart/x) has 8-bit"),
        (FROM + b"Content-Type: multipart/x; boundary=b\n\n--b\nA: \x00\n\n--b--", "part 1 (text/plain) has a NUL"),
        (FROM + b"Content-Type: multipart/x; boundary=b\n\n--b\nA: \xff\n\n--b--", "is not UTF-8"),
        (b"Subject: from nowhere\n\n", "has no From; write one, or set MAILBATCH_SENDER"),
    ],
    ids=range(14),
)
def test_hostile_messages_are_refused_in_one_line(message, why):
    with pytest.raises(CannotCompose) as caught:
        written(message, replace(NOTHING, sender=None))
    [line] = caught.value.errors
    assert line.startswith("message: ")
    assert why in line
    assert len(line) < 300


@pytest.mark.parametrize("end", [b"\n", b"\r"])
def test_lines_that_only_look_like_boundaries_take_time_in_proportion(end):
    message = FROM + b"Content-Type: multipart/mixed; boundary=b\n\n--b\n\n" + (b"--" + end) * 100_000
    assert leaves(written(message)) == leaves(message)
