"""The envelope of a finished message: its recipients, its sender, and no Bcc in what is kept of it."""

from __future__ import annotations

from email import message_from_bytes, policy
from email.message import EmailMessage, Message
from email.utils import getaddresses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailbatch.domain.errors import InvalidReservation
from mailbatch.infrastructure.mime.message_envelope import author_of, message_envelope
from mailbatch.infrastructure.mime.message_header import read_header

SPECS = st.builds("{}@{}.org".format, st.text("abc", min_size=1, max_size=4), st.sampled_from(["x", "y"]))
BREAKS = st.sampled_from(["\n", "\r\n", "\r"])


def refusal(message: object) -> str:
    with pytest.raises(InvalidReservation) as caught:
        message_envelope(message)  # type: ignore[arg-type]
    [line] = caught.value.problems
    assert line.startswith("message: ")
    assert line.isprintable()
    return line


def test_to_cc_and_bcc_are_the_recipients_each_once():
    message = b"To: Ann <a@x.org>, b@x.org\nCc: c@x.org, a@x.org\nBcc: d@x.org\n\nhi\n"
    assert message_envelope(message).recipients == '"Ann" <a@x.org>, b@x.org, c@x.org, d@x.org'


def test_the_resent_fields_stand_in_place_of_the_others():
    message = b"Resent-From: me@x.org\nResent-To: new@x.org\nResent-Bcc: hid@x.org\nTo: old@x.org\nFrom: a@x.org\n\n"
    found = message_envelope(message)
    assert found.recipients == "new@x.org, hid@x.org"
    assert b"hid" not in found.message
    author = author_of(read_header(message.partition(b"\n\n")[0] + b"\n"))
    assert author is not None
    assert author.addr_spec == "me@x.org"


def test_the_sender_goes_before_the_authors():
    author = author_of(read_header(b"From: a@x.org, b@x.org\nSender: s@x.org\n"))
    assert author is not None
    assert author.addr_spec == "s@x.org"
    assert author_of(read_header(b"Subject: nobody\n")) is None


@pytest.mark.parametrize("name", ["Bcc", "BCC", "bcc ", "Resent-Bcc"])
@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_no_bcc_is_kept_and_nothing_else_changes(name, end):
    before, after = [b"From: a@x.org", b"X-Odd:   two  blanks "], [b"Subject: \xc3\xbc", b"", b"Bcc: in the body", b""]
    hidden = [f"{name}: secret@x.org,".encode(), b"\tsecret2@x.org"]
    found = message_envelope(end.join([*before, *hidden, *after]), "to@x.org")
    assert found.message == end.join([*before, *after])
    assert "secret" not in repr(found)


def test_given_recipients_go_before_what_the_header_says():
    assert message_envelope(b"To: no address\n\n", "ann@example.org").recipients == "ann@example.org"


@pytest.mark.parametrize(
    ("to", "recipients"),
    [
        (b"undisclosed-recipients:;", ""),
        (b'Friends: "a:b" <a@x.org>, b@x.org;, c@x.org', '"a:b" <a@x.org>, b@x.org, c@x.org'),
        (b"a@x.org,, \n ,b@x.org,", "a@x.org, b@x.org"),
        (b"=?utf-8?q?Zo=C3=AB?= <z@x.org>", '"Zo\u00eb" <z@x.org>'),
        (b'"Doe, (J)" <j@x.org> (a: comment, here)', '"Doe, (J) (a: comment, here)" <j@x.org>'),
        (b"", ""),
    ],
)
def test_lists_are_read_as_other_programs_write_them(to, recipients):
    assert message_envelope(b"To: " + to + b"\n\n").recipients == recipients


@given(st.lists(SPECS, min_size=1, unique=True), BREAKS, st.text("abc \r\n", max_size=20))
def test_the_standard_library_reads_the_same_recipients(specs, end, body):
    message = f"To: {f',{end} '.join(specs)}{end}{end}{body}".encode()
    parsed = message_from_bytes(message, policy=policy.compat32)
    assert message_envelope(message).recipients.split(", ") == [spec for _, spec in getaddresses([parsed["to"]])]


def test_a_message_of_the_email_package_is_written_with_crlf_and_as_it_is():
    message = EmailMessage()
    message["To"], message["Bcc"] = "Zo\u00eb <z@x.org>", "b@x.org"
    message.set_content("From here on\nnothing is escaped\n")
    found = message_envelope(message)
    assert found.recipients == '"Zo\u00eb" <z@x.org>, b@x.org'
    assert found.message.count(b"\n") == found.message.count(b"\r\n")
    assert b"\r\n\r\nFrom here on\r\nnothing is escaped\r\n" in found.message
    assert b"Bcc" not in found.message
    old = Message()
    old.set_payload("From here on\n")
    assert message_envelope(old).message == b"\r\nFrom here on\r\n"


@pytest.mark.parametrize(
    ("message", "why"),
    [
        (b"hello\n\nhi", "line 1 of its header is no field: 'hello'"),
        (b"A: 1\nfolded:\n x\n bad line\n\xff\xfe\x07\n\n", "line 5 of its header is no field: '\\xff\\xfe\\x07'"),
        (b"From ann Mon\nTo: a@x.org\nno field\n\n", "line 3 of its header"),
        (b" folded from nothing\n\n", "line 1 of its header"),
        (b"To: nonsense\n\n", 'To: "nonsense" is no address'),
        (b"Cc: \xff@x.org\n\n", "Cc: is not UTF-8"),
        (b"X: \x00\n\n", "NUL"),
        (b"Resent-To: a@x.org\nResent-To: b@x.org\n\n", "resent several times"),
        (b"X: " + b"x" * 2**21, "at most 2097152 are read"),
        ("To: a@x.org\n\n", "must be an EmailMessage or bytes, not str"),
        (None, "not NoneType"),
    ],
)
def test_what_cannot_be_read_is_refused_in_one_line(message, why):
    assert why in refusal(message)


def test_what_the_email_package_cannot_write_is_refused_in_one_line():
    message = EmailMessage()
    message["Subject"] = "x"
    message.set_payload("\ud800", charset=None)
    assert "the email package cannot write it" in refusal(message)
