"""Fakes of ports in memory; the contract tests make sure that they behave as the real adapters do."""

from __future__ import annotations

import json
import math
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from mailbatch.application.ports.sending import Nap
from mailbatch.domain.database import read_identity
from mailbatch.domain.errors import LockUnavailable
from mailbatch.domain.letter import Rendered
from mailbatch.domain.lock import Holder
from mailbatch.domain.outcome import Kind, NotSent, RelayFault, Replied, Reply, Verdict
from mailbatch.domain.rate import SECOND, given_back, grant, unused
from mailbatch.domain.relay_profile import RelayProfile

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from mailbatch.application.ports.sending import RelayStream
    from mailbatch.domain.database import DatabaseIdentity
    from mailbatch.domain.message import Claim, Message
    from mailbatch.domain.outcome import Outcome
    from mailbatch.domain.rate import Asked, Grant, Used
    from mailbatch.domain.reservation import Mail


@dataclass
class FakeRedisServer:
    """The state that locks and boards of one server share: keys that expire, and a switch to make it unavailable."""

    now: Callable[[], float] = time.monotonic
    away: bool = False
    keys: dict[str, tuple[str, float]] = field(default_factory=dict)

    def get(self, key: str) -> str | None:
        value, end = self.keys.get(key, ("", -math.inf))
        return value if self.now() < end else None

    def left(self, key: str) -> float | None:
        return None if self.get(key) is None else self.keys[key][1] - self.now()

    def set(self, key: str, value: str, ttl: float) -> None:
        self.keys[key] = (value, self.now() + ttl)


class FakeLock:
    """The ports ``Lock`` and ``LockObserver`` in memory."""

    def __init__(self, server: FakeRedisServer, key: str, ttl: float, database: DatabaseIdentity | None = None) -> None:
        self._server = server
        self._key = key
        self._ttl = ttl
        self._database = database
        self._token: str | None = None
        self._deadline = -math.inf

    def acquire(self) -> bool:
        self._ask()
        if (holder := self.holder()) is not None:
            if holder.other_database is not None:
                raise LockUnavailable(
                    f"held for another database: {holder.other_database}; this one is {self._database}"
                )
            return False
        self._token = f"here:1:{uuid4().hex} {self._database.encode() if self._database else ''}"
        self._prolong(self._token)
        return True

    def renew(self) -> None:
        if self._token is None or not self.held() or self._server.away:
            return
        if self._server.get(self._key) == self._token:
            self._prolong(self._token)
        else:
            self._token = None

    def held(self) -> bool:
        if self._server.now() >= self._deadline:
            self._token = None
        return self._token is not None

    def release(self) -> None:
        token, self._token = self._token, None
        if token is not None and not self._server.away and self._server.get(self._key) == token:
            del self._server.keys[self._key]

    def peek(self) -> float | None:
        holder = self.holder()
        return holder.expires_in if holder is not None and holder.other_database is None else None

    def holder(self) -> Holder | None:
        self._ask()
        if (left := self._server.left(self._key)) is None:
            return None
        theirs = read_identity(str(self._server.get(self._key)).partition(" ")[2])
        other = self._database is not None and theirs is not None and self._database.is_other_than(theirs)
        return Holder(owner="here:1", expires_in=left, other_database=str(theirs) if other else None)

    def _prolong(self, token: str) -> None:
        self._deadline = self._server.now() + self._ttl
        self._server.set(self._key, token, self._ttl)

    def _ask(self) -> None:
        if self._server.away:
            raise LockUnavailable(f"Redis cannot be asked for {self._key}: it is away")


class FakeSlots:
    """The port ``Slots`` in memory."""

    def __init__(self, server: FakeRedisServer, key: str, cap: int, ttl: float) -> None:
        self._server = server
        self._key = key
        self._cap = cap
        self._ttl = ttl
        self._held: list[str] = []
        self._owed: list[str] = []
        self._answered = False

    @property
    def renew_every(self) -> float:
        return self._ttl / 3

    def take(self) -> bool:
        if self._server.away and self._answered:
            return False
        self._answered = not self._server.away
        names = self._held if self._server.away else [n for n in self._server.keys if n.startswith(self._key)]
        if sum(self._server.away or self._server.get(name) is not None for name in names) >= self._cap:
            return False
        self._held.append(f"{self._key}:{uuid4().hex}")
        if not self._server.away:
            self._server.set(self._held[-1], "", self._ttl)
        return True

    def give_back(self) -> None:
        if self._held:
            self._owed.append(self._held.pop())
            self._pay()

    def renew(self) -> None:
        if not self._server.away:
            for name in self._held:
                self._server.set(name, "", self._ttl)
        self._pay()

    def _pay(self) -> None:
        while self._owed and not self._server.away:
            self._server.keys.pop(self._owed.pop(), None)


