"""Sends several streams of mails, each to a relay of its own, in the caller's thread: one event loop for all of them.

``loop.py`` does the same for one stream, with less work for each mail.
"""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

from mailbatch.application.ports.sending import Nap
from mailbatch.infrastructure.smtp.mail_queue import MailQueue
from mailbatch.infrastructure.smtp.poller import Poller
from mailbatch.infrastructure.smtp.pool import ConnectionPool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from mailbatch.application.ports.sending import RelayStream
    from mailbatch.domain.message import Claim
    from mailbatch.domain.outcome import Outcome
    from mailbatch.infrastructure.smtp.transport_config import TransportConfig

_AWAY = 0.05
"""If the caller was busy for longer than this, in seconds, that time does not count against the relays."""


class Wire:
    """One stream and the pool of its relay."""

    def __init__(
        self,
        config: TransportConfig,
        stream: RelayStream,
        poller: Poller,
        commit_intent: Callable[[Sequence[Claim]], set[Claim]] | None,
    ) -> None:
        self.config = config
        self.mails = MailQueue()
        self.pool = ConnectionPool(config, self.mails, poller, stream.permit, commit_intent)
        self.has_more = True
        self.failure: Exception | None = None
        self._source = iter(stream.messages)
        self._poller = poller
        self._pauses_until = 0.0

    @property
    def is_over(self) -> bool:
        """Whether every mail of the stream has its outcome, and the caller has all outcomes."""
        return not (self.has_more or self.mails.unsettled or self.mails.outcomes)

    def advance(self) -> bool:
        """Begin what is ready, and pull what can be sent. Return whether something was pulled."""
        self.pool.begin_ready()
        if not self.has_more or (wanted := self._wanted()) <= len(self.mails.ready):
            return False
        try:
            self._pull(wanted - len(self.mails.ready))
        except StopIteration:
            self.has_more = False
        except Exception as error:  # noqa: BLE001 (raised by the loop, when the outcomes are out)
            self.failure, self.has_more = error, False
        return True

    def _pull(self, count: int) -> None:
        """Take up to ``count`` messages, as many as memory allows; stop at a ``Nap``."""
        for _ in range(count):
            message = next(self._source)
            if isinstance(message, Nap):
                self._pauses_until = time.monotonic() + message.seconds
                self._poller.tick_by(self._pauses_until)
                self.pool.restart_measurement()
                return
            self.mails.add(message)
            if self.pool.is_heavy():
                return

    def _wanted(self) -> int:
        """Return how many mails should be ready now; 0 during a nap, or if the mails have too many bytes."""
        if self.mails.unsettled and self.pool.is_heavy():
            return 0
        if self._pauses_until:
            if time.monotonic() < self._pauses_until:
                return 0
            self._pauses_until = 0.0
        return self.pool.wanted()

    def next_tick(self, now: float) -> float:
        """Return when this relay must be looked at again, on the monotonic clock."""
        relay = self.config.relay
        due = now + min(relay.timeout, relay.data_timeout, self.config.yield_every or math.inf)
        return min(due, self._pauses_until) if self._pauses_until > now else due

    def tick(self, now: float, waited: float) -> None:
        """Act on what is due. ``waited``: the seconds in which the loop had to wait, in all."""
        self.pool.tick(now)
        if self.has_more and not self._pauses_until:
            self.pool.measure(now, waited)


class SendLoops:
    """One ``send`` of a transport to several relays."""

    def __init__(
        self,
        configs: Sequence[TransportConfig],
        streams: Sequence[RelayStream],
        commit_intent: Callable[[Sequence[Claim]], set[Claim]] | None,
    ) -> None:
        self._poller = Poller()
        by_name = {config.relay.name: config for config in configs}
        self._wires = [Wire(by_name[one.relay], one, self._poller, commit_intent) for one in streams]
        self._yield_every = min((config.yield_every for config in configs if config.yield_every), default=0.0)
        self._waited = 0.0
        self._polled_at = self._yielded_at = time.monotonic()

    def run(self) -> Iterator[Outcome | None]:
        """Pull, send, yield outcomes; see ``SmtpTransports.send``."""
        for wire in self._wires:
            wire.pool.begin()
        while not all(wire.is_over for wire in self._wires):
            has_pulled = False
            for wire in self._wires:
                has_pulled |= wire.advance()
                if wire.mails.outcomes:
                    yield from wire.mails.collect()
                    self._yielded_at = time.monotonic()
            self._stop_after_a_failure()
            if self._is_breath_due():
                yield None
                self._yielded_at = time.monotonic()
            if not has_pulled and not any(wire.pool.ask_for_intent() for wire in self._wires):
                self._wait()
        if failures := [wire.failure for wire in self._wires if wire.failure is not None]:
            raise failures[0]

    def close(self) -> None:
        """Close all connections: idle ones by QUIT, the others at once."""
        for wire in self._wires:
            wire.pool.close()
        self._poller.close()

    def _stop_after_a_failure(self) -> None:
        """Pull nothing more if pulling from one stream has raised."""
        if any(wire.failure is not None for wire in self._wires):
            for wire in self._wires:
                wire.has_more = False

    def _is_breath_due(self) -> bool:
        return 0 < self._yield_every <= time.monotonic() - self._yielded_at

    def _wait(self) -> None:
        """Wait until something comes, can be written, or is due, and act on it."""
        now = time.monotonic()
        if (away := now - self._polled_at) > _AWAY:
            for wire in self._wires:
                wire.pool.excuse(away)
        ready = self._poller.wait(now)
        self._waited += time.monotonic() - now
        for fd, _ in ready:
            if fd == self._poller.waker_fd:
                self._poller.clear_waker()
                for wire in self._wires:
                    wire.pool.take_over()
            else:
                for wire in self._wires:  # a pool ignores a descriptor that it does not have
                    wire.pool.ready(fd)
        self._polled_at = time.monotonic()
        if self._polled_at >= self._poller.tick_at:
            self._poller.tick_at = min(wire.next_tick(self._polled_at) for wire in self._wires)
            for wire in self._wires:
                wire.tick(self._polled_at, self._waited)
