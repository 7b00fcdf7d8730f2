"""Mails as a reader reads them: who is in their address fields, and what their extra headers say."""

from __future__ import annotations

import re
from email.header import decode_header, make_header
from email.parser import BytesParser
from email.policy import compat32, default
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.letters import ADDRESSES, HEADERS, composed
from support.long import examples

from mailbatch.domain.errors import CannotCompose
from mailbatch.domain.reservation import header_problems
from mailbatch.infrastructure.mime.fields import _GRAMMARS, unwritable

if TYPE_CHECKING:
    from email.message import EmailMessage

OURS = {"From", "To", "Subject", "Date", "Message-ID", "MIME-Version", "Content-Type", "Content-Transfer-Encoding"}


def read(data: bytes) -> EmailMessage:
    return BytesParser(policy=default).parsebytes(data)  # type: ignore[arg-type]


def unfolded(data: bytes) -> dict[str, list[str]]:
    """The fields that are not ours, as text on one line, encoded words decoded."""
    fields: dict[str, list[str]] = {}
    for name, value in BytesParser(policy=compat32).parsebytes(data).items():
        if name not in OURS:
            text = str(make_header(decode_header(value.replace("\r\n", "")))) if "=?utf-8?" in value else value
            fields.setdefault(name, []).append(text.replace("\r\n", "").strip())
    return fields


@pytest.mark.parametrize("given", ADDRESSES)
def test_who_is_given_is_who_is_read(given):
    message = composed(recipients=given)
    found = [(one.display_name, one.addr_spec) for one in read(message.data)["To"].addresses]
    # Python leaves the quotes out where a local part has nothing but dots to be quoted for.
    assert found == [(name, spec.replace('"aaa..b"', "aaa..b")) for name, spec in ADDRESSES[given]]
    assert list(message.envelope.recipients) == [spec for _, spec in ADDRESSES[given]]


@pytest.mark.parametrize(("headers", "expected"), HEADERS, ids=lambda one: ascii(one)[:50])
def test_a_field_is_written_in_its_own_grammar(headers, expected):
    assert unwritable(headers) == []
    message = composed(headers=headers)
    assert message.data.isascii()
    for line in message.data.split(b"\r\n"):
        assert len(line) <= 998
        assert len(line) <= 78 or b"=?utf-8?" not in line
    assert unfolded(message.data) == expected


@pytest.mark.parametrize(("headers", "expected"), HEADERS, ids=lambda one: ascii(one)[:50])
def test_encoded_words_stand_only_where_a_grammar_has_room_for_them(headers, expected):
    for name, value in BytesParser(policy=compat32).parsebytes(composed(headers=headers).data).items():
        bare = value.partition("<")[0] if name.lower() in {"list-id", "errors-to"} else value
        if name.lower() in {"list-unsubscribe", "references", "feedback-id", "list-unsubscribe-post", "auto-submitted"}:
            assert "=?utf-8?" not in value
        elif "=?utf-8?" in value:
            assert "=?utf-8?" in bare


PIECES = st.sampled_from(
    [
        *'<>()",;:@\\ \t',
        "ü",
        "=?utf-8?q?a=0Ab?=",
        "=?utf-8?q?=C3=BC?=",
        "https://",
        "mailto:",
        "a@x.org",
        "bücher.example",
        "<a@x.org>",
        "%",
        "x" * 500,
        "\u2028",
        "\x07",
        "�",
        "NO",
        "\u200b",
        "[",
        "//",
    ]
)
VALUES = st.lists(PIECES, max_size=6).map("".join) | st.text(max_size=20)


@examples(300)
@given(st.sampled_from([*_GRAMMARS, "X-Free"]), VALUES | st.lists(VALUES, max_size=3))
def test_any_value_is_written_within_its_grammar_or_refused_in_one_line(name, value):
    values = value if isinstance(value, list) else [value]
    if problems := list(header_problems({name: value})):
        assert all(map(str.isprintable, problems))
        return
    if problems := unwritable({name: value}):
        [line] = problems
        assert line.startswith(f"headers: {name}: ")
        assert line.isprintable()
        assert len(line) < 1_000
        return
    message = composed(headers={name: value})
    head = message.data.partition(b"\r\n\r\n")[0]
    assert head.isascii() or message.envelope.smtputf8
    fields = BytesParser(policy=compat32).parsebytes(message.data).get_all(name, [])
    assert len(fields) <= max(len(values), 1)
    # Nothing that is read into an angle bracket is an encoded word.
    if name in {"references", "in-reply-to", "list-unsubscribe", "auto-submitted", "list-id"}:
        for inner in re.findall("<([^<>]*)>", "".join(fields)):
            assert "=?utf-8?" not in inner or "=?utf-8?" in "".join(values)


def test_an_address_field_reads_back_as_addresses():
    data = composed(headers={"Errors-To": '"Müller, Zoë" <zoe@example.org>, ACME (UK) <a@example.org>'}).data
    [value] = BytesParser(policy=compat32).parsebytes(data).get_all("Errors-To")
    header = default.header_factory("To", value.replace("\r\n", ""))
    assert [(a.display_name, a.addr_spec) for a in header.addresses] == [
        ("Müller, Zoë", "zoe@example.org"),
        ("ACME (UK)", "a@example.org"),
    ]


def test_an_address_beyond_ascii_in_an_extra_field_asks_for_smtputf8():
    message = composed(headers={"Errors-To": "jörg@example.org"})
    assert message.envelope.smtputf8
    assert not composed(headers={"Errors-To": "Jörg <j@example.org>"}).envelope.smtputf8


def test_what_no_grammar_can_hold_is_that_mails_error():
    with pytest.raises(CannotCompose) as caught:
        composed(headers={"X-A": "1", "References": "<ü@example.org>"})
    assert caught.value.errors == [
        'headers: References: "<ü@example.org>" is no message id; write <id@example.org> in ASCII, with blanks between'
    ]


@pytest.mark.parametrize("comment", ["Zoë, UK", "x" * 200, "ü" * 100])
def test_a_comment_beside_a_uri_is_kept(comment):
    data = composed(headers={"List-Help": f"<https://example.org/help> ({comment})"}).data
    assert unfolded(data) == {"List-Help": [f"<https://example.org/help> ({comment})"]}


def test_a_message_id_that_looks_encoded_is_written_as_it_is():
    data = composed(headers={"In-Reply-To": "<a=?utf-8?q?b?=@x.org>"}).data
    assert b"\r\nIn-Reply-To: <a=?utf-8?q?b?=@x.org>\r\n" in data


def test_a_comment_with_a_hidden_line_break_is_refused():
    [line] = unwritable({"List-Help": "<https://example.org/> (=?utf-8?q?a=0Ab?=)"})
    assert "U+000A" in line
    [line] = unwritable({"List-Id": "=?utf-8?q?a=0Ab?= <n.example.org>"})
    assert "U+000A" in line
