"""What every ``Transports`` promises: each stream goes to its own relay, and none waits for another."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from support import smtpfault
from support.fakes import FakeTransports, accepted, relay_fault
from support.mails import always, message

from mailbatch.application.ports.sending import Nap, RelayStream
from mailbatch.domain.outcome import NotSent, RelayFault, Replied
from mailbatch.infrastructure.smtp.relay import SmtpRelay
from mailbatch.infrastructure.smtp.transport import SmtpTransport, SmtpTransports

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mailbatch.application.ports.sending import Transports


@dataclass
class World:
    """Two relays: ``well`` takes all mails, ``broken`` hangs up at once. ``taken`` by ``well``."""

    transports: Transports
    taken: Callable[[], int]


@pytest.fixture(params=["fake", *smtpfault.OFFERS])
def world(request) -> Iterator[World]:
    if request.param == "fake":
        fake = FakeTransports(lambda relay, m: accepted(m, relay) if relay == "well" else relay_fault(m, "gone", relay))
        yield World(fake, lambda: sum(relay == "well" for relay, _ in fake.sent))
        return
    offer = smtpfault.OFFERS[request.param]
    with ExitStack() as servers:
        well = servers.enter_context(smtpfault.FaultServer(extensions=offer))
        broken = servers.enter_context(smtpfault.FaultServer({"connect": smtpfault.drop}, extensions=offer))
        relays = [
            SmtpRelay(host="127.0.0.1", port=server.port, label=name, timeout=10, data_timeout=10)
            for name, server in (("well", well), ("broken", broken))
        ]
        ways = [SmtpTransport(relay, connections=2, window=1, yield_every=0.2) for relay in relays]
        yield World(SmtpTransports(ways), lambda: len(well.journal))


def stream(relay, messages, permit=always):
    return RelayStream(relay, messages, permit)


def test_each_mail_has_one_outcome_of_its_own_relay(world):
    well, broken = [message() for _ in range(20)], [message() for _ in range(3)]
    outcomes = [o for o in world.transports.send([stream("well", well), stream("broken", broken)]) if o is not None]
    assert {o.claim for o in outcomes if isinstance(o, Replied)} == {m.claim for m in well}
    assert {o.claim for o in outcomes if isinstance(o, RelayFault)} == {m.claim for m in broken}
    assert {o.relay for o in outcomes} == {"well", "broken"}
    assert world.taken() == 20


def test_a_stream_that_pauses_holds_up_no_other(world):
    late = [message()]

    def pausing():
        while world.taken() < 10:
            yield Nap(0.01)
        yield from late

    first = [message() for _ in range(10)]
    outcomes = [o for o in world.transports.send([stream("broken", pausing()), stream("well", first)]) if o is not None]
    assert outcomes[-1].claim == late[0].claim
    assert len(outcomes) == 11


def test_the_permit_of_one_relay_refuses_only_its_own_mails(world):
    mine, other = message(), message()
    outcomes = world.transports.send([stream("well", [mine]), stream("broken", [other], lambda: False)])
    by_claim = {o.claim: o for o in outcomes if o is not None}
    assert isinstance(by_claim[mine.claim], Replied)
    assert isinstance(by_claim[other.claim], NotSent)


def test_the_ends_of_mails_go_out_only_when_their_intent_is_committed(world):
    mails = [message() for _ in range(4)]
    allowed = {mails[0].claim, mails[2].claim}
    outcomes = world.transports.send([stream("well", mails)], lambda claims: allowed & set(claims))
    kinds = {o.claim: type(o) for o in outcomes if o is not None}
    assert {claim for claim, kind in kinds.items() if kind is Replied} == allowed
    assert world.taken() == 2


def test_streams_without_mails_end(world):
    assert [o for o in world.transports.send([stream("well", []), stream("broken", [])]) if o is not None] == []
