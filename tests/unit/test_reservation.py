"""What can be reserved at all: the domain's own checks, and the draft's."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from uuid_utils.compat import uuid7

from mailbatch.application.acting.reserve import CheckDraft, Draft, with_names
from mailbatch.domain.address_list import address_list
from mailbatch.domain.errors import InvalidReservation, KeyConflict
from mailbatch.domain.own_headers import OWN_HEADERS
from mailbatch.domain.reservation import Mail, Reservation
from mailbatch.infrastructure.mime.addresses import read_addresses
from mailbatch.infrastructure.mime.fields import unwritable
from mailbatch.infrastructure.mime.finished import message_problem

LETTER = {"recipients": "ada@example.com", "subject": "Hello", "body_text": "Hello."}
BREAKS = ["\r", "\n", "\r\n", "\x0b", "\x0c", "\x1c", "\x85", "\u2028", "\u2029", "\x00"]
check = CheckDraft(
    new_id=uuid7,
    read_addresses=read_addresses,
    unwritable_headers=unwritable,
    check_message=message_problem,
    max_message_bytes=1024,
)


def problems_of(mail: dict[str, Any] | None = None, **given: Any) -> list[str]:
    with pytest.raises(InvalidReservation) as caught:
        check(Draft(mail=Mail(**{**LETTER, **(mail or {})}), **given))
    for line in caught.value.problems:
        assert line.isprintable(), line
    return caught.value.problems


@pytest.mark.parametrize("sign", BREAKS, ids=ascii)
@pytest.mark.parametrize("name", ["recipients", "cc", "bcc", "sender", "reply_to", "subject", "template"])
def test_no_line_of_a_header_can_be_broken(name, sign):
    value = f"ada@example.com{sign}Bcc: eve@example.com"
    assert any(line.startswith(f"{name}: ") for line in problems_of({name: value}))


@pytest.mark.parametrize("sign", BREAKS, ids=ascii)
def test_no_header_value_can_be_broken(sign):
    assert problems_of({"headers": {"X-A": f"a{sign}Bcc: eve@example.com"}})[0].startswith("headers: the value of X-A")


@pytest.mark.parametrize("name", ["X A", "X:A", "", "X\r\nBcc", "Ümlaut", "X" * 77])
def test_a_header_name_must_be_one(name):
    assert "is not a header name" in problems_of({"headers": {name: "x"}})[0]


@pytest.mark.parametrize("name", sorted(OWN_HEADERS))
def test_headers_that_would_forge_are_refused(name):
    assert "is set by mailbatch" in problems_of({"headers": {name.title(): "x"}})[0]


@pytest.mark.parametrize("name", ["subject", "body_text", "body_html", "idempotency_key", "tag"])
@pytest.mark.parametrize(("text", "said"), [("a\x00b", "NUL"), ("a\ud800b", "lone surrogate")])
def test_what_no_database_stores_is_refused(name, text, said):
    given = {name: text}
    found = problems_of(**given) if name in {"idempotency_key", "tag"} else problems_of(given)
    assert any(line.startswith(f"{name}: ") and said in line for line in found)


@pytest.mark.parametrize(
    "context", [{"x": float("nan")}, {"x": object()}, {"x": "a\x00b"}, {"x": "a\ud800b"}, {"x\x00": 1}]
)
def test_a_context_must_be_json_that_can_be_stored(context):
    assert problems_of({"context": context})[0].startswith("context: ")


@pytest.mark.parametrize(
    ("context", "said"),
    [
        (
            {"order": {"size": {1}}},
            "context: 'order.size' is of the type set; give a text, a number, a list or a mapping",
        ),
        ({"a": [1, {"b": timedelta(1)}]}, "context: 'a[1].b' is of the type datetime.timedelta; "),
        ({"raw": b"x"}, "context: 'raw' is of the type bytes; "),
        ({"price": Decimal("NaN")}, "context: 'price' is NaN, which is no number in JSON; "),
        ({"price": Decimal("1e999999999")}, "context: 'price' is 1E+999999999, which is no number in JSON; "),
        ({"x": float("inf")}, "context: 'x' is inf, which is no number in JSON; "),
        ({"a": {frozenset(): 1}}, "context: 'a (a key)' is of the type frozenset; "),
        ({"a": {(1, 2): 1}}, "context: 'a (a key)' is of the type tuple; a key is a text or a number"),
        (["a"], "context: is list, not a JSON object"),
    ],
)
def test_what_no_rule_makes_json_of_is_named_with_its_place(context, said):
    assert problems_of({"context": context, "cc": "x"})[0].startswith(said)
    assert problems_of({"context": context, "cc": "x"})[-1].startswith('cc: "x" is no address')


def test_a_context_may_be_deep_but_not_endless():
    deep: dict[str, Any] = {}
    for _ in range(100_000):
        deep = {"x": deep}
    assert problems_of({"context": deep})[0].startswith("context: cannot be written as JSON")


@pytest.mark.parametrize(
    "when",
    [datetime(1969, 12, 31, 23, 59, tzinfo=UTC), datetime(9999, 12, 31, tzinfo=UTC), datetime.min.replace(tzinfo=UTC)],
)
def test_years_that_databases_disagree_about_are_refused(when):
    assert "is outside 1970–9999" in problems_of(scheduled_at=when)[0]


def test_a_naive_time_is_refused():
    naive = datetime(2026, 1, 1)  # noqa: DTZ001 - that is the point
    assert problems_of(scheduled_at=naive, expires_at=naive) == [
        "scheduled_at: 2026-01-01T00:00:00 has no time zone; write 2026-01-01T00:00:00Z or +09:00",
        "expires_at: 2026-01-01T00:00:00 has no time zone; write 2026-01-01T00:00:00Z or +09:00",
    ]


def test_a_mail_that_would_expire_before_it_is_due_is_refused():
    when = datetime(2026, 1, 1, tzinfo=UTC)
    same = when.astimezone(timezone(timedelta(hours=9)))
    assert problems_of(scheduled_at=when, expires_at=same) == [
        "expires_at: is not after scheduled_at, so the mail could never go out"
    ]


@pytest.mark.parametrize("priority", [2**31, -(2**31) - 1, 2**63, "1", 1.5, None])
def test_a_priority_is_a_32_bit_integer(priority):
    assert "is not a 32-bit integer" in problems_of(priority=priority)[0]


@pytest.mark.parametrize(
    ("mail", "said"),
    [
        ({"recipients": " "}, "recipients: is empty"),
        ({"subject": None}, "subject: is missing"),
        ({"body_text": None}, "body_text: is missing"),
        ({"recipients": "a@example.com, nobody"}, 'recipients: "nobody" is no address'),
        ({"cc": "nobody"}, 'cc: "nobody" is no address'),
        ({"sender": "@example.com"}, "sender: "),
        ({"body_text": "x" * 1025}, "the bodies have 1025 bytes"),
        ({"body_text": "ü" * 513}, "the bodies have 1026 bytes"),
    ],
)
def test_what_is_missing_or_wrong_is_said(mail, said):
    assert problems_of(mail)[0].startswith(said)


def test_everything_that_is_wrong_is_said_at_once():
    found = problems_of({"subject": "a\nb", "cc": "x", "headers": {"To": "y"}}, priority=2**40, tag="a\nb")
    assert [line.partition(":")[0] for line in found] == ["subject", "headers", "cc", "tag", "priority"]


def test_a_template_needs_neither_subject_nor_body():
    made = check(Draft(mail=Mail(recipients="ada@example.com", template="welcome")))
    assert isinstance(made, Reservation)
    assert made.id.version == 7


def test_line_breaks_in_a_subjects_source_may_belong_to_its_template():
    check(Draft(mail=Mail(recipients="a@example.com", subject="{% if x %}\nHi{% endif %}", body_text="x")))


def test_a_long_address_without_an_end_is_soon_refused():
    began = time.process_time()
    with pytest.raises(InvalidReservation, match="more than one address"):
        address_list("to", ['"\\' * 200_000])
    assert time.process_time() - began < 1


NAMES = {"recipients": "to", "body_text": "text", "body_html": "html", "scheduled_at": "at", "expires_at": "expires"}


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('recipients: "recipients" is no address', 'to: "recipients" is no address'),
        (
            "body_text: is missing; give body_text, body_html or a template",
            "text: is missing; give text, html or a template",
        ),
        ("body_html line 3: unexpected 'body_html'", "html line 3: unexpected 'body_html'"),
        ("expires_at: is not after scheduled_at, so it", "expires: is not after at, so it"),
        ("headers: X-A is mailbatch's own, not scheduled_at's", "headers: X-A is mailbatch's own, not at's"),
        ("subject: is missing", "subject: is missing"),
    ],
)
def test_what_is_refused_is_told_in_the_callers_words_and_what_is_quoted_stays(line, said):
    with pytest.raises(InvalidReservation) as caught, with_names(NAMES):
        raise InvalidReservation([line])
    assert caught.value.problems == [said]
    with pytest.raises(KeyConflict, match="which differs in at"), with_names(NAMES):
        raise KeyConflict("which differs in scheduled_at")


# --- pairs of a name and an address ---


@pytest.mark.parametrize(
    ("asked", "text"),
    [
        (("Müller, Zoë", "zoe@example.com"), '"Müller, Zoë" <zoe@example.com>'),
        ((None, "zoe@example.com"), "zoe@example.com"),
        (("  ", " zoe@example.com "), "zoe@example.com"),
        (('Z "Zo" \\', "zoe@example.com"), r'"Z \"Zo\" \\" <zoe@example.com>'),
        (("Zoë\r\nBcc: eve@example.com\x0b", '"z..e"@example.com'), '"Zoë Bcc: eve@example.com" <"z..e"@example.com>'),
        (("zoe@example.com", "Zoe@example.com"), '"zoe@example.com" <Zoe@example.com>'),
        (("@zoe", "zoe@example.com"), '"@zoe" <zoe@example.com>'),
        (("=?utf-8?q?x?=", "zoe@example.com"), r'"\=?utf-8?q?x?=" <zoe@example.com>'),
        ([("A, B", "a@x.org"), "b@x.org", ["", "c@x.org"]], '"A, B" <a@x.org>, b@x.org, c@x.org'),
        ([("eve@example.com", "zoe@example.com")], '"eve@example.com" <zoe@example.com>'),
        (("a@example.com", "b@example.com", "c@example.com"), "a@example.com, b@example.com, c@example.com"),
        (["a@example.com", "B (x, y) <b@example.com>"], "a@example.com, B (x, y) <b@example.com>"),
    ],
)  # fmt: skip
def test_a_pair_is_one_address_whatever_its_name_is(asked, text):
    assert address_list("to", asked) == text
    read = read_addresses(text)
    pairs = [asked] if isinstance(asked, tuple) and len(asked) == 2 else asked
    assert len(read) == len(pairs)
    for found, one in zip(read, pairs, strict=True):
        if not isinstance(one, str):
            assert found.display_name == " ".join((one[0] or "").split())


HOSTILE = [
    "<",
    ">",
    '"',
    "\\",
    ",",
    ";",
    ":",
    "(",
    ")",
    "@",
    "=?utf-8?q?x?=",
    "\r\n",
    "eve@example.com",
    " ",
    "é",
    "\\)",
]


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(HOSTILE) | st.text(max_size=5), max_size=12).map("".join))
def test_a_name_from_a_form_never_reaches_another(name):
    text = address_list("to", [(name, "zoe@example.com")])
    try:
        [found] = read_addresses(text)
    except ValueError as error:
        assert "U+" in str(error)  # noqa: PT017 - a control character, or half of one
        return
    assert (found.display_name, found.addr_spec) == (" ".join(name.split()), "zoe@example.com")


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(HOSTILE), max_size=12).map("".join))
@example('eve@example.com (a" (b) ) , (")')
def test_an_entry_of_a_list_never_becomes_two(name):
    try:
        assert len(read_addresses(address_list("to", [f"{name} <zoe@example.com>"]))) == 1
    except (InvalidReservation, ValueError):
        return


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (("Zoë", "zoe@example.com, eve@example.com"), "is not an address; a pair is (name, address)"),
        (("Zoë", "Zoë <zoe@example.com>"), "is not an address"),
        (("Zoë", "x@y.org>, <eve@example.com"), "is not an address"),
        (("Zoë", ""), "is not an address"),
        ([("Zoë", "zoe")], "is not an address"),
        (("eve@example.com", "zoe@example.com"), "may be two addresses; write ['eve@example.com', 'zoe@example.com']"),
        (("Ann <ann@example.com>", "bob@example.com"), "may be two addresses"),
        (["a@example.com, b@example.com"], "is more than one address"),
        (['"open'], "is more than one address"),
        (["open ("], "is more than one address"),
        ([5], "5 is neither an address nor a pair"),
        ([("a", "b", "c")], "is neither an address nor a pair"),
        (5, "must be text or a list of addresses, not int"),
        (b"a@example.com", "not bytes"),
    ],
)
def test_what_is_no_pair_and_no_address_is_refused(asked, said):
    with pytest.raises(InvalidReservation) as caught:
        address_list("to", asked)
    [line] = caught.value.problems
    assert line.startswith("to: ")
    assert said in line
    assert line.isprintable()


# --- grammars of header fields ---


@pytest.mark.parametrize(
    ("headers", "said"),
    [
        ({"List-Unsubscribe": "click here"}, 'headers: List-Unsubscribe: "click here" is no URI; write <https://'),
        ({"List-Unsubscribe": "<https://x.example/a b>"}, "has a blank; write %20 in its place"),
        ({"List-Unsubscribe": f"<https://x.example/{'a' * 1000}>"}, "a line holds 998"),
        ({"List-Id": "Bücher"}, "is no list id; write Name <news.example.org>"),
        ({"List-Id": "Bücher <bücher.example>"}, "is no list id"),
        ({"list-id": ["a <a.example>", "b <b.example>"]}, "headers: list-id: may occur once"),
        ({"References": "<bestellung-ü@example.org>"}, '"<bestellung-ü@example.org>" is no message id'),
        ({"In-Reply-To": "your letter of May"}, '"your" is no message id'),
        ({"Errors-To": "Zoë"}, '"Zoë" is no address'),
        ({"Auto-Submitted": "auto-generated ü"}, "has the character U+00FC; only printable ASCII"),
        ({"X-A": 5}, "headers: the value of 'X-A' is not text, nor a list of texts"),
        ({"X-A": ["a", None]}, "nor a list of texts"),
        ({"X-A": ["a", "b\r\nBcc: eve@example.com"]}, "headers: the value of X-A: has a line break"),
        ({5: "a"}, "5 is not a header name"),
    ],
)
def test_a_header_that_its_grammar_cannot_hold_is_refused(headers, said):
    [problem] = problems_of({"headers": headers})
    assert said in problem


# --- finished messages and files -------------------------------------------------------------------------------------

SIGNED = b"From: a@x.org\r\nContent-Type: multipart/signed; boundary=s\r\n\r\n--s\r\n\r\n%s\r\n--s--\r\n"


def messages_problems(message: bytes) -> list[str]:
    with pytest.raises(InvalidReservation) as caught:
        replace(check, max_message_bytes=4096)(Draft(mail=Mail(recipients="ada@example.com", message=message)))
    return caught.value.problems


@pytest.mark.parametrize(
    ("message", "said"),
    [
        (b"no header\n\nhi", "message: line 1 of its header is no field"),
        (SIGNED % (b"x" * 999), "message: part 1 (text/plain) has a line of more than 998 bytes"),
        (SIGNED % b"x\x00", "message: part 1 (text/plain) has a NUL byte"),
        (b"X: " + b"x" * 5000, "message: has 5003 bytes (0.0 MB); MAILBATCH_MAX_MESSAGE_BYTES allows 4096"),
        (b"DKIM-Signature: a\r\nX: " + b"x" * 999 + b"\r\n\r\n", "message: its header has a line of more than 998"),
    ],
)
def test_a_message_that_no_relay_could_get_is_refused_in_one_line(message, said):
    [problem] = messages_problems(message)
    assert problem.startswith(said)


@pytest.mark.parametrize(
    "message",
    [
        SIGNED % "gr\u00fc\u00dfe".encode(),
        b"From: a@x.org\nContent-Type: multipart/mixed; boundary=b\n\n--b\n\nno end\n",
        b"From: a@x.org\n\n" + b"x" * 900,
        b"Subject: \xc3\xbc\n\n\xff",
    ],
)
def test_a_message_that_some_relay_could_get_is_taken(message):
    assert check(Draft(mail=Mail(recipients="ada@example.com", message=message))).mail.message == message


def test_a_message_keeps_its_own_id_and_any_other_mail_gets_one_later():
    message = b"Message-ID: <own@x.org>\n\nhi"
    assert check(Draft(mail=Mail(recipients="ada@example.com", message=message))).message_id == "<own@x.org>"
    assert check(Draft(mail=Mail(recipients="ada@example.com", message=b"X: y\n\nhi"))).message_id is None
    assert check(Draft(mail=Mail(**LETTER))).message_id is None


def test_a_file_that_breaks_a_rule_is_refused_with_all_other_problems():
    found = problems_of({"attachments": [{"path": "../x"}, {"content": "A" * 1600, "filename": "b"}], "cc": "x"})
    assert [line.partition(";")[0] for line in found[1:]] == [
        "attachments: ../x: has .. in its path, which may not lead upwards",
        "attachments: b: has 1200 bytes, 1644 on the wire",
    ]
