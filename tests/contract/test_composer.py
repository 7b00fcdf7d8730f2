"""Every ``LetterWriter`` writes bytes that read back as the letter, and that a relay cannot take for anything else.

The reader is the standard library's; where its own folding is sound, so is its ``EmailMessage`` as a second opinion.
"""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime
from email.header import decode_header, make_header
from email.headerregistry import Address as StandardAddress
from email.message import EmailMessage
from email.parser import BytesParser, Parser
from email.policy import SMTP, SMTPUTF8, compat32, default
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from support import oracle
from support.long import examples

from mailbatch.domain.checks import line_problems
from mailbatch.domain.errors import CannotCompose
from mailbatch.domain.letter import Letter, Rendered
from mailbatch.domain.message import Address
from mailbatch.infrastructure.mime.compiled import CompiledWriter

WRITERS = pytest.mark.parametrize("write", [CompiledWriter(), oracle.write_letter], ids=["compiled", "oracle"])
SEVERAL = examples(50)
NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
ANN = Address("", "ann", "example.org")
BOB = Address("Bob, Jr.", "bob", "example.org")

# Every script there is; what is no line of text is refused long before a writer sees it.
LINES = st.text(
    st.characters(exclude_categories=["Cs", "Zl", "Zp"], exclude_characters="\r\n\x00\x0b\x0c\x1c\x1d\x1e\x85")
)
NAMES = LINES.map(lambda name: " ".join(name.split())).filter(str.isprintable)
BODIES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=2_000)
LONG_WORDS = st.text("aß=?_ \t,;.", max_size=3_000).map(str.strip)


def letter(subject: str = "hello", text: str | None = "hi\n", html: str | None = None, **fields: Any) -> Letter:
    whole: dict[str, Any] = {"message_id": "1@example.org", "date": NOON, "sender": (ANN,), "to": (ANN, BOB)} | fields
    return Letter(**whole, rendered=Rendered(subject=subject, text=text, html=html))


def parsed(data: bytes) -> EmailMessage:
    return BytesParser(policy=default).parsebytes(data)  # type: ignore[arg-type]


def content(part: EmailMessage) -> str:
    return re.sub("\r\n|\r", "\n", part.get_content())


def normal(text: str) -> str:
    text = re.sub("\r\n|\r", "\n", text)
    return text if text.endswith("\n") else f"{text}\n"


def is_clean(data: bytes) -> bool:
    lines = data.split(b"\r\n")
    return (
        lines[-1] == b""
        and not any(b"\r" in line or b"\n" in line for line in lines)
        and max(map(len, lines)) <= 998
        and data.isascii()
    )


@WRITERS
def test_a_letter_is_read_as_the_standard_library_writes_it(write):
    theirs = EmailMessage(policy=SMTP)
    theirs["From"] = StandardAddress("", "ann", "example.org")
    theirs["To"] = [StandardAddress("", "ann", "example.org"), StandardAddress("Bob, Jr.", "bob", "example.org")]
    theirs["Cc"] = StandardAddress("Zoë", "zoe", "xn--r8jz45g.jp")
    theirs["Subject"] = "Grüße"
    theirs["Date"] = NOON
    theirs["Message-ID"] = "<1@example.org>"
    theirs["X-Extra"] = "more"
    theirs.set_content("hällo\n.\n")
    theirs.add_alternative("<p>hällo</p>\n", subtype="html")
    mine = letter(
        "Grüße",
        "hällo\n.\n",
        "<p>hällo</p>\n",
        cc=(Address("Zoë", "zoe", "xn--r8jz45g.jp"),),
        headers={"X-Extra": "more"},
    )
    ours, theirs = parsed(write(mine)), parsed(theirs.as_bytes())
    for name in ("From", "To", "Cc", "Subject", "Date", "Message-ID", "X-Extra", "MIME-Version"):
        assert ours.get_all(name) == theirs.get_all(name), name
    assert [p.get_content_type() for p in ours.walk()] == [p.get_content_type() for p in theirs.walk()]
    assert [content(p) for p in ours.iter_parts()] == [content(p) for p in theirs.iter_parts()]
    assert not ours.defects


@WRITERS
@SEVERAL
@given(LINES | LONG_WORDS)
@example("=?utf-8?q?not_encoded?=")
@example("x" * 2_000)
@example("a  b" * 100)
@example("山田" * 200)
@example("a\tb")
def test_a_subject_in_any_script_reads_back(write, subject):
    data = write(letter(subject, headers={"X-Same": subject, "X-" + "N" * 74: subject}))
    assert is_clean(data)
    assert parsed(data)["Subject"] == subject.strip()
    old = BytesParser(policy=compat32).parsebytes(data)
    for name in ("Subject", "X-Same"):
        unfolded = re.sub(r"\r?\n(?=[ \t])", "", old[name])
        assert str(make_header(decode_header(unfolded))) == subject.strip()
    assert len(old.keys()) == 10


