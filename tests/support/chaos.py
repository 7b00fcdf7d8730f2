"""A database, a relay and a process that fail at random at any step, and a record of what the relay accepted."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from mailbatch.domain.errors import StoreError
from mailbatch.domain.outcome import Kind, NotSent, RelayFault, Replied, Reply, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from random import Random
    from uuid import UUID

    from mailbatch.application.ports.sending import Backlog
    from mailbatch.domain.message import Claim, Message
    from mailbatch.domain.outcome import Outcome

_FAILING = frozenset(
    {
        "claim",
        "claim_isolated",
        "settle_and_claim",
        "settle",
        "load",
        "commit_intent",
        "expire",
        "resolve_doubts",
        "release_orphans",
    }
)


class Killed(BaseException):
    """The process died: it writes nothing any more."""


class Process:
    """A process that is killed at each step with the probability ``mortal``."""

    def __init__(self, dice: Random) -> None:
        self.dice = dice
        self.mortal = 0.0
        self.dead = False

    def live(self) -> None:
        """Go on, or die."""
        if self.dead or self.dice.random() < self.mortal:
            self.dead = True
            raise Killed


class ShakyBacklog:
    """The port ``Backlog``: each method may fail before or after its work, each with the probability ``shaky``."""

    def __init__(self, inner: Backlog, process: Process, shaky: float) -> None:
        self._inner = inner
        self._process = process
        self.shaky = shaky
        self.intended: set[Claim] = set()
        """The claims that may have a ``wire_at`` although nothing was sent, because the process died in between."""

    def __getattr__(self, name: str) -> Any:
        verb = getattr(self._inner, name)
        return self._shaken(name, verb) if name in _FAILING else verb

    def _shaken(self, name: str, verb: Callable[..., Any]) -> Callable[..., Any]:
        def call(*given: Any) -> Any:
            self._shake()
            done = verb(*given)
            if name == "commit_intent":
                self.intended |= done
            self._shake()
            return done

        return call

    def _shake(self) -> None:
        self._process.live()
        if self._process.dice.random() < self.shaky:
            raise StoreError("the connection broke", transient=True)


class ShakyRelay:
    """The port ``Transport``: several mails are on the wire, and replies come in any order and of any kind.

    It begins with one mail on the wire, and finds out that it can have more, up to ``window``.
    ``taken`` counts for whom it took which mail; ``ended`` are claims whose last bytes went out.
    """

    def __init__(self, process: Process, window: int) -> None:
        self._process = process
        self._dice = process.dice
        self._window = window
        self.capacity = 1
        self.taken: Counter[tuple[UUID, str]] = Counter()
        self.ended: set[Claim] = set()

    def send(
        self,
        messages: Iterable[Message],
        permit: Callable[[], bool],
        commit_intent: Callable[[Sequence[Claim]], set[Claim]] | None = None,
    ) -> Iterator[Outcome]:
        """Send, as in the port."""
        source = iter(messages)
        wire: list[Message] = []
        while True:
            self.capacity = min(self._window, self.capacity + self._dice.randrange(2))
            while len(wire) < self.capacity and (message := next(source, None)) is not None:
                if permit():
                    wire.append(message)
                else:
                    yield NotSent(message.claim)
            if not wire:
                return
            yield self._end(wire.pop(self._dice.randrange(len(wire))), commit_intent)

    def _end(self, message: Message, commit_intent: Callable[[Sequence[Claim]], set[Claim]] | None) -> Outcome:
        self._process.live()
        if self._dice.random() < 0.06:
            return RelayFault(message.claim, "dice:25", "it hung up", in_dialogue=self._dice.random() < 0.5)
        if commit_intent is not None and message.claim not in commit_intent([message.claim]):
            return NotSent(message.claim)
        self.ended.add(message.claim)
        said = self._said(message)
        self._process.live()
        return Replied(message.claim, "dice:25", said)

    def _said(self, message: Message) -> dict[str, Verdict]:
        if self._dice.random() < 0.06:
            if self._dice.random() < 0.5:
                self.taken.update((message.claim.reservation_id, to) for to in message.envelope.recipients)
            return dict.fromkeys(message.envelope.recipients, Verdict(Kind.NO_VERDICT, Reply(0, "it hung up")))
        return {to: self._judged(message, to) for to in message.envelope.recipients}

    def _judged(self, message: Message, to: str) -> Verdict:
        number = self._dice.random()
        if number < 0.06:
            return Verdict(Kind.REJECTED, Reply(550, "5.1.1 no such user"))
        if number < 0.2:
            return Verdict(Kind.DEFERRED, Reply(451, "4.3.0 later"))
        self.taken[message.claim.reservation_id, to] += 1
        return Verdict(Kind.ACCEPTED, Reply(250, "2.0.0 ok"))
