"""Against a real Postfix that refuses whoever pipelines out of turn: hundreds of mails, none refused."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import pytest
from support.letters import composed
from support.mails import always, by_claim, kinds, message, the_reply

from mailbatch.domain.outcome import Kind
from mailbatch.infrastructure.smtp.capabilities import RelayCapabilities
from mailbatch.infrastructure.smtp.check import check
from mailbatch.infrastructure.smtp.dialogue.mode import DialogueMode
from mailbatch.infrastructure.smtp.relay import SmtpRelay
from mailbatch.infrastructure.smtp.transport import SmtpTransport

needs_postfix = pytest.mark.skipif(
    shutil.which("postfix") is None or os.geteuid() != 0, reason="needs Debian's postfix package, and to be root"
)

LATER = "later@example.org = 450 4.2.0 greylisted"
SERVICES = """\
127.0.0.1:{port} inet n - n - - smtpd
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
anvil unix - - n - 1 anvil
error unix - - n - - error
discard unix - - n - - discard
proxymap unix - - n - - proxymap
postlog unix-dgram n - n - 1 postlogd
"""


def _free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


@pytest.fixture(scope="module")
def postfix():
    folder = Path(tempfile.mkdtemp(prefix="postfix-", dir="/tmp"))
    port = _free_port()
    config, queue, data = folder / "etc", folder / "queue", folder / "data"
    for one in (config, queue, data):
        one.mkdir()
    folder.chmod(0o755)
    shutil.chown(data, "postfix")
    settings = {
        "compatibility_level": "3.6",
        "queue_directory": queue,
        "data_directory": data,
        "maillog_file": folder / "log",
        "maillog_file_prefixes": folder,
        "myhostname": "mail.example.org",
        "mydestination": "",
        "mynetworks": "127.0.0.0/8",
        "inet_interfaces": "loopback-only",
        "inet_protocols": "ipv4",
        "default_transport": "discard:",
        "relay_transport": "discard:",
        "alias_maps": "",
        "alias_database": "",
        "smtpd_forbid_unauth_pipelining": "yes",
        "smtpd_recipient_restrictions": f"check_recipient_access inline:{{ {{ {LATER} }} }}, permit_mynetworks, reject",
        "smtputf8_enable": "yes",
    }
    (config / "main.cf").write_text("".join(f"{name} = {value}\n" for name, value in settings.items()))
    (config / "master.cf").write_text(SERVICES.format(port=port))
    said = subprocess.run(["postfix", "-c", str(config), "start"], capture_output=True, text=True, check=False)
    if said.returncode:
        pytest.fail(said.stdout + said.stderr)
    try:
        _wait_for(port)
        yield port, folder / "log"
    finally:
        subprocess.run(["postfix", "-c", str(config), "stop"], capture_output=True, check=False)
        shutil.rmtree(folder, ignore_errors=True)


def _wait_for(port, seconds=10.0):
    until = time.monotonic() + seconds
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except OSError:
            assert time.monotonic() < until, "postfix does not listen"
            time.sleep(0.05)
        else:
            return


@needs_postfix
@pytest.mark.parametrize("mode", DialogueMode)
def test_postfix_takes_every_mail(mode, postfix):
    port, log = postfix
    body = b".dot\r\n..\r\n" + (b"x" * 70 + b"\r\n") * 30
    messages = [message(f"ann{n}@example.org", "bob@example.net", body=body) for n in range(400)]
    relay = SmtpRelay(host="127.0.0.1", port=port)
    transport = SmtpTransport(relay, connections=2, capabilities=RelayCapabilities(mode))
    outcomes = by_claim(transport.send(messages, always))
    assert {kind for outcome in outcomes.values() for kind in kinds(outcome).values()} == {Kind.ACCEPTED}
    said = log.read_text()
    assert "improper command pipelining" not in said
    assert "status=bounced" not in said


@needs_postfix
def test_postfix_takes_quoted_and_long_local_parts(postfix):
    given = ['"aaa..b"@docomo.example', '"a b,c"@example.org', f"bounces+{'v' * 100}@example.org", '".a"@example.org']
    sent = composed(recipients=", ".join(given))
    [outcome] = by_claim(SmtpTransport(SmtpRelay(host="127.0.0.1", port=postfix[0])).send([sent], always)).values()
    assert kinds(outcome) == dict.fromkeys(given, Kind.ACCEPTED)


@needs_postfix
def test_postfix_is_told_to_be_spoken_to_in_bdat(postfix):
    assert "speaks BDAT" in check(SmtpRelay(host="127.0.0.1", port=postfix[0]))


@needs_postfix
def test_a_refusal_by_postfix_among_others_in_flight_is_for_its_mail_alone(postfix):
    messages = [message("not an address" if n == 40 else f"ann{n}@example.org") for n in range(100)]
    bad_domain = message("ann@" + "x" * 300 + ".org")
    messages.insert(60, bad_domain)
    outcomes = by_claim(SmtpTransport(SmtpRelay(host="127.0.0.1", port=postfix[0])).send(messages, always))
    refused = [m for m in messages if kinds(outcomes[m.claim]) != {m.envelope.recipients[0]: Kind.ACCEPTED}]
    assert refused == [messages[40], bad_domain]


@needs_postfix
def test_a_recipient_whom_postfix_greylists_is_put_off_and_those_in_flight_with_it_go_out(postfix):
    messages = [message("later@example.org" if n % 10 == 5 else f"ann{n}@example.org") for n in range(100)]
    outcomes = by_claim(SmtpTransport(SmtpRelay(host="127.0.0.1", port=postfix[0])).send(messages, always))
    for n, one in enumerate(messages):
        (kind,) = kinds(outcomes[one.claim]).values()
        assert kind is (Kind.DEFERRED if n % 10 == 5 else Kind.ACCEPTED)
    assert the_reply(outcomes[messages[5].claim]).enhanced == "4.2.0"
