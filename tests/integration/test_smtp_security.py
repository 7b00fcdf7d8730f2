"""TLS and passwords: verified or not at all."""

from __future__ import annotations

import ssl
import sys
import time
from datetime import UTC, datetime

import pytest
from support.mails import always, kinds, message
from support.smtpfault import OFFERS, FaultServer, drop, listen_in_silence, raw, reset, say

from mailbatch.domain.body import Body
from mailbatch.domain.outcome import Kind, RelayFault
from mailbatch.infrastructure.smtp.access_token import KEPT, AccessToken, token_from_command, token_from_file
from mailbatch.infrastructure.smtp.check import check
from mailbatch.infrastructure.smtp.errors import RelayError
from mailbatch.infrastructure.smtp.relay import Security, SmtpRelay
from mailbatch.infrastructure.smtp.transport import SmtpTransport
from mailbatch.infrastructure.spool import Spool

LOGIN = ("ann@example.org", "canary-p\u00e4ssword")
ENCRYPTED = [Security.TLS, Security.STARTTLS_REQUIRED, Security.STARTTLS_TRY]


def server_context(authority, *names, **options):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*(names or ("127.0.0.1",)), **options).configure_cert(context)
    return context


@pytest.fixture
def tls(authority):
    return server_context(authority)


def serve(tls, security=Security.STARTTLS_REQUIRED, script=None, **options):
    return FaultServer(script, tls=tls, implicit_tls=security is Security.TLS, **options)


def send_one(server, security=Security.STARTTLS_REQUIRED, ca_file=None, login=None):
    username, password = login or (None, None)
    relay = SmtpRelay(
        host="127.0.0.1",
        port=server.port,
        security=security,
        ca_file=ca_file,
        username=username,
        password=password,
        timeout=5,
        data_timeout=5,
    )
    (outcome,) = SmtpTransport(relay).send([message()], always)
    return outcome


@pytest.mark.parametrize("security", ENCRYPTED)
def test_mail_goes_out_encrypted(security, tls, ca_file):
    with serve(tls, security) as server:
        outcome = send_one(server, security, ca_file)
    assert kinds(outcome) == {"ann@example.org": Kind.ACCEPTED}
    assert server.journal[0].encrypted


@pytest.mark.parametrize("security", ENCRYPTED)
def test_an_unknown_authority_is_refused(security, tls):
    with serve(tls, security) as server:
        outcome = send_one(server, security)
    assert isinstance(outcome, RelayFault)
    assert outcome.hopeless
    assert "certificate is not trusted" in outcome.reason
    assert server.journal == []


@pytest.mark.parametrize("security", ENCRYPTED)
def test_a_certificate_of_another_host_is_refused(security, authority, ca_file):
    with serve(server_context(authority, "mail.example.org"), security) as server:
        outcome = send_one(server, security, ca_file)
    assert isinstance(outcome, RelayFault)
    assert outcome.hopeless
    assert server.journal == []


def test_an_expired_certificate_is_refused(authority, ca_file):
    past = datetime(2020, 1, 1, tzinfo=UTC)
    with serve(server_context(authority, not_after=past)) as server:
        outcome = send_one(server, ca_file=ca_file)
    assert isinstance(outcome, RelayFault)
    assert outcome.hopeless
    assert "expired" in outcome.reason


def test_an_authority_that_cannot_be_read_is_said_in_one_line(tls, tmp_path):
    with serve(tls) as server:
        outcome = send_one(server, ca_file=str(tmp_path / "none.pem"))
    assert isinstance(outcome, RelayFault)
    assert outcome.hopeless
    assert outcome.reason == f"ca_file {tmp_path / 'none.pem'} cannot be read: No such file or directory"


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1 is deprecated:DeprecationWarning")
def test_an_old_protocol_is_refused(authority, ca_file):
    context = server_context(authority)
    context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")
    with serve(context) as server:
        outcome = send_one(server, ca_file=ca_file)
    assert isinstance(outcome, RelayFault)
    assert server.journal == []


