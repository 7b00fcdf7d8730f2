"""The fast writer against the standard library: whatever goes in, both are read as the same mail.

Two oracles. ``EmailMessage`` itself says what headers mean before it writes them, for its folding is not sound on every
version of Python; what it writes speaks for structure and contents. ``support.oracle`` wrote our mails before.
"""

from __future__ import annotations

import quopri
import re
import tracemalloc
from base64 import encodebytes
from binascii import a2b_base64
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from email.header import decode_header, make_header
from email.headerregistry import Address as StandardAddress
from email.message import EmailMessage
from email.parser import BytesParser
from email.policy import SMTP, default
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from support import oracle
from support.contents import Cut
from support.long import examples

from mailbatch.domain.attachment import file_problems
from mailbatch.domain.body import Body
from mailbatch.domain.checks import line_problems, text_problems
from mailbatch.domain.errors import CannotCompose
from mailbatch.domain.letter import FilePart, Letter, Rendered
from mailbatch.domain.message import Address
from mailbatch.infrastructure.mime.bodies import encoded_file, encoded_text
from mailbatch.infrastructure.mime.compiled import CompiledWriter
from mailbatch.infrastructure.mime.words import encoded_words

if TYPE_CHECKING:
    from collections.abc import Iterator

MANY = examples(100)
NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
ANN = Address("", "ann", "example.org")
HEADERS = ("From", "Sender", "To", "Cc", "Reply-To", "Subject", "Date", "Message-ID", "MIME-Version")

# Anything at all, and what lies near the rules: long words, blanks, what looks encoded, four-byte characters.
TEXTS = (
    st.text(max_size=300)
    | st.text(st.characters(categories=["Cc", "Cs", "Zl", "Zp", "Zs"], include_characters="ab"), max_size=20)
    | st.text("aß=?_ \t.,;😀\u0301", max_size=400)
    | st.text("ab ", min_size=900, max_size=1_100)
    | st.text("abcdefgh_= ?é😀", max_size=200)
    | st.integers(1, 1_200).map(lambda n: "x" * n + " y" * n)
)
NAMES = TEXTS.map(lambda name: " ".join(name.split()))
LOCALS = st.text("abz09.!#$%&'*+/^_`{|}~-", min_size=1, max_size=64).filter(
    lambda local: ".." not in local and local[0] != "." != local[-1]
)
BODIES = (
    st.text(max_size=2_000)
    | st.text("a=. \t\r\n-\x0b\x0c\x85\u2028", max_size=300)
    | st.text("aß\n", max_size=3_000)
    | st.integers(0, 1_300).map(lambda n: "y" * n + " \n.\n" + "ü" * n)
)
# A blank at the end is lost when EmailMessage reads it, and so are quotes around the whole.
FILENAMES = (
    st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"], exclude_characters="/\\"), max_size=60)
    .map(str.strip)
    .filter(lambda name: name[:1] not in ("", '"'))
)


def letter(subject: str = "hello", text: str | None = "hi\n", html: str | None = None, **fields: Any) -> Letter:
    whole: dict[str, Any] = {"message_id": "1@example.org", "date": NOON, "sender": (ANN,), "to": (ANN,)} | fields
    return Letter(**whole, rendered=Rendered(subject=subject, text=text, html=html))


def written(mail: Letter) -> bytes:
    """Write it, and hold the bytes to what RFC 5321 and 5322 allow, by the letter."""
    data = b"".join(message.pieces()) if isinstance(message := CompiledWriter()(mail), Body) else message
    assert len(data) == len(message)
    assert data.isascii()
    assert re.fullmatch(rb"(?:[\x01-\x09\x0b\x0c\x0e-\x7f]{0,998}\r\n)+", data)
    head, _, _ = data.partition(b"\r\n\r\n")
    assert re.fullmatch(rb"(?:[!-9;-~]+: ?[\t -~]*(?:\r\n[\t ][\t -~]*[!-~][\t -~]*)*(?:\r\n|$))+", head)
    for line in head.split(b"\r\n"):
        assert len(line) <= 78 or b"=?" not in line, "a line with an encoded word is narrow (RFC 2047 §2)"
    return data