@WRITERS
@SEVERAL
@given(st.lists(NAMES, min_size=1, max_size=5))
@example(['Doe, "J" \\ <x@y.org>', "ª,ĥ¨" * 9, "a@b.org", "=?utf-8?q?x?=", "(comment)", "山田 太郎"])
def test_names_in_any_script_read_back_and_no_recipient_is_lost(write, names):
    to = tuple(Address(name, f"u{i}", "example.org") for i, name in enumerate(names))
    data = write(letter(to=to))
    assert is_clean(data)
    assert [a.addr_spec for a in parsed(data)["To"].addresses] == [a.addr_spec for a in to]
    for number, read in enumerate(parsed(data)["To"].addresses):
        # Python 3.11 puts a blank between two encoded words of a name when it reads them (RFC 2047 §6.2 has none).
        assert read.display_name.replace(" ", "") == names[number].replace(" ", "")
        one = BytesParser(policy=compat32).parsebytes(write(letter(to=to[number : number + 1])))["To"]
        name = str(make_header(decode_header(one.rpartition("<")[0].strip()))) if names[number] else ""
        if one.startswith('"'):
            name = re.sub(r"\\(.)", r"\1", name[1:-1])
        assert name == names[number]


@WRITERS
@SEVERAL
@given(BODIES, st.none() | BODIES)
@example("\n.\n..\n. \n\r.\r", "<p>.\r\n.\r\n</p>")
@example("From here\n\n", None)
@example("x" * 5_000, "ö" * 5_000)
@example("trailing blanks  \n\t\nand none", None)
@example("", "")
@example("=_=_\n--=_\n", "--\n")
def test_bodies_read_back_whatever_is_in_them(write, text, html):
    data = write(letter(text=text, html=html))
    assert is_clean(data)
    message = parsed(data)
    bodies = {part.get_content_type(): content(part) for part in message.walk() if not part.is_multipart()}
    expected = {"text/plain": normal(text)} | ({"text/html": normal(html)} if html is not None else {})
    if text == "":
        bodies["text/plain"] = normal(bodies["text/plain"])
    if html == "":
        bodies["text/html"] = normal(bodies["text/html"])
    assert bodies == expected
    assert not message.defects


@WRITERS
def test_a_large_body_reads_back(write):
    text = "Grüße, hier ist eine Zeile.\n" * 20_000
    assert content(parsed(write(letter(text=text)))) == text
    for plain in ("a line of plain text\r\n" * 20_000, "\r\n" * 200_000, "x" + "\r\n" * 200_000, "x\r" * 200_000):
        assert content(parsed(write(letter(text=plain)))) == normal(plain)


@WRITERS
def test_html_alone_is_no_multipart(write):
    message = parsed(write(letter(text=None, html="<p>hi</p>")))
    assert message.get_content_type() == "text/html"
    assert message["MIME-Version"] == "1.0"


@WRITERS
def test_a_local_part_beyond_ascii_stands_in_the_header_in_utf8(write):
    data = write(letter(to=(Address("Jörg", "jörg", "example.org"),)))
    message = Parser(policy=SMTPUTF8).parsestr(data.decode())
    assert [str(a) for a in message["To"].addresses] == ["Jörg <jörg@example.org>"]
    assert data.partition(b"\r\n\r\n")[2].isascii(), "only headers are in UTF-8"


@WRITERS
def test_a_quoted_local_part_keeps_its_quotes(write):
    message = parsed(write(letter(to=(Address("", '"a \\" b"', "example.org"),))))
    [address] = message["To"].addresses
    assert (address.username, address.domain) == ('a " b', "example.org")


@WRITERS
def test_several_authors_have_one_sender(write):
    message = parsed(write(letter(sender=(BOB, ANN))))
    assert [a.addr_spec for a in message["From"].addresses] == ["bob@example.org", "ann@example.org"]
    assert message["Sender"].address.addr_spec == "bob@example.org"


@WRITERS
def test_a_thousand_recipients_are_a_thousand_recipients(write):
    to = tuple(Address(f"Gäst {i}", f"guest{i}", "example.org") for i in range(1_000))
    data = write(letter(to=to))
    assert is_clean(data)
    assert len(parsed(data)["To"].addresses) == 1_000


@WRITERS
@pytest.mark.parametrize("message_id", ["", "no-at", "a b@x.org", "a@x.org>\r\nBcc: x", "ä@x.org"])
def test_a_message_id_that_is_none_is_refused(write, message_id):
    with pytest.raises(CannotCompose, match="message_id"):
        write(replace(letter(), message_id=message_id))


@WRITERS
def test_a_date_without_zone_is_refused(write):
    with pytest.raises(CannotCompose, match="time zone"):
        write(replace(letter(), date=NOON.replace(tzinfo=None)))


@WRITERS
@pytest.mark.parametrize("name", ["X-A\r\nBcc", "X-A: b\r\nBcc", "X-A\nBcc"])
def test_a_header_name_that_hides_another_header_does_not_get_out(write, name):
    with pytest.raises(CannotCompose, match=r"do not read back|bare line break"):
        write(letter(headers={name: "eve@example.org"}))


@WRITERS
def test_a_value_with_a_break_is_encoded_or_refused_but_never_breaks(write):
    for breach in ("\r\n", "\n", "\r", "\x85", "\u2028"):
        assert any(line_problems("subject", f"a{breach}Bcc: eve@x.org"))
        try:
            data = write(letter(f"a{breach}Bcc: eve@x.org"))
        except CannotCompose:
            continue
        assert "Bcc" not in parsed(data)