def test_starttls_that_was_stripped_is_refused_when_required():
    with FaultServer(login=LOGIN) as server:
        outcome = send_one(server, login=LOGIN)
    assert isinstance(outcome, RelayFault)
    assert outcome.hopeless
    assert server.verbs == ["EHLO"]


def test_a_password_never_goes_out_in_clear_by_accident():
    with FaultServer(login=LOGIN) as server:
        outcome = send_one(server, Security.STARTTLS_TRY, login=LOGIN)
    assert isinstance(outcome, RelayFault)
    assert outcome.hopeless
    assert server.verbs == ["EHLO"]


def test_without_a_password_try_goes_on_in_clear():
    with FaultServer() as server:
        assert kinds(send_one(server, Security.STARTTLS_TRY)) == {"ann@example.org": Kind.ACCEPTED}


def test_off_does_not_encrypt_what_could_be(tls):
    with serve(tls) as server:
        assert kinds(send_one(server, Security.OFF)) == {"ann@example.org": Kind.ACCEPTED}
    assert not server.journal[0].encrypted


@pytest.mark.parametrize("security", [Security.STARTTLS_REQUIRED, Security.STARTTLS_TRY])
@pytest.mark.parametrize("answer", ["454 4.7.0 not now", "501 5.5.4 what?", "250 fine"])
def test_a_refused_starttls_is_the_relays_fault(security, answer, tls):
    with serve(tls, script={"starttls": [say(answer)]}) as server:
        outcome = send_one(server, security)
    assert isinstance(outcome, RelayFault)
    assert not outcome.hopeless
    assert server.journal == []


def test_what_is_said_ahead_of_tls_is_refused(tls, ca_file):
    injected = raw(b"220 go ahead\r\n250-fault.example\r\n250 AUTH PLAIN\r\n")
    with serve(tls, script={"starttls": [injected]}) as server:
        outcome = send_one(server, ca_file=ca_file)
    assert isinstance(outcome, RelayFault)
    assert "ahead of TLS" in outcome.reason
    assert server.journal == []


@pytest.mark.parametrize("action", [drop, raw(b"220 go ahead\r\n")])
def test_a_relay_lost_in_the_handshake_is_at_fault(action, tls):
    then_nothing = {"starttls": [action]}
    with serve(tls, script=then_nothing) as server:
        relay = SmtpRelay(host="127.0.0.1", port=server.port, security=Security.STARTTLS_REQUIRED, timeout=0.4)
        (outcome,) = SmtpTransport(relay).send([message()], always)
    assert isinstance(outcome, RelayFault)
    assert not outcome.hopeless


def test_what_was_offered_in_clear_is_forgotten(tls, ca_file):
    small = say("250-fault.example", "250-STARTTLS", "250 SIZE 1")
    with serve(tls, script={"ehlo": [small]}) as server:
        assert kinds(send_one(server, ca_file=ca_file)) == {"ann@example.org": Kind.ACCEPTED}


@pytest.mark.parametrize("mechanisms", ["PLAIN", "LOGIN", "LOGIN PLAIN", "GSSAPI PLAIN"])
def test_we_log_in(mechanisms, tls, ca_file):
    with serve(tls, login=LOGIN, mechanisms=mechanisms) as server:
        outcome = send_one(server, ca_file=ca_file, login=LOGIN)
    assert kinds(outcome) == {"ann@example.org": Kind.ACCEPTED}
    assert server.journal[0].username == LOGIN[0]


def test_cram_md5_answers_the_challenge(tls, ca_file):
    # The example of RFC 2195 §2.
    challenge = say("334 PDE4OTYuNjk3MTcwOTUyQHBvc3RvZmZpY2UucmVzdG9uLm1jaS5uZXQ+")
    with serve(tls, script={"auth": [challenge]}, login=LOGIN, mechanisms="CRAM-MD5") as server:
        send_one(server, ca_file=ca_file, login=("tim", "tanstaaftanstaaf"))
    assert server.commands[-1][1] == "dGltIGI5MTNhNjAyYzdlZGE3YTQ5NWI0ZTZlNzMzNGQzODkw"


