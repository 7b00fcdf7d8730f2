"""How a relay is reached and greeted: several addresses, EHLO's name, HELO, TLS where there is none and the reverse."""

from __future__ import annotations

import socket
import ssl
from contextlib import ExitStack
from dataclasses import replace

import pytest
import trustme
from support.mails import always, kinds, message
from support.smtpfault import FaultServer, drop, listen_in_silence, say

from mailbatch.bootstrap import Parts, read_settings
from mailbatch.config import Settings
from mailbatch.domain.errors import SettingsError
from mailbatch.domain.outcome import Kind, RelayFault, Replied
from mailbatch.infrastructure.smtp import ehlo_name
from mailbatch.infrastructure.smtp.relay import Security, SmtpRelay
from mailbatch.infrastructure.smtp.transport import SmtpTransport


def send_one(relay):
    (outcome,) = SmtpTransport(relay, connections=1).send([message()], always)
    return outcome


def relay_of(server, **settings):
    return SmtpRelay(host="127.0.0.1", port=server.port, **{"timeout": 5, "data_timeout": 5} | settings)


@pytest.fixture
def addresses(monkeypatch):
    """Give the name relay.example the addresses of these servers, in this order."""

    def give(*ports):
        real = socket.getaddrinfo

        def found(host, port, *args, **kwargs):
            if host != "relay.example":
                return real(host, port, *args, **kwargs)
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port)) for port in ports]

        monkeypatch.setattr(socket, "getaddrinfo", found)
        return SmtpRelay(host="relay.example", port=25, timeout=2, data_timeout=5)

    return give


def closed_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


@pytest.mark.parametrize(
    "first",
    [
        say("421 4.3.2 not this one"),
        say("450 4.3.2 busy"),
        say("554 5.3.2 no SMTP service here"),
        say("what?"),
        drop,
        listen_in_silence,
    ],
    ids=["421", "450", "554", "garbage", "drop", "silence"],
)
def test_a_name_of_which_the_first_address_does_not_greet_us_is_reached_by_the_next(first, addresses):
    with FaultServer({"connect": first}) as one, FaultServer() as other:
        assert kinds(send_one(addresses(one.port, closed_port(), other.port))) == {"ann@example.org": Kind.ACCEPTED}
    assert len(other.journal) == 1


def test_a_name_of_which_no_address_greets_us_says_what_was_heard(addresses):
    with FaultServer({"connect": say("421 4.7.0 too busy")}) as one:
        outcome = send_one(addresses(one.port, closed_port(), closed_port()))
    assert isinstance(outcome, RelayFault)
    assert outcome.reason == "the greeting was refused: 421 4.7.0 too busy (3 addresses of the relay were tried)"
    assert str(outcome.reply) == "421 4.7.0 too busy"


@pytest.mark.parametrize("code", ["500", "502", "504", "550", "554"])
def test_a_relay_that_refuses_ehlo_is_greeted_by_helo(code):
    with FaultServer({"ehlo": say(f"{code} 5.5.1 what is EHLO?")}, helo="250 old.example") as server:
        outcome = send_one(relay_of(server))
    assert isinstance(outcome, Replied)
    assert [verb.upper() for verb in server.verbs] == ["EHLO", "HELO", "MAIL", "RCPT", "DATA", "QUIT"]
    assert server.journal[0].options == ""


@pytest.mark.parametrize("reply", ["550 5.7.1 [127.0.0.1] is not who you are", "421 4.7.0 try again later"])
def test_what_a_relay_says_to_refuse_ehlo_is_told(reply):
    with FaultServer({"ehlo": say(reply)}) as server:
        outcome = send_one(relay_of(server))
    assert outcome.reason == f"EHLO was refused: {reply}"
    assert str(outcome.reply) == reply