class FakeRateLimits:
    """The port ``RateLimits`` in memory, for the time of ``now`` in seconds."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._used: dict[str, Used] = {}

    def take(self, asked: Sequence[Asked]) -> list[Grant]:
        return [self._one(each) for each in asked]

    def give_back(self, given: Sequence[Asked]) -> None:
        for each in given:
            used = self._used.get(each.limit, unused(each.rates))
            self._used[each.limit] = given_back(each.rates, used, sum(each.weights))

    def _one(self, asked: Asked) -> Grant:
        used = self._used.get(asked.limit, unused(asked.rates))
        granted, self._used[asked.limit] = grant(asked, used, int(self._now() * SECOND))
        return granted


class FakeStatusBoard:
    """The port ``StatusBoard`` in memory."""

    def __init__(self, server: FakeRedisServer | None = None) -> None:
        self._server = server or FakeRedisServer()

    def put(self, job: str, progress: Mapping[str, Any]) -> None:
        if not self._server.away:
            self._server.set(f"status:{job}", json.dumps(progress, default=str), 3600.0)

    def get(self, job: str) -> dict[str, Any] | None:
        text = None if self._server.away else self._server.get(f"status:{job}")
        shown = None if text is None else json.loads(text)
        return shown if isinstance(shown, dict) else None


class FakeRelayMemory:
    """The port ``RelayMemory`` in this process."""

    def __init__(self) -> None:
        self.profile = RelayProfile()

    def recall(self) -> RelayProfile:
        return self.profile

    def note(self, profile: RelayProfile) -> bool:
        self.profile = profile
        return True


class FakeTransport:
    """The port ``Transport`` in memory, one mail at a time. ``script`` makes an outcome of a message.

    ``messages`` are those whose bytes "went out", in order; ``closed`` tells whether the last stream was ended.
    ``sleep`` is what a pause in the stream does.
    """

    def __init__(
        self, script: Callable[[Message], Outcome] | None = None, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self._script = script or accepted
        self._sleep = sleep
        self.messages: list[Message] = []
        self.closed = False
        self.capacity = 0

    def send(
        self,
        messages: Iterable[Message | Nap],
        permit: Callable[[], bool],
        commit_intent: Callable[[Sequence[Claim]], set[Claim]] | None = None,
    ) -> Iterator[Outcome]:
        self.closed = False
        try:
            for message in messages:
                if isinstance(message, Nap):
                    self._sleep(message.seconds)
                elif permit() and (commit_intent is None or commit_intent([message.claim])):
                    self.messages.append(message)
                    yield self._script(message)
                else:
                    yield NotSent(message.claim)
        finally:
            self.closed = True


class FakeTransports:
    """The port ``Transports`` in memory: one mail of each stream in turn. ``script`` makes an outcome for a relay.

    ``sent`` has the name of the relay and the message of each whose bytes "went out". A relay ``holds`` so many mails
    before it answers the first, and is slow then: it answers one for each turn of the streams. ``sleep`` is what a turn
    does in which all streams pause.
    """

    def __init__(
        self,
        script: Callable[[str, Message], Outcome] | None = None,
        sleep: Callable[[float], None] = time.sleep,
        holds: Mapping[str, int] | None = None,
    ) -> None:
        self._script = script or (lambda relay, message: accepted(message, relay))
        self._sleep = sleep
        self._holds = holds or {}
        self.sent: list[tuple[str, Message]] = []

    def send(
        self, streams: Sequence[RelayStream], commit_intent: Callable[[Sequence[Claim]], set[Claim]] | None = None
    ) -> Iterator[Outcome]:
        pulled = {stream.relay: iter(stream.messages) for stream in streams}
        held: dict[str, list[Message]] = {stream.relay: [] for stream in streams}
        while pulled or any(held.values()):
            naps = []
            for stream in streams:
                waiting = held[stream.relay]
                message = None
                if stream.relay in pulled and len(waiting) <= self._holds.get(stream.relay, 0):
                    message = next(pulled[stream.relay], None)
                    if message is None:
                        del pulled[stream.relay]
                if isinstance(message, Nap):
                    naps.append(message.seconds)
                elif message is not None and not (
                    stream.permit() and (commit_intent is None or commit_intent([message.claim]))
                ):
                    yield NotSent(message.claim)
                elif message is not None:
                    self.sent.append((stream.relay, message))
                    waiting.append(message)
                if len(waiting) > self._holds.get(stream.relay, 0) or (
                    waiting and (message is None or isinstance(message, Nap))
                ):
                    yield self._script(stream.relay, waiting.pop(0))
            if naps and len(naps) >= len(pulled):
                self._sleep(min(naps))


def as_it_is(mail: Mail) -> Rendered:
    """The port ``Renderer`` for mails without a template: their parts are rendered already."""
    return Rendered(subject=mail.subject or "", text=mail.body_text, html=mail.body_html)


def accepted(message: Message, relay: str = "fake:25") -> Replied:
    """Return an outcome: the relay accepted the mail for all recipients."""
    return answered(message, Kind.ACCEPTED, 250, "2.0.0 queued", relay)


def answered(message: Message, kind: Kind, code: int, text: str, relay: str = "fake:25") -> Replied:
    """Return an outcome: the relay replied the same for each recipient."""
    verdict = Verdict(kind, Reply(code, text))
    return Replied(message.claim, relay, dict.fromkeys(message.envelope.recipients, verdict))


def relay_fault(
    message: Message, reason: str = "the relay closed the connection", relay: str = "fake:25", *, hopeless: bool = False
) -> RelayFault:
    """Return an outcome: the relay was unavailable, or refused the connection."""
    return RelayFault(message.claim, relay, reason, hopeless=hopeless)