@pytest.mark.parametrize("mechanisms", ["PLAIN LOGIN CRAM-MD5", "LOGIN"])
def test_a_wrong_password_is_tried_once_and_is_hopeless(mechanisms, tls, ca_file, caplog):
    with serve(tls, login=("ann@example.org", "another"), mechanisms=mechanisms) as server:
        outcome = send_one(server, ca_file=ca_file, login=LOGIN)
    assert isinstance(outcome, RelayFault)
    assert outcome.hopeless
    assert "535 5.7.8" in outcome.reason
    assert server.verbs.count("AUTH") == 1
    assert "canary" not in outcome.reason + caplog.text
    assert "ann@" not in caplog.text


@pytest.mark.parametrize("line", ["535 5.7.8 not {}", "5x5 {}"])
def test_a_relay_that_repeats_the_password_in_its_own_way_reveals_nothing(line, tls, ca_file, caplog):
    caplog.set_level("DEBUG")
    said = line.format(LOGIN[1].upper().encode().hex(":"))
    with serve(tls, script={"auth": [say(said)]}, login=LOGIN) as server:
        outcome = send_one(server, ca_file=ca_file, login=LOGIN)
    assert isinstance(outcome, RelayFault)
    assert LOGIN[1].upper().encode().hex(":") not in outcome.reason + caplog.text


def test_a_login_that_is_not_possible_now_is_not_hopeless(tls, ca_file):
    with serve(tls, script={"auth": [say("454 4.7.0 not now")]}, login=LOGIN) as server:
        outcome = send_one(server, ca_file=ca_file, login=LOGIN)
    assert isinstance(outcome, RelayFault)
    assert not outcome.hopeless


def test_an_unknown_mechanism_makes_way_for_the_next(tls, ca_file):
    with serve(tls, script={"auth": [say("504 5.5.4 not this one")]}, login=LOGIN) as server:
        outcome = send_one(server, ca_file=ca_file, login=LOGIN)
    assert kinds(outcome) == {"ann@example.org": Kind.ACCEPTED}


@pytest.mark.parametrize("mechanisms", ["GSSAPI", ""])
def test_no_way_to_log_in_is_hopeless(mechanisms, tls, ca_file):
    with serve(tls, login=LOGIN, mechanisms=mechanisms) as server:
        outcome = send_one(server, ca_file=ca_file, login=LOGIN)
    assert isinstance(outcome, RelayFault)
    assert outcome.hopeless


def by_token(server, ca_file, *tokens, clock=lambda: 0.0):
    """Return a relay at which we log in by the first of ``tokens``, and by the next each time that one is read."""
    return SmtpRelay(
        host="127.0.0.1",
        port=server.port,
        security=Security.STARTTLS_REQUIRED,
        ca_file=ca_file,
        username=LOGIN[0],
        access_token=AccessToken(iter(tokens).__next__, clock),
        timeout=5,
        data_timeout=5,
    )


def test_we_log_in_by_a_token_that_is_read_once(tls, ca_file):
    with serve(tls, login=(LOGIN[0], "token-1"), mechanisms="PLAIN XOAUTH2") as server:
        relay = by_token(server, ca_file, "token-1")
        for _ in range(2):
            (outcome,) = SmtpTransport(relay).send([message()], always)
            assert kinds(outcome) == {"ann@example.org": Kind.ACCEPTED}
    assert server.verbs.count("AUTH") == 2


def test_a_token_that_was_refused_is_read_anew_on_the_same_connection(tls, ca_file):
    with serve(tls, login=(LOGIN[0], "token-1"), mechanisms="XOAUTH2") as server:
        relay = by_token(server, ca_file, "token-1", "token-2")
        check(relay)
        server.login = (LOGIN[0], "token-2")
        (outcome,) = SmtpTransport(relay).send([message()], always)
    assert kinds(outcome) == {"ann@example.org": Kind.ACCEPTED}
    assert server.verbs.count("AUTH") == 3


