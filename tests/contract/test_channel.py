"""One suite for the port ``Channel``: in memory, by webhook and by mail a report arrives, or it is said why not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import NAMESPACE_URL, UUID, uuid5

import pytest
from support.fake_notifying import FakeChannel
from support.fake_stores import plain_message
from support.fakes import FakeTransport, accepted, answered, relay_fault
from support.receiver import Receiver

from mailbatch.domain.errors import NotDelivered
from mailbatch.domain.outcome import Kind
from mailbatch.domain.run import Counts, RunOutcome, RunReport, Trigger
from mailbatch.infrastructure.notify.mail import ReportByMail
from mailbatch.infrastructure.notify.webhook import Webhook

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mailbatch.application.ports.notifying import Channel
    from mailbatch.domain.message import Message
    from mailbatch.domain.outcome import Outcome

ID = "run_7"
REPORT = RunReport(
    run_id=UUID(int=7), trigger=Trigger.BEAT, outcome=RunOutcome.COMPLETED, counts=Counts(sent=3)
).as_dict() | {"job": "send-all", "quiet_runs": 0}


class InMemory:
    """A channel of the tests."""

    def __init__(self) -> None:
        self.channel: Channel = FakeChannel()

    def trouble(self, kind: str) -> None:
        self.channel.troubles.append(NotDelivered(kind, final=kind == "refused for good"))

    @property
    def arrived(self) -> list[str]:
        return self.channel.arrived

    def close(self) -> None:
        """Close nothing."""


class ByWebhook:
    """A receiver on this machine."""

    def __init__(self) -> None:
        self._receiver = Receiver()
        self.channel: Channel = Webhook(self._receiver.url, timeout=5.0)

    def trouble(self, kind: str) -> None:
        self._receiver.answers.append({"refused for good": 410, "refused for now": 503, "away": "drop"}[kind])

    @property
    def arrived(self) -> list[str]:
        return self._receiver.ids

    def close(self) -> None:
        self._receiver.close()


class ByMail:
    """A relay in memory."""

    def __init__(self) -> None:
        self._troubles: list[str] = []
        self._transport = FakeTransport(self._outcome)
        self.channel: Channel = ReportByMail(
            "on-call@example.org", plain_message, lambda: self._transport, lambda: lambda: True
        )

    def trouble(self, kind: str) -> None:
        self._troubles.append(kind)

    def _outcome(self, message: Message) -> Outcome:
        match self._troubles.pop(0) if self._troubles else None:
            case "refused for good":
                return answered(message, Kind.REJECTED, 550, "5.1.1 no such user")
            case "refused for now":
                return answered(message, Kind.DEFERRED, 451, "4.7.1 later")
            case "away":
                return relay_fault(message)
            case _:
                return accepted(message)

    @property
    def arrived(self) -> list[str]:
        ids = {uuid5(NAMESPACE_URL, ID): ID}
        return [ids[message.claim.reservation_id] for message in self._transport.messages]

    def close(self) -> None:
        """Close nothing."""


@pytest.fixture(params=[InMemory, ByWebhook, ByMail])
def world(request: pytest.FixtureRequest) -> Iterator[Any]:
    made = request.param()
    yield made
    made.close()


def test_a_report_arrives_under_its_id(world):
    world.channel(ID, REPORT)
    assert world.arrived == [ID]


@pytest.mark.parametrize(("kind", "final"), [("refused for good", True), ("refused for now", False), ("away", False)])
def test_what_does_not_arrive_says_whether_it_is_worth_another_try(world, kind, final):
    world.trouble(kind)
    with pytest.raises(NotDelivered) as caught:
        world.channel(ID, REPORT)
    assert caught.value.final is final
    assert str(caught.value)


def test_a_second_try_has_the_same_id(world):
    world.trouble("refused for now")
    with pytest.raises(NotDelivered):
        world.channel(ID, REPORT)
    world.channel(ID, REPORT)
    assert world.arrived[-1] == ID
    assert set(world.arrived) == {ID}