def parsed(data: bytes) -> EmailMessage:
    return BytesParser(policy=default).parsebytes(data)  # type: ignore[arg-type]


def standard(address: Address) -> StandardAddress:
    return StandardAddress(address.display_name, addr_spec=address.addr_spec)


def leaves(message: EmailMessage) -> Iterator[tuple[str, Any]]:
    """Yield type and content of whatever is no multipart; a text's last line has an end."""
    for part in message.walk():
        content = None if part.is_multipart() else part.get_content()
        if isinstance(content, str):
            content = re.sub("\r\n|\r", "\n", content)
            content = content if content.endswith("\n") else f"{content}\n"
        yield part.get_content_type(), content


@MANY
@given(TEXTS, TEXTS)
@example("a\x01b\x7f", "\x1b[0m")
@example("lone \ud800", "x")
@example("a\u2028b", "x\r\nBcc: eve@example.org")
@example("=?utf-8?q?a?= =?utf-8?q?b?=", "ends with =?")
@example("😀" * 40, "ß" * 500)
@example("a" + "\u0301" * 99, "a" * 998)
def test_texts_of_headers_mean_what_emailmessage_says_they_mean(subject, value):
    mail = letter(subject, headers={"X-Extra": value})
    if [*line_problems("subject", subject.strip()), *line_problems("X-Extra", value.strip())]:
        with pytest.raises(CannotCompose):
            CompiledWriter()(mail)
        return
    ours = parsed(written(mail))
    for name, given_text in (("Subject", subject), ("X-Extra", value)):
        theirs = EmailMessage(policy=SMTP)
        theirs[name] = given_text.strip()
        # What looks like encoded words is decoded by EmailMessage: it cannot say such a text at all.
        expected = theirs[name] if "=?" not in given_text else given_text.strip()
        assert ours[name] == expected
    assert ours.keys()[:-3] == ["From", "To", "Subject", "Date", "Message-ID", "X-Extra"]


@MANY
@given(st.lists(st.tuples(NAMES, LOCALS), min_size=1, max_size=4), NAMES)
@example([('a "b" \\', "a"), ("Doe, J. (x)", "b"), ("a@b.org", "c")], "<x>")
@example([("x" * 64 + "é", "a" * 64)] * 3, "ü" * 60)
def test_addresses_are_those_that_emailmessage_would_write(people, sender):
    to = tuple(Address(name, local, "example.org") for name, local in people)
    mail = letter(to=to, cc=to[::-1], sender=(Address(sender, "house", "example.org"),), reply_to=to[:1])
    names = [sender, *(name for name, _ in people)]
    if any(problem for name in names for problem in line_problems("name", name)):
        with pytest.raises(CannotCompose):
            CompiledWriter()(mail)
        return
    ours, theirs = parsed(written(mail)), EmailMessage(policy=SMTP)
    for field, addresses in (("From", mail.sender), ("To", mail.to), ("Cc", mail.cc), ("Reply-To", mail.reply_to)):
        theirs[field] = [standard(address) for address in addresses]
        assert [a.addr_spec for a in ours[field].addresses] == [a.addr_spec for a in theirs[field].addresses]
        read = [a.display_name.replace(" ", "") for a in ours[field].addresses]
        # Python 3.11 reads a blank between two encoded words of a name.
        assert read == [address.display_name.replace(" ", "") for address in addresses]


