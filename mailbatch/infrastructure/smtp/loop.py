"""Sends one stream of mails in the caller's thread: an event loop in the form of a generator. See ADR 9.

While the caller claims, composes and settles, the kernel's buffers keep the connections busy. All input is read before
any reply is judged to be late.
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
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from mailbatch.domain.message import Claim, Message
    from mailbatch.domain.outcome import Outcome
    from mailbatch.infrastructure.smtp.transport_config import TransportConfig

_AWAY = 0.05
"""If the caller was busy for longer than this, in seconds, that time does not count against the relay."""


class SendLoop:
    """One ``send`` of a transport, over the pool of one relay."""

    def __init__(
        self,
        config: TransportConfig,
        permit: Callable[[], bool],
        commit_intent: Callable[[Sequence[Claim]], set[Claim]] | None,
    ) -> None:
        self._config = config
        self._mails = MailQueue()
        self._poller = Poller()
        self._pool = ConnectionPool(config, self._mails, self._poller, permit, commit_intent)
        self._has_more = True
        self._pauses_until = 0.0
        self._waited = 0.0
        self._polled_at = self._yielded_at = time.monotonic()

    def run(self, messages: Iterable[Message | Nap]) -> Iterator[Outcome | None]:
        """Pull, send, yield outcomes; see ``SmtpTransport.send``."""
        self._pool.begin()
        mails, pool = self._mails, self._pool
        source = iter(messages)
        failure: Exception | None = None
        while (more := self._has_more) or mails.unsettled or mails.outcomes:
            pool.begin_ready()
            if mails.outcomes:
                yield from mails.collect()
                self._yielded_at = time.monotonic()
            elif self._is_breath_due():
                yield None
                self._yielded_at = time.monotonic()
            elif pool.ask_for_intent():
                # This is asked only when the caller has all outcomes: mails without a settlement are in doubt too.
                continue
            elif not more or (wanted := self._wanted()) <= len(mails.ready):
                self._wait()
            else:
                try:
                    self._pull(source, wanted - len(mails.ready))
                except StopIteration:
                    self._has_more = False
                except Exception as error:  # noqa: BLE001 (raised below, when the outcomes are out)
                    failure, self._has_more = error, False
        if failure is not None:
            raise failure

    def close(self) -> None:
        """Close all connections: idle ones by QUIT, the others at once."""
        self._pool.close()
        self._poller.close()

    def _pull(self, source: Iterator[Message | Nap], count: int) -> None:
        """Take up to ``count`` messages, as many as memory allows; stop at a ``Nap``."""
        for _ in range(count):
            message = next(source)
            if isinstance(message, Nap):
                self._pauses_until = time.monotonic() + message.seconds
                self._poller.tick_by(self._pauses_until)
                self._pool.restart_measurement()
                return
            self._mails.add(message)
            if self._pool.is_heavy():
                return

    def _wanted(self) -> int:
        """Return how many mails should be ready now; 0 during a nap, or if the mails have too many bytes."""
        if self._mails.unsettled and self._pool.is_heavy():
            return 0
        if self._pauses_until:
            if time.monotonic() < self._pauses_until:
                return 0
            self._pauses_until = 0.0
        return self._pool.wanted()

    def _is_breath_due(self) -> bool:
        return 0 < self._config.yield_every <= time.monotonic() - self._yielded_at

    def _wait(self) -> None:
        """Wait until something comes, can be written, or is due, and act on it."""
        now = time.monotonic()
        if (away := now - self._polled_at) > _AWAY:
            self._pool.excuse(away)
        ready = self._poller.wait(now)
        self._waited += time.monotonic() - now
        for fd, _ in ready:
            if fd == self._poller.waker_fd:
                self._poller.clear_waker()
                self._pool.take_over()
            else:
                self._pool.ready(fd)
        self._polled_at = time.monotonic()
        if self._polled_at >= self._poller.tick_at:
            self._tick(self._polled_at)

    def _tick(self, now: float) -> None:
        """Act on what is due, and set the time of the next tick."""
        relay = self._config.relay
        self._poller.tick_at = now + min(relay.timeout, relay.data_timeout, self._config.yield_every or math.inf)
        if self._pauses_until > now:
            self._poller.tick_by(self._pauses_until)
        self._pool.tick(now)
        if self._has_more and not self._pauses_until:
            self._pool.measure(now, self._waited)
