"""SMTP_URL: what it says, and how a wrong one is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailbatch.infrastructure.smtp.relay import Security, SmtpRelay, parse_smtp_url


def test_a_plain_url_tries_starttls_on_port_25():
    assert parse_smtp_url("smtp://mail.example.org") == SmtpRelay(
        host="mail.example.org", port=25, security=Security.STARTTLS_TRY
    )


def test_a_password_makes_starttls_required():
    relay = parse_smtp_url("smtp://ann:secret@mail.example.org:587")
    assert relay.security is Security.STARTTLS_REQUIRED
    assert (relay.port, relay.username, relay.password) == (587, "ann", "secret")


@pytest.mark.parametrize(
    ("value", "security"),
    [("required", Security.STARTTLS_REQUIRED), ("try", Security.STARTTLS_TRY), ("off", Security.OFF)],
)
def test_starttls_is_said_in_words(value, security):
    assert parse_smtp_url(f"smtp://ann:secret@h:587?starttls={value}").security is security


def test_smtps_is_tls_from_the_first_byte_on_port_465():
    relay = parse_smtp_url("smtps://mail.example.org/")
    assert (relay.security, relay.port) == (Security.TLS, 465)


def test_user_and_password_are_percent_decoded():
    relay = parse_smtp_url("smtp://ann%40example.org:p%3Aa%2Fs%23s%C3%A9@h")
    assert (relay.username, relay.password) == ("ann@example.org", "p:a/s#sé")


def test_parameters_are_read_as_they_are_written():
    relay = parse_smtp_url("smtp://h?ca_file=/etc/a+b%20c.pem&timeout=2.5&data_timeout=600")
    assert (relay.ca_file, relay.timeout, relay.data_timeout) == ("/etc/a+b c.pem", 2.5, 600)


def test_parameters_without_a_value_are_not_given():
    assert parse_smtp_url("smtp://h?ca_file=&timeout=&data_timeout=") == parse_smtp_url("smtp://h")


def test_an_ipv6_relay_is_named_with_brackets():
    relay = parse_smtp_url("smtp://[::1]:2525")
    assert (relay.host, relay.name) == ("::1", "[::1]:2525")


def test_the_password_is_not_shown():
    assert "secret" not in repr(parse_smtp_url("smtp://ann:secret@h"))


@pytest.mark.parametrize(
    ("url", "part"),
    [
        ("http://h", "scheme"),
        ("h:25", "scheme"),
        ("", "scheme"),
        ("smtp://", "host"),
        ("smtp://[::1", "host"),
        ("smtp://h:0", "port"),
        ("smtp://h:99999", "port"),
        ("smtp://h:abc", "port"),
        ("smtp://ann@h", "password"),
        ("smtp://:canary@h", "user"),
        ("smtp://ann:canary%ff@h", "password"),
        ("smtp://ann:canary%0d%0aX@h", "password"),
        ("smtp://ann:canary%00@h", "password"),
        ("smtp://ann:canary@h\r\nQUIT", "url"),
        ("smtp://ann:canary /@h", "url"),
        ("smtp://ann:can/ary@h", "path"),
        ("smtp://ann:12?canary@h", "parameters"),
        ("smtp://ann:12#canary@h", "path"),
        ("smtp://ann:12/canary@h", "path"),
        ("smtp://ann:canary@h\u2100x", "host"),
        ("smtp://h/inbox", "path"),
        ("smtp://h?tls=on", "parameters"),
        ("smtp://h?starttls=maybe", "starttls"),
        ("smtp://h?starttls=off&starttls=off", "starttls"),
        ("smtps://h?starttls=required", "starttls"),
        ("smtp://h?timeout=0", "timeout"),
        ("smtp://h?timeout=nan", "timeout"),
        ("smtp://h?timeout=-1", "timeout"),
        ("smtp://h?data_timeout=1e9", "data_timeout"),
        ("smtp://h?data_timeout=86401", "data_timeout"),
    ],
)
def test_a_wrong_part_is_named_in_one_line_without_the_password(url, part):
    with pytest.raises(ValueError, match=f"^{part}: ") as refused:
        parse_smtp_url(url)
    assert "\n" not in str(refused.value)
    assert "canary" not in str(refused.value)
    assert refused.value.__cause__ is None


@given(st.text(max_size=40))
def test_no_text_makes_it_raise_anything_else(text):
    for url in (text, f"smtp://{text}", f"smtp://ann:{text}@h", f"smtp://h?{text}"):
        try:
            parse_smtp_url(url)
        except ValueError as error:
            assert "\n" not in str(error)  # noqa: PT017 (most texts are refused, some are not)
