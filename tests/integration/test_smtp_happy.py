"""Against a relay that somebody else wrote: aiosmtpd, in clear and encrypted, with a login and with SMTPUTF8."""

from __future__ import annotations

import ssl
from contextlib import contextmanager

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, LoginPassword
from support.letters import composed
from support.mails import always, kinds, message, the_reply

from mailbatch.domain.outcome import Kind, RelayFault
from mailbatch.infrastructure.smtp.check import check
from mailbatch.infrastructure.smtp.relay import parse_smtp_url
from mailbatch.infrastructure.smtp.transport import SmtpTransport


class Inbox:
    """Keeps the envelopes that it was given."""

    def __init__(self):
        self.envelopes = []

    async def handle_RCPT(self, server, session, envelope, address, rcpt_options):  # noqa: N802 (aiosmtpd's name)
        if address.startswith("refuse"):
            return "550 5.1.1 no such user"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):  # noqa: N802
        self.envelopes.append(envelope)
        return "250 2.0.0 queued"


class AnyPort(Controller):
    """Takes a free port, and then knows which."""

    def _trigger_server(self):
        self.port = self.server.sockets[0].getsockname()[1]
        super()._trigger_server()


@contextmanager
def aiosmtpd(**options):
    inbox = Inbox()
    controller = AnyPort(inbox, hostname="127.0.0.1", port=0, **options)
    controller.start()
    inbox.port = controller.port
    try:
        yield inbox
    finally:
        controller.stop()


@pytest.fixture
def context(authority):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    return context


def authenticator(server, session, envelope, mechanism, auth_data):
    known = isinstance(auth_data, LoginPassword) and auth_data.password == b"secret@:/"
    return AuthResult(success=known, handled=False)


def send(url, *messages):
    return list(SmtpTransport(parse_smtp_url(url), connections=2).send(messages, always))


def test_mails_arrive_as_they_were_written():
    body = b".dot\r\n..\r\n.\r\nend\r\n"
    messages = [message(f"ann{n}@example.org", "bob@example.org", body=body) for n in range(10)]
    with aiosmtpd() as inbox:
        outcomes = send(f"smtp://127.0.0.1:{inbox.port}", *messages)
    assert all(set(kinds(outcome).values()) == {Kind.ACCEPTED} for outcome in outcomes)
    assert {str(the_reply(outcome)) for outcome in outcomes} == {"250 2.0.0 queued"}
    arrived = {(e.mail_from, tuple(e.rcpt_tos), e.content) for e in inbox.envelopes}
    assert arrived == {(m.envelope.sender, m.envelope.recipients, m.data) for m in messages}


def test_a_refused_recipient_does_not_keep_the_others_from_it():
    with aiosmtpd() as inbox:
        (outcome,) = send(f"smtp://127.0.0.1:{inbox.port}", message("refuse@x.org", "ann@x.org"))
    assert kinds(outcome) == {"refuse@x.org": Kind.REJECTED, "ann@x.org": Kind.ACCEPTED}
    assert inbox.envelopes[0].rcpt_tos == ["ann@x.org"]


def test_eight_bits_are_announced():
    with aiosmtpd() as inbox:
        send(f"smtp://127.0.0.1:{inbox.port}", message(body="é\r\n".encode(), eight_bit=True))
    assert "BODY=8BITMIME" in inbox.envelopes[0].mail_options
    assert inbox.envelopes[0].content.endswith("é\r\n".encode())


def test_addresses_beyond_ascii_go_out_by_smtputf8():
    with aiosmtpd(enable_SMTPUTF8=True) as inbox:
        (outcome,) = send(f"smtp://127.0.0.1:{inbox.port}", message("ünal@example.org", smtputf8=True))
    assert kinds(outcome) == {"ünal@example.org": Kind.ACCEPTED}
    assert inbox.envelopes[0].rcpt_tos == ["ünal@example.org"]
    assert "SMTPUTF8" in inbox.envelopes[0].mail_options


def test_quoted_and_long_local_parts_are_accepted():
    given = ['"aaa..b"@docomo.example', '"a b,c"@example.org', f"bounces+{'v' * 100}@example.org"]
    with aiosmtpd() as inbox:
        (outcome,) = send(f"smtp://127.0.0.1:{inbox.port}", composed(recipients=", ".join(given)))
    assert kinds(outcome) == dict.fromkeys(given, Kind.ACCEPTED)
    # It reads them by Python's email, which leaves out quotes round dots.
    assert inbox.envelopes[0].rcpt_tos == ["aaa..b@docomo.example", *given[1:]]


def test_addresses_beyond_ascii_are_refused_where_it_is_not_offered():
    with aiosmtpd(enable_SMTPUTF8=False) as inbox:
        refused, taken = send(
            f"smtp://127.0.0.1:{inbox.port}", message("ünal@example.org", smtputf8=True), message("ann@example.org")
        )
    assert the_reply(refused).enhanced == "5.6.7"
    assert kinds(taken) == {"ann@example.org": Kind.ACCEPTED}


def test_a_mail_beyond_the_relays_size_is_refused_by_name():
    with aiosmtpd(data_size_limit=1000) as inbox:
        (outcome,) = send(f"smtp://127.0.0.1:{inbox.port}", message(body=b"x" * 900 + b"\r\n" + b"y" * 900 + b"\r\n"))
    assert the_reply(outcome).code == 552
    assert inbox.envelopes == []


def test_starttls_and_a_login(context, ca_file):
    options = {"tls_context": context, "require_starttls": True, "auth_required": True, "authenticator": authenticator}
    with aiosmtpd(**options) as inbox:
        url = f"smtp://ann:secret%40%3A%2F@127.0.0.1:{inbox.port}?ca_file={ca_file}"
        outcomes = send(url, *[message() for _ in range(5)])
        said = check(parse_smtp_url(url))
    assert [kinds(outcome) for outcome in outcomes] == [{"ann@example.org": Kind.ACCEPTED}] * 5
    assert len(inbox.envelopes) == 5
    assert "TLSv1.3, login accepted" in said


def test_a_wrong_password_is_hopeless(context, ca_file):
    options = {"tls_context": context, "auth_required": True, "authenticator": authenticator}
    with aiosmtpd(**options) as inbox:
        (outcome,) = send(f"smtp://ann:canary@127.0.0.1:{inbox.port}?ca_file={ca_file}", message())
    assert isinstance(outcome, RelayFault)
    assert outcome.hopeless
    assert "canary" not in outcome.reason


def test_tls_from_the_first_byte(context, ca_file):
    with aiosmtpd(ssl_context=context) as inbox:
        (outcome,) = send(f"smtps://127.0.0.1:{inbox.port}?ca_file={ca_file}", message())
    assert kinds(outcome) == {"ann@example.org": Kind.ACCEPTED}