def test_a_relay_is_greeted_by_the_name_that_is_set(monkeypatch):
    monkeypatch.setattr(socket, "gethostname", lambda: "batch7.example.com")
    for settings, expected in (({}, "batch7.example.com"), ({"ehlo_name": "mail.example.org"}, "mail.example.org")):
        with FaultServer() as server:
            parts = Parts(Settings(smtp_url=f"smtp://127.0.0.1:{server.port}", **settings))
            send_one(replace(parts.sending.relay, timeout=5))
            parts.close()
        assert server.commands[0][1].split() == ["ehlo", expected]


@pytest.mark.parametrize("name", ["batch7", "localhost.localdomain", "9f2c01ab77de", "a_b.example.com", "10.0.0.7", ""])
def test_a_host_without_a_domain_is_greeted_by_its_address(name, monkeypatch):
    monkeypatch.setattr(socket, "gethostname", lambda: name)
    assert ehlo_name.host_name() is None
    with FaultServer() as server:
        parts = Parts(Settings(smtp_url=f"smtp://127.0.0.1:{server.port}"))
        send_one(replace(parts.sending.relay, timeout=5))
        parts.close()
    assert server.commands[0][1].split() == ["ehlo", "[127.0.0.1]"]


@pytest.mark.parametrize("name", ["mail.example.com", "xn--bcher-kva.example", "[192.0.2.1]", "[IPv6:2001:db8::1]"])
def test_a_name_that_may_stand_behind_ehlo_is_taken(name, monkeypatch):
    monkeypatch.setenv("MAILBATCH_EHLO_NAME", name)
    assert read_settings().ehlo_name == name


@pytest.mark.parametrize(
    "name",
    [
        "mailhost", "mail example.com", "bücher.example", "-a.example", "a..b", "[300.1.1.1]", "[2001:db8::1]",
        "192.0.2.1", "a.example\r\nMAIL FROM:<x@y>", "a" * 300 + ".example", "<a.example>",
    ],
)  # fmt: skip
def test_a_name_that_may_not_is_refused_in_one_line(name, monkeypatch):
    monkeypatch.setenv("MAILBATCH_EHLO_NAME", name)
    with pytest.raises(SettingsError) as refused:
        read_settings()
    assert "MAILBATCH_EHLO_NAME" in str(refused.value)
    assert "must be a full domain name (mail.example.com), or an address literal" in str(refused.value)
    assert len(str(refused.value).splitlines()) == 1


def test_smtp_at_a_port_of_tls_is_told_so():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        outcome = send_one(SmtpRelay(host="127.0.0.1", port=listener.getsockname()[1], timeout=0.3))
    assert outcome.reason == (
        "the greeting took longer than 0.3 s; if this port speaks TLS from the start, write smtps:// for smtp://"
    )


def test_an_alert_of_tls_in_place_of_a_greeting_is_told_so():
    with FaultServer({"connect": lambda session: session.write(b"\x15\x03\x01\x00\x02\x02\x46\r\n")}) as server:
        outcome = send_one(relay_of(server))
    assert outcome.reason.endswith("if this port speaks TLS from the start, write smtps:// for smtp://")


def test_smtps_at_a_port_without_tls_is_told_so():
    with FaultServer() as server:
        outcome = send_one(relay_of(server, security=Security.TLS))
    assert (
        "this port does not speak TLS from the start: write smtp:// for smtps:// (it uses STARTTLS)" in outcome.reason
    )


def test_each_address_of_a_name_is_asked_for_its_certificate(addresses, tmp_path):
    authority = trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("relay.example").configure_cert(context)
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    with ExitStack() as servers:
        one = servers.enter_context(FaultServer({"connect": say("421 not now")}, tls=context, implicit_tls=True))
        other = servers.enter_context(FaultServer(tls=context, implicit_tls=True))
        relay = replace(addresses(one.port, other.port), security=Security.TLS, ca_file=str(tmp_path / "ca.pem"))
        assert kinds(send_one(relay)) == {"ann@example.org": Kind.ACCEPTED}
    assert other.journal[0].encrypted