@MANY
@given(TEXTS, st.lists(st.tuples(NAMES, LOCALS), min_size=1, max_size=3), st.none() | BODIES, st.none() | BODIES)
@example("s", [("", "a")], "\x00\x01\x0b\x0c", "<p>\x85\u2028</p>")
@example("s", [("", "a")], "--=_\n--\n.\n..\nFrom x\n", None)
@example("s", [("", "a")], None, "x" * 77)
@example("s", [("", "a")], "lone \udfff", None)
@example("s", [("", "a")], "x \n" * 100_000, "é \r" * 70_000)
@example("s", [("", "a")], "x" * 300_000, "é" * 300_000)
@example("s", [("", "a")], "x\n" * 131_073 + "山" * 57, "山田\n" * 200_000)
def test_a_mail_is_read_as_the_same_mail_from_both(subject, people, text, html):
    to = tuple(Address(name, local, "example.org") for name, local in people)
    mail = letter(subject, text if html is not None or text is not None else "", html, to=to)
    problems = [*line_problems("s", subject.strip()), *(p for name, _ in people for p in line_problems("n", name))]
    surrogates = [p for body in (text, html) for p in text_problems("body", body) if "NUL" not in p]
    if problems or surrogates:
        with pytest.raises(CannotCompose):
            CompiledWriter()(mail)
        return
    ours, theirs = parsed(written(mail)), parsed(oracle.write_letter(mail))
    for name in HEADERS:
        if name not in ("From", "To", "Subject"):
            assert ours.get_all(name) == theirs.get_all(name), name
    # Before a long word email.header begins a line, and the blank there is read as the text's own.
    assert ours["Subject"] == theirs["Subject"].lstrip(" ")
    assert [a.addr_spec for a in ours["To"].addresses] == [a.addr_spec for a in theirs["To"].addresses]
    assert list(leaves(ours)) == list(leaves(theirs))
    assert not ours.defects
    assert [part.get_param("charset") for part in ours.walk()] == [part.get_param("charset") for part in theirs.walk()]


@pytest.mark.parametrize("character", ["é", "山", "😀", "_", "=", "?"])
@pytest.mark.parametrize("around", ["a", "山"])
def test_every_encoded_word_holds_whole_characters(character, around):
    for before in range(70):
        text = f"é{around * before}{character}{around * 70}"
        words = re.findall(r"=\?utf-8\?[qb]\?[!->@-~]+\?=", encoded_words(text, len("Subject: ")))
        assert max(map(len, words)) <= 75
        assert "".join(one.decode("utf-8") for word in words for one, _ in decode_header(word)) == text


def test_the_choice_of_encoding_follows_the_text():
    assert encoded_text("plain\n")[0] == "7bit"
    assert encoded_text("x" * 76)[0] == "7bit"
    assert encoded_text("x" * 77)[0] == "quoted-printable"
    assert encoded_text("\x07 a bell in a long enough text")[0] == "quoted-printable"
    assert encoded_text("Grüße aus einer Zeile, die lang genug ist\n")[0] == "quoted-printable"
    assert encoded_text("山田太郎\n")[0] == "base64"


@pytest.mark.parametrize("blank", [" ", "\t", "\t ", "  "])
def test_no_line_is_wider_than_76_characters_whatever_stands_at_its_end(blank):
    lines = [f"{sign}{'x' * width}{blank}" for width in range(66, 80) for sign in ("", "é", "=")]
    encoding, pieces = encoded_text("\n".join(["é", *lines, "", ""]) + "é")
    coded = b"".join(pieces)
    assert encoding == "quoted-printable"
    assert max(map(len, coded.split(b"\r\n"))) == 76
    assert quopri.decodestring(coded).decode().split("\r\n")[1:-3] == lines


@pytest.mark.parametrize("zone", [UTC, timezone(timedelta(hours=9)), timezone(-timedelta(hours=3, minutes=30))])
def test_the_same_second_in_another_zone_is_written_in_that_zone(zone):
    date = NOON.astimezone(zone)
    read = parsed(CompiledWriter()(letter(date=date)))["Date"].datetime
    assert (read, read.utcoffset()) == (date, date.utcoffset())


# --- what else would get out ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "bad",
    [
        {"headers": {"X-A:": "b"}},
        {"headers": {"X A": "b"}},
        {"headers": {"": "b"}},
        {"headers": {"X-Ä": "b"}},
        {"headers": {" X-A": "b"}},
        {"to": (Address("", "a\r\nBcc: eve", "example.org"),)},
        {"to": (Address("", "a", "example.org\nBcc: eve@example.org"),)},
        {"to": (Address("", "a" * 1_000, "example.org"),)},
    ],
)
def test_what_slips_past_every_reader_ends_at_the_last_look(bad):
    with pytest.raises(CannotCompose, match="headers: "):
        CompiledWriter()(letter(**bad))


