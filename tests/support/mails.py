"""Messages for a transport, and functions that read their outcomes."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import uuid4

from mailbatch.domain.body import Body
from mailbatch.domain.message import Claim, Envelope, Message
from mailbatch.domain.outcome import Replied

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mailbatch.domain.outcome import Kind, Outcome, Reply


def message(
    *recipients: str,
    sender: str = "sender@example.org",
    body: bytes | Body = b"hello\r\n",
    eight_bit: bool = False,
    smtputf8: bool = False,
) -> Message:
    """Return a message with a Message-ID of its own."""
    claim = Claim(uuid4(), 1)
    envelope = Envelope(sender, recipients or ("ann@example.org",), smtputf8)
    head = f"Message-ID: <{claim.reservation_id}@example.org>\r\nSubject: hello\r\n\r\n".encode()
    data = head + body if isinstance(body, bytes) else Body.of(head, *body.parts)
    return Message(claim, envelope, data, eight_bit)


def always() -> bool:
    """Return a permit that never ends."""
    return True


def kinds(outcome: Outcome) -> dict[str, Kind]:
    """Return the replies for each recipient."""
    assert isinstance(outcome, Replied), outcome
    return {recipient: verdict.kind for recipient, verdict in outcome.verdicts.items()}


def the_reply(outcome: Outcome) -> Reply:
    """Return the one reply that all recipients got."""
    assert isinstance(outcome, Replied), outcome
    replies = {verdict.reply for verdict in outcome.verdicts.values()}
    assert len(replies) == 1
    return replies.pop()


def by_claim(outcomes: Iterable[Outcome]) -> dict[Claim, Outcome]:
    """Return outcomes by their claim; fails if a claim has two."""
    found: dict[Claim, Outcome] = {}
    for outcome in outcomes:
        assert outcome.claim not in found
        found[outcome.claim] = outcome
    return found
