"""What a relay need not be asked about, and how a body is written."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.mails import message

from mailbatch.infrastructure.smtp.envelope import Extensions, dot_stuffed, permanent_refusal
from mailbatch.infrastructure.smtp.place import Backoff

NOTHING = Extensions()
ALL = Extensions.of({"size": "1000", "8bitmime": "", "smtputf8": ""})


def test_an_ordinary_message_is_fit_for_any_relay():
    assert permanent_refusal(message(), NOTHING) is None


@pytest.mark.parametrize(
    "body", [b"a\nb\r\n", b"a\rb\r\n", b"a\r\n.\n", b"a\r\n.\r", b"\n.\nMAIL FROM:<x@y>\r\n", b"a"]
)
def test_bare_line_ends_never_reach_a_relay(body):
    assert permanent_refusal(message(body=body), ALL).enhanced == "5.6.0"


@given(st.lists(st.sampled_from([b"\r\n", b"\r", b"\n", b".", b"a"])).map(b"".join))
def test_only_whole_line_ends_are_let_through(body):
    rest = body.replace(b"\r\n", b"")
    whole = body.endswith(b"\r\n") and b"\r" not in rest and b"\n" not in rest
    assert (permanent_refusal(replace(message(), data=body), ALL) is None) == whole


@pytest.mark.parametrize(
    "address",
    [
        "",
        "ann",
        "ann@",
        "a@x.org> BODY=8BITMIME <b@x.org",
        "a@x.org\r\nDATA",
        "a@x.org\x00",
        "a b@x.org",
        "a@x.org,b@y.org c",
        '"a"b"@x.org',
        '"a\r\nb"@x.org',
        "a@x@y.org",
        "<a@x.org>",
    ],
)
def test_an_address_that_would_end_the_command_is_refused(address):
    assert permanent_refusal(message("ann@x.org", address), ALL).enhanced == "5.1.3"
    if address:
        assert permanent_refusal(message(sender=address), ALL).enhanced == "5.1.7"


@pytest.mark.parametrize("address", ["a+b@x.org", '"a b>"@x.org', r'"a\"b"@x.org', "a@[127.0.0.1]"])
def test_odd_addresses_are_addresses(address):
    assert permanent_refusal(message(address, sender=address), ALL) is None


def test_the_null_sender_is_a_sender():
    assert permanent_refusal(message(sender=""), NOTHING) is None


def test_smtputf8_must_be_offered_to_an_address_that_needs_it():
    reply = permanent_refusal(message("ünal@example.org"), Extensions.of({"8bitmime": ""}))
    assert (reply.code, reply.enhanced) == (553, "5.6.7")
    assert permanent_refusal(message("ünal@example.org"), ALL) is None
    assert permanent_refusal(message(smtputf8=True), NOTHING).code == 553


def test_eight_bits_must_be_offered_to_a_body_that_has_them():
    reply = permanent_refusal(message(body=b"\xc3\xa9\r\n", eight_bit=True), NOTHING)
    assert (reply.code, reply.enhanced) == (554, "5.6.3")
    assert permanent_refusal(message(body=b"\xc3\xa9\r\n", eight_bit=True), Extensions.of({"8bitmime": ""})) is None


def test_a_message_beyond_the_announced_size_is_not_sent():
    reply = permanent_refusal(message(body=b"x" * 1000 + b"\r\n"), Extensions.of({"size": "1000"}))
    assert (reply.code, reply.enhanced) == (552, "5.3.4")


@pytest.mark.parametrize("size", ["", "0", "none", "²", "9" * 5000])
def test_a_size_that_says_nothing_is_no_limit(size):
    assert permanent_refusal(message(body=b"x" * 1000 + b"\r\n"), Extensions.of({"size": size})) is None


def test_no_reply_of_ours_holds_an_address():
    assert "@" not in permanent_refusal(message("a b@secret.org"), ALL).text


@given(st.lists(st.sampled_from([b"\r\n", b".", b"a", b".."])).map(b"".join))
def test_stuffing_keeps_the_end_of_the_body_out_and_can_be_undone(text):
    data = text + b"\r\n"
    sent = dot_stuffed(data)
    assert b"\r\n.\r\n" not in b"\r\n" + sent
    assert b"\r\n".join(line.removeprefix(b".") for line in sent.split(b"\r\n")) == data


def test_a_faulty_relay_is_left_alone_for_longer_and_longer():
    backoff = Backoff()
    assert [backoff.pause() for _ in range(8)] == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]
    backoff.reset()
    assert backoff.pause() == 0.1