def test_no_two_mails_have_the_same_boundary():
    write = CompiledWriter()
    boundaries = {parsed(write(letter(html="<p>hi</p>"))).get_boundary() for _ in range(50)}
    assert len(boundaries) == 50


# --- files ---------------------------------------------------------------------------------------------------------


def file(filename: str, content: bytes, content_type: str, content_id: str | None = None) -> FilePart:
    encoded = Cut(tuple(encoded_file([content])))
    return FilePart(filename=filename, content_type=content_type, content_id=content_id, encoded=encoded)


def content_of(part: FilePart) -> bytes:
    return a2b_base64(b"".join(part.encoded.pieces()))


IMAGE = file("logo.png", b"\x89PNG\r\n\x1a\n" * 99, "image/png", "logo@x")
INVOICE = file("invoice.pdf", b"%PDF-1.7\n", "application/pdf")
INVITATION = file("invite.ics", b"BEGIN:VCALENDAR\r\nMETHOD:REQUEST\r\n", "text/calendar; method=REQUEST")


def standard_letter(mail: Letter) -> EmailMessage:
    theirs = EmailMessage(policy=SMTP)
    theirs.set_content(mail.rendered.text or "")
    theirs.add_alternative(mail.rendered.html or "", subtype="html")
    html = theirs.get_body(["html"])
    for one in mail.attachments:
        main, _, sub = one.content_type.partition("/")
        if one.content_id:
            cid = f"<{one.content_id}>"
            html.add_related(content_of(one), main, sub, cid=cid, filename=one.filename, disposition="inline")
        else:
            theirs.add_attachment(content_of(one), main, sub, filename=one.filename)
    return parsed(theirs.as_bytes())


def shape(part: EmailMessage) -> Any:
    if part.is_multipart():
        return part.get_content_type(), [shape(one) for one in part.iter_parts()]
    return part.get_content_type(), part.get_content_disposition(), part.get_filename(), part["Content-ID"]


def types(part: EmailMessage) -> Any:
    return (
        {part.get_content_type(): [types(one) for one in part.iter_parts()]}
        if part.is_multipart()
        else (part.get_content_type())
    )


@MANY
@given(st.lists(st.tuples(FILENAMES, st.binary(max_size=400), st.booleans()), max_size=3))
@example([("Rechnung für Zoë.pdf", b"", False), ("山田" * 30, b"\x00", True)])
@example([('a "quoted"  name', b"x" * 57, False), ("=?utf-8?q?x?=", b"x" * 58, True)])
@example([("x" * 60, b"x", False), ("%41 100%", b"x", False), ("é" * 60, b"x", True)])
def test_files_stand_where_emailmessage_puts_them(files):
    attachments = tuple(
        file(name, content, "image/png", f"{i}@x" if shown else None) for i, (name, content, shown) in enumerate(files)
    )
    mail = letter(html="<p>hi</p>", attachments=attachments)
    if any(list(file_problems(name, "image/png", None)) for name, _, _ in files):
        with pytest.raises(CannotCompose):
            written(mail)
        return
    data = written(mail)
    ours, theirs = parsed(data), standard_letter(mail)
    assert [content for _, content in leaves(ours)] == [content for _, content in leaves(theirs)]
    assert not any(part.defects for part in ours.walk())
    if all(name.isprintable() and "=?" not in name and '"' not in name for name, _, _ in files):
        assert shape(ours) == shape(theirs)
    names = [part.get_filename() for part in ours.walk() if part.get_filename() is not None]
    assert sorted(names) == sorted(one.filename for one in mail.attachments)


@MANY
@given(FILENAMES)
@example("x" * 255)
@example("山" * 85)
@example("invoice.pdf")
def test_outlook_finds_the_same_name_in_the_content_type(name):
    """It reads no RFC 2231. What it reads is put together here as it does: without the grammar."""
    if list(file_problems(name, "image/png", None)):
        return
    part = written(letter(attachments=(file(name, b"x", "image/png"),))).partition(b"Content-Type: image/png")[2]
    found = re.match(rb';\r\n name="([^"]*)"\r\n', part)
    assert str(make_header(decode_header(found[1].decode()))) == name
    if re.fullmatch(r"[\w.-]+", name, re.ASCII):
        assert found[1].decode() == name