def test_a_token_is_read_anew_before_it_ends(tls, ca_file):
    times = iter([0.0, 10.0, KEPT + 1.0, KEPT + 1.0])
    with serve(tls, login=(LOGIN[0], "token-1"), mechanisms="XOAUTH2") as server:
        relay = by_token(server, ca_file, "token-1", "token-2", clock=times.__next__)
        check(relay)
        check(relay)
        server.login = (LOGIN[0], "token-2")
        check(relay)
    assert server.verbs.count("AUTH") == 3


def test_a_new_token_that_is_refused_is_hopeless_and_not_shown(tls, ca_file, caplog):
    caplog.set_level("DEBUG")
    with serve(tls, login=(LOGIN[0], "another"), mechanisms="XOAUTH2") as server:
        (outcome,) = SmtpTransport(by_token(server, ca_file, "canary-token")).send([message()], always)
    assert isinstance(outcome, RelayFault)
    assert outcome.hopeless
    assert "535 5.7.8" in outcome.reason
    assert server.verbs.count("AUTH") == 1
    assert "canary" not in outcome.reason + caplog.text


def test_a_relay_without_xoauth2_gets_no_token(tls, ca_file):
    with (
        serve(tls, login=LOGIN, mechanisms="PLAIN") as server,
        pytest.raises(RelayError, match="offers PLAIN") as error,
    ):
        check(by_token(server, ca_file))
    assert error.value.hopeless


def test_a_command_or_a_file_gives_the_token(tmp_path):
    file = tmp_path / "token"
    file.write_text("ya29.a0-b_c~/+==\n")
    command = [sys.executable, "-c", "print('ya29.x')"]
    assert next(AccessToken(lambda: token_from_file(file)).tries()) == "ya29.a0-b_c~/+=="
    assert next(AccessToken(lambda: token_from_command(command)).tries()) == "ya29.x"


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("import sys; print('canary'); sys.exit(3)", "failed with the exit status 3"),
        ("import time; print('canary', flush=True); time.sleep(60)", "took longer than 0.5 s"),
        ("print()", "the token is empty"),
        ("print('canary canary')", "holds characters that no token has"),
    ],
)
def test_a_command_that_gives_no_token_is_a_fault_that_does_not_show_its_output(code, said):
    token = AccessToken(lambda: token_from_command([sys.executable, "-c", code], timeout=0.5))
    with pytest.raises(RelayError, match=said) as error:
        next(token.tries())
    assert "canary" not in str(error.value)
    assert not error.value.hopeless


def test_a_command_or_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(RelayError, match="token_command /no/such cannot be started: No such file"):
        token_from_command(["/no/such"])
    with pytest.raises(RelayError, match="gone cannot be read: No such file"):
        token_from_file(tmp_path / "gone")


def test_a_wrong_password_is_not_tried_on_every_connection(tls, ca_file):
    with serve(tls, login=("ann@example.org", "another")) as server:
        relay = SmtpRelay(
            host="127.0.0.1",
            port=server.port,
            security=Security.STARTTLS_REQUIRED,
            ca_file=ca_file,
            username=LOGIN[0],
            password=LOGIN[1],
        )
        stream = SmtpTransport(relay, connections=4).send((message() for _ in range(100)), always)
        assert next(stream).hopeless
        stream.close()
    assert server.verbs.count("AUTH") == 1


