"""Dialogues with relays that refuse, break and cut as chance will have it: no verdict is ever wrong.

The relay keeps RFC 5321, 2920 and 3030; what it may do within them, and where bytes are cut, is drawn from a seed.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest
from support.mails import message

from mailbatch.domain.outcome import Kind, Replied
from mailbatch.infrastructure.smtp.dialogue import DIALOGUES
from mailbatch.infrastructure.smtp.dialogue.mode import DialogueMode
from mailbatch.infrastructure.smtp.errors import RelayError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from mailbatch.domain.message import Message
    from mailbatch.domain.outcome import Outcome
    from mailbatch.infrastructure.smtp.dialogue.base import Dialogue

FEATURES = {"8bitmime": "", "pipelining": "", "chunking": ""}
LINES = (b".\r\n", b"..\r\n", b"\r\n", b"x\r\n", b".x\r\n", b"RSET\r\n", b"MAIL FROM:<a@b>\r\n", b"y" * 90 + b"\r\n")
ANY = 10**9


class Relay:
    """Takes bytes in with ``feed``, leaves its answers in ``said``, and what it took in ``journal``."""

    def __init__(self, chance: random.Random) -> None:
        self.chance, self.ill = chance, chance.choice([0, 1, 1, 3])
        self.stays_open = chance.random() < 0.3  # a transaction whose BDAT failed (RFC 3030 §3)
        self.journal: list[tuple[bytes, list[str]]] = []
        self.said = b""
        self.is_there = True
        self._heard = b""
        self._sender: str | None = None
        self._recipients: list[str] = []
        self._chunk: int | None = None
        self._in_data = False
        self.takes_ahead = chance.random() < 0.7  # Haraka does not
        self._early = 0
        self._is_early = False

    def feed(self, data: bytes) -> None:
        self._heard += data
        while self.is_there and self._read():
            pass

    def hear(self, size: int) -> bytes:
        """The next of its answers, as ``Connection.read_now`` gives them."""
        if not self.said and not self.is_there:
            raise RelayError("the relay closed the connection")
        heard, self.said = self.said[:size], self.said[size:]
        return heard

    def _read(self) -> bool:
        if self._chunk is not None:
            if len(self._heard) < self._chunk:
                return False
            data, self._heard, self._chunk = self._heard[: self._chunk], self._heard[self._chunk :], None
            self._early -= min(self._early, len(data))
            if self._is_early:
                self._say("503 5.5.1 pipelined after the end of a mail")
            else:
                self._end(data, in_bdat=True)
            return True
        if self._in_data:
            data, end, rest = (b"\r\n" + self._heard).partition(b"\r\n.\r\n")
            if end:
                self._heard, self._in_data = rest, False
                self._is_early = False
                self._end((data + b"\r\n").replace(b"\r\n.", b"\r\n")[2:], in_bdat=False)
            return bool(end)
        line, end, rest = self._heard.partition(b"\r\n")
        if end:
            self._heard = rest
            self._is_early = self._early > 0
            self._early -= min(self._early, len(line) + 2)
            self._obey(line.decode())
        return bool(end)

    def _obey(self, line: str) -> None:
        verb = line[:4]
        if verb == "BDAT":
            self._chunk = int(line.split()[1])
        elif self._is_early:
            self._say("503 5.5.1 pipelined after the end of a mail")
        elif self._is_gone():
            pass
        elif verb == "RSET":
            self._forget()
            self._say("250 2.0.0 forgotten")
        elif (verb == "MAIL") is (self._sender is not None):
            self._say("503 5.5.1 out of turn")
        elif verb == "MAIL":
            if not self._refuses(0.05):
                self._sender = line
                self._say("250 2.1.0 noted")
        elif verb == "RCPT":
            if not self._refuses(0.15):
                self._recipients.append(line[9:-1])
                self._say("251 2.1.5 will forward" if self._by(0.2) else "250 2.1.5 noted")
        else:
            self._begin_data()

    def _begin_data(self) -> None:
        if not self._recipients and self._by(0.5):
            self._say("554 5.5.1 no valid recipients")
        elif not self._recipients or not self._refuses(0.05):
            self._in_data = True
            self._say("354 go on")

    def _end(self, data: bytes, *, in_bdat: bool) -> None:
        if self._is_gone():
            return
        self._early = 0 if self.takes_ahead else len(self._heard)
        taken = False
        if not self._recipients:
            self._say("503 5.5.1 nobody" if in_bdat or self._by(0.5) else "250 2.0.0 to nobody, then")
        elif not self._refuses(0.08):
            taken = True
            self.journal.append((data, self._recipients))
            self.is_there = not self._by(0.01 * self.ill)
            self._say("250 2.0.0 queued")
        if taken or not in_bdat or not self.stays_open:
            self._forget()

    def _forget(self) -> None:
        self._sender, self._recipients = None, []

    def _is_gone(self) -> bool:
        if self._by(0.02 * self.ill):
            self._say("421 4.3.2 closing")
            self.is_there = False
        elif self._by(0.01 * self.ill):
            self.is_there = False
        return not self.is_there

    def _refuses(self, share: float) -> bool:
        refuses = self._by(share * self.ill)
        if refuses:
            self._say(self.chance.choice(["450 4.2.0 later", "550 5.7.1 never", "552 5.2.2 full"]))
        return refuses

    def _by(self, share: float) -> bool:
        return self.chance.random() < share

    def _say(self, line: str) -> None:
        if self.is_there or self._by(0.5):
            first = f"{line[:3]}-and more\r\n" if self._by(0.1) else ""
            self.said += f"{first}{line}\r\n".encode()


def converse(chance: random.Random, dialogue: Dialogue, relay: Relay, messages: Sequence[Message]) -> list[Message]:
    """Carry ``messages`` as the stream does, cut anywhere; answer those of which nothing can have become."""
    ready, on_the_way = list(messages), b""
    is_encrypted = chance.random() < 0.3
    try:
        while ready or not dialogue.idle:
            while ready and dialogue.room > 0 and not dialogue.out.pending and chance.random() < 0.9:
                dialogue.begin(ready.pop(0))
            while dialogue.out.pending:
                chunk = bytes(dialogue.out.chunk(chance.choice([1, 10, 100, ANY])))
                sent = chance.choice([len(chunk), len(chunk), chance.randrange(len(chunk) + 1)])
                on_the_way += chunk[:sent]
                if sent:
                    dialogue.bytes_sent(sent)
                if sent < len(chunk):
                    ready[:0] = [] if is_encrypted else dialogue.take_back()
                    break
            arrived = chance.choice([1, 20, ANY])
            relay.feed(on_the_way[:arrived])
            on_the_way = on_the_way[arrived:]
            heard = chance.choice([1, 30, ANY])
            dialogue.receive_data(relay.hear(heard))
            if dialogue.awaiting_intent is not None:
                dialogue.send_end()
            if dialogue.refused_early:
                ready[:0] = [message for message, _ in dialogue.refused_early]
                dialogue.refused_early.clear()
                dialogue.allow_ahead(allowed=False)
            if dialogue.sequence_error is not None and dialogue.idle:
                return [*dialogue.not_taken, *ready]
    except RelayError as error:
        untouched = dialogue.connection_lost(error)
        relay.feed(on_the_way)  # what is on its way arrives, whoever has gone
        return [*untouched, *[message for message, _ in dialogue.refused_early], *ready]
    return []


@pytest.mark.parametrize("mode", DialogueMode)
@pytest.mark.parametrize("seeds", [range(at, at + 150) for at in (0, 150, 300)], ids=str)
def test_whatever_a_relay_does_no_verdict_is_wrong(mode, seeds):
    for seed in seeds:
        chance = random.Random(f"{mode}{seed}")  # noqa: S311 - to be drawn again
        waits_for_intent = mode < DialogueMode.BDAT and chance.random() < 0.2
        window = 1 if waits_for_intent else chance.choice([1, 2, 8, 32])
        messages = [
            message(
                *[f"u{n}.{k}@x.org" for k in range(chance.choice([1, 1, 2, 3]))],
                body=b"".join(chance.choices(LINES, k=chance.randrange(8))),
            )
            for n in range(chance.randrange(1, 25))
        ]
        relay = Relay(chance)
        dialogue = DIALOGUES[mode]("relay", FEATURES, window, waits_for_intent=waits_for_intent)
        untouched = converse(chance, dialogue, relay, messages)
        judge(
            seed,
            messages,
            dict(_by_id(dialogue.collect_outcomes())),
            {m.claim.reservation_id for m in untouched},
            relay,
        )


def _by_id(done: Sequence[tuple[Message, Outcome]]) -> list[tuple[UUID, Outcome]]:
    assert len({m.claim for m, _ in done}) == len(done), "answered twice"
    return [(m.claim.reservation_id, outcome) for m, outcome in done]


def judge(
    seed: int, messages: Sequence[Message], outcomes: dict[UUID, Outcome], untouched: set[UUID], relay: Relay
) -> None:
    """Hold what we say against what the relay took."""
    said = [v.reply for o in outcomes.values() if isinstance(o, Replied) for v in o.verdicts.values()]
    assert not [reply for reply in said if "pipelined" in reply.text], f"seed {seed}: refused for what came early"
    assert outcomes.keys() | untouched == {m.claim.reservation_id for m in messages}, seed
    assert not outcomes.keys() & untouched, seed
    taken = dict(relay.journal)
    assert len(taken) == len(relay.journal), f"seed {seed}: taken twice"
    assert taken.keys() <= {m.data for m in messages}, f"seed {seed}: taken what nobody sent"
    for one in messages:
        outcome, by = outcomes.get(one.claim.reservation_id), taken.get(one.data, [])
        assert set(by) <= set(one.envelope.recipients), f"seed {seed}: taken for another's recipients"
        if not isinstance(outcome, Replied):
            assert not by, f"seed {seed}: taken, and said to be untouched"
            continue
        for recipient, verdict in outcome.verdicts.items():
            if verdict.kind is not Kind.NO_VERDICT:
                accepted = verdict.kind is Kind.ACCEPTED
                assert accepted == (recipient in by), f"seed {seed}: {recipient}, {verdict}"
