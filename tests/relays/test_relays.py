"""Real servers as relays: what they offer and are spoken to in, and that they take each mail once, as it was."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from relays.servers import SERVERS, Relay
from support.fakes import FakeRelayMemory
from support.mails import always, by_claim, kinds, message
from support.waiting import wait_until

from mailbatch.domain.outcome import Kind, Replied
from mailbatch.infrastructure.smtp.capabilities import RelayCapabilities
from mailbatch.infrastructure.smtp.check import check
from mailbatch.infrastructure.smtp.relay import Security, SmtpRelay
from mailbatch.infrastructure.smtp.transport import SmtpTransport

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from mailbatch.domain.message import Message

MAILS = 300
HOSTILE = b"RSET\r\nMAIL FROM:<spy@example.org>\r\nRCPT TO:<victim@example.org>\r\nDATA\r\n..\r\n.x\r\nQUIT\r\n"


@pytest.fixture(params=SERVERS, ids=lambda server: server.name)
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Relay]:
    with request.param(tmp_path / "relay") as relay:
        yield relay


def relay_of(server: Relay) -> SmtpRelay:
    return SmtpRelay(host="127.0.0.1", port=server.port, security=Security.OFF, local_hostname="batch.example.org")


def mails(server: Relay) -> list[Message]:
    """Mails with lines like commands and dots, one of 5 MB, and every 40th refused."""
    bodies = [HOSTILE, b".\r\n..\r\n\r\n.\r\n", b"hello\r\n"]
    made = [
        message(server.refuses if n % 40 == 20 else f"ann{n}@example.org", body=bodies[n % 3]) for n in range(MAILS)
    ]
    made[150] = message("ann@example.org", body=(b"x" * 70 + b"\r\n") * 70_000)
    made[200] = message("ann@example.org", server.refuses, "bob@example.org")
    return made


def told(server: Relay, outcomes: dict, messages: list[Message]) -> None:
    """Each mail that was accepted is there once, as it was; none that was refused is."""
    expected = Counter()
    for one in messages:
        said = kinds(outcomes[one.claim])
        assert said == {to: Kind.REJECTED if to == server.refuses else Kind.ACCEPTED for to in said}
        expected[one.data.replace(b"\r\n", b"\n")] = int(Kind.ACCEPTED in said.values())
    expected = +expected
    wait_until(lambda: len(server.taken()) >= len(expected), 60, lambda: f"all have come: {len(server.taken())}")
    found = Counter(as_sent(data) for data in server.taken())
    assert found == expected


def as_sent(data: bytes) -> bytes:
    """A mail without what relays put before it."""
    data = data.replace(b"\r\n", b"\n")
    return data[data.index(b"Message-ID: ") :]


def test_each_mail_is_taken_once_and_as_it_was(server: Relay) -> None:
    print(check(relay_of(server)))  # noqa: T201 (shown by `make relays`)
    memory = FakeRelayMemory()
    messages = mails(server)
    transport = SmtpTransport(relay_of(server), connections=4, capabilities=RelayCapabilities(memory=lambda: memory))
    told(server, by_claim(transport.send(messages, always)), messages)
    capabilities = RelayCapabilities(memory=lambda: memory)
    capabilities.recall()
    print(f"{server.name}: learned {memory.profile}")  # noqa: T201
    assert server.speaks.partition(",")[0] == (
        memory.profile.dialogue or ("BDAT" if memory.profile.swallows else server.speaks.partition(",")[0])
    )
    assert capabilities.may_send_ahead == ("nothing ahead" not in server.speaks)


def test_a_server_that_is_killed_loses_nothing_that_it_accepted(server: Relay) -> None:
    if not server.keeps_itself:
        pytest.skip(f"{server.name} keeps mails in a queue that is not looked into")
    messages = [message(f"ann{n}@example.org", body=HOSTILE) for n in range(MAILS)]
    transport = SmtpTransport(relay_of(server), connections=4)

    def kill_in_the_middle() -> None:
        wait_until(lambda: len(server.taken()) >= 60, 60, "some mails are taken", every=0.002)
        server.kill()
        server.start()

    outcomes: dict = {}
    with ThreadPoolExecutor(1) as pool:
        killing = pool.submit(kill_in_the_middle)
        left = messages
        while left:
            outcomes |= by_claim(transport.send(left, always))
            left = [m for m in left if not isinstance(outcomes[m.claim], Replied)]
        killing.result(60)
    doubtful = {
        m.data.replace(b"\r\n", b"\n") for m in messages if Kind.NO_VERDICT in kinds(outcomes[m.claim]).values()
    }
    sent = {m.data.replace(b"\r\n", b"\n") for m in messages}
    # A file that was being written when the server died is no mail that it accepted.
    whole = [data for data in server.taken() if b"Message-ID: " in data and as_sent(data) in sent]
    found = Counter(map(as_sent, whole))
    assert all(count == 1 for count in found.values())
    for one in messages:
        assert one.data.replace(b"\r\n", b"\n") in (found.keys() | doubtful)
    assert len(doubtful) <= 4 * 32