@pytest.mark.parametrize("security", [Security.TLS, Security.STARTTLS_REQUIRED])
@pytest.mark.parametrize("mode", ["PIPELINING", "BDAT"])
def test_mails_go_pipelined_through_tls_however_they_are_cut(mode, security, tls, ca_file, tmp_path):
    behind = set()

    def dot(session):
        session.server.note(lambda: behind.add(bytes(session.buffer[:4])))
        session.ordinary()

    # Some are larger than what the kernels hold, so that records wait, and are tried again.
    lines = b"x" * 70 + b"\r\n"
    messages = [message(body=lines * (60_000 if n % 8 == 7 else 20)) for n in range(24)]
    messages.append(message(body=Body.of(lines, Spool(tmp_path).put([lines * 60_000]))))
    with serve(tls, security, script={"dot": dot}, extensions=OFFERS[mode]) as server:
        relay = SmtpRelay(host="127.0.0.1", port=server.port, security=security, ca_file=ca_file)
        outcomes = list(SmtpTransport(relay, connections=1).send(messages, always))
    assert {kind for outcome in outcomes for kind in kinds(outcome).values()} == {Kind.ACCEPTED}
    sent = [m.data if isinstance(m.data, bytes) else b"".join(m.data.pieces()) for m in messages]
    assert [accepted.data for accepted in server.journal] == sent
    assert all(accepted.encrypted for accepted in server.journal)
    assert (b"MAIL" if mode == "PIPELINING" else b"RSET") in behind


@pytest.mark.parametrize("security", ENCRYPTED)
def test_closing_ends_an_encrypted_dialogue_too(security, tls, ca_file):
    silent = []

    def dot(session):
        if not silent:
            session.server.note(lambda: silent.append(session))
            listen_in_silence(session)
        session.ordinary()

    with serve(tls, security, script={"dot": dot}) as server:
        relay = SmtpRelay(host="127.0.0.1", port=server.port, security=security, ca_file=ca_file)
        stream = SmtpTransport(relay, connections=2).send([message() for _ in range(3)], always)
        assert kinds(next(stream)) == {"ann@example.org": Kind.ACCEPTED}
        began = time.monotonic()
        stream.close()
        assert time.monotonic() - began < 20
        server.wait_for(lambda: server.open_sessions == 0)


def test_the_check_says_what_it_found(tls, ca_file):
    with serve(tls, login=LOGIN) as server:
        relay = SmtpRelay(
            host="127.0.0.1",
            port=server.port,
            security=Security.STARTTLS_REQUIRED,
            ca_file=ca_file,
            username=LOGIN[0],
            password=LOGIN[1],
        )
        said = check(relay)
    found = "TLSv1.3, login accepted, speaks DATA, offers 8BITMIME; AUTH PLAIN"
    assert said.startswith(f"127.0.0.1:{server.port}: {found}")
    assert "SIZE 10000000" in said
    assert "\n" not in said
    assert server.verbs == ["EHLO", "STARTTLS", "EHLO", "AUTH", "QUIT"]


def test_the_check_says_what_is_wrong():
    with FaultServer() as server:
        relay = SmtpRelay(host="127.0.0.1", port=server.port, security=Security.STARTTLS_REQUIRED)
        with pytest.raises(RelayError, match="does not offer STARTTLS") as refused:
            check(relay)
    assert refused.value.hopeless


def test_answers_that_came_before_the_connection_broke_count(tls, ca_file):
    def dot(session):
        session.ordinary()
        if len(session.server.journal) == 5:
            reset(session)

    def source():
        for _ in range(5):
            yield message()
        # The relay has answered all of them, each in a record of its own, and is gone before we write again.
        server.wait_for(lambda: len(server.journal) == 5 and server.sessions[0].ended)
        yield message()

    with serve(tls, script={"dot": dot}, extensions=OFFERS["BDAT"]) as server:
        relay = SmtpRelay(host="127.0.0.1", port=server.port, security=Security.STARTTLS_REQUIRED, ca_file=ca_file)
        outcomes = list(SmtpTransport(relay, connections=1, window=4).send(source(), always))
    assert [kinds(outcome) for outcome in outcomes] == [{"ann@example.org": Kind.ACCEPTED}] * 6
    assert len(server.journal) == 6