def test_a_mail_with_everything_has_each_part_where_programs_look_for_it():
    data = written(letter(html='<img src="cid:logo@x">', attachments=(INVOICE, IMAGE, INVITATION, INVOICE)))
    related = {"multipart/related": ["text/html", "image/png"]}
    assert types(parsed(data)) == {
        "multipart/mixed": [
            {"multipart/alternative": ["text/plain", related, "text/calendar"]},
            *("application/pdf", "application/pdf"),
        ]
    }
    html = data.partition(b"Content-Type: text/html")[2].partition(b"\r\n\r\n")[0]
    assert b"name=" not in html, "Outlook takes HTML with a name for a file"
    assert data.count(b"Content-ID") == 1, "Outlook takes a file with an id for an image"


def test_an_image_without_html_is_a_file_like_any_other():
    message = parsed(written(letter(attachments=(IMAGE, INVOICE))))
    assert types(message) == {"multipart/mixed": ["text/plain", "image/png", "application/pdf"]}
    assert message.get_payload(1)["Content-ID"] is None
    assert message.get_payload(1).get_content_disposition() == "attachment"


def test_html_alone_shows_its_images():
    message = parsed(written(letter(text=None, html='<img src="cid:logo@x">', attachments=(IMAGE,))))
    assert message.get_content_type() == "multipart/related"
    assert message.get_param("type") == "text/html"
    assert message.get_payload(1).get_content() == content_of(IMAGE)


def test_an_invitation_is_the_last_alternative_and_an_entry_without_a_method_a_file():
    """Calendars offer to accept only what is an alternative and says its method, twice."""
    message = parsed(written(letter(attachments=(INVITATION,))))
    assert types(message) == {"multipart/alternative": ["text/plain", "text/calendar"]}
    part = message.get_payload(1)
    assert (part.get_param("method"), part.get_content_charset()) == ("REQUEST", "utf-8")
    assert part.get_content_disposition() is None
    entry = replace(INVITATION, content_type="text/calendar; charset=utf-8")
    assert types(parsed(written(letter(attachments=(entry,))))) == {"multipart/mixed": ["text/plain", "text/calendar"]}


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"filename": "x" * 256}, "no file name"),
        ({"filename": "a\r\nBcc: eve.pdf"}, "line break"),
        ({"filename": "a\ud800.pdf"}, "surrogate"),
        ({"content_type": "a/b\r\nBcc: eve@example.org"}, "no content type"),
        ({"content_id": "a>\r\nBcc: eve"}, "no content id"),
    ],
)
def test_a_file_that_cannot_travel_is_refused_in_one_line(wrong, why):
    with pytest.raises(CannotCompose, match="attachments: .*" + why) as caught:
        CompiledWriter()(letter(attachments=(replace(INVOICE, **wrong),)))
    assert all(line.isprintable() for line in caught.value.errors)


def test_a_content_with_a_bare_line_break_never_becomes_a_mail():
    forged = replace(INVOICE, encoded=Cut((b"QUJD\r\n", b"\n.\nMAIL FROM:<eve@example.org>\r\n")))
    with pytest.raises(CannotCompose, match="bare line break"):
        CompiledWriter()(letter(attachments=(forged,)))


@MANY
@given(st.lists(st.binary(max_size=200), max_size=8))
def test_a_file_has_the_same_lines_however_it_is_cut(pieces):
    whole = b"".join(pieces)
    assert b"".join(encoded_file(pieces)) == encodebytes(whole).replace(b"\n", b"\r\n")


@pytest.mark.parametrize(
    ("line", "copies"),
    [
        ("a line of plain text\n", 2.1),
        ("eine Zeile mit Ünïcode\n", 2.1),
        ("山田太郎\n", 2.1),
        ("a whole book without a line end ", 3.1),
    ],
)
def test_a_fat_mail_is_held_twice_while_it_is_written(line, copies):
    text = line * (5_000_000 // len(line.encode()))
    tracemalloc.start()
    try:
        data = CompiledWriter()(letter(text=text))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < copies * len(data)
