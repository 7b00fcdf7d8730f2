"""Opens a connection in a thread of its own: connecting, TLS and the login take many round trips, and block."""

from __future__ import annotations

import contextlib
import contextvars
import socket
import threading
import time
from typing import TYPE_CHECKING, Self

from mailbatch.infrastructure.smtp.connection import Connection
from mailbatch.infrastructure.smtp.errors import NoSlot

if TYPE_CHECKING:
    from collections.abc import Callable

    from mailbatch.application.ports.sending import Slots
    from mailbatch.infrastructure.smtp.relay import SmtpRelay


class Waker:
    """Wakes who polls ``ear``, from any thread."""

    def __init__(self) -> None:
        self.ear, self._hammer = socket.socketpair()
        self.ear.setblocking(False)
        self._hammer.setblocking(False)

    def ring(self) -> None:
        """Wake them; nothing once the bell is closed."""
        # A full buffer is a bell that still rings.
        with contextlib.suppress(OSError):
            self._hammer.send(b"!")

    def heard(self) -> None:
        """Stop ringing."""
        with contextlib.suppress(BlockingIOError):
            self.ear.recv(64)

    def close(self) -> None:
        """Take it down."""
        self.ear.close()
        self._hammer.close()


class ConnectAttempt:
    """A connection that is being opened; ``waker`` rings when ``done``. It may be aborted, and must be joined."""

    def __init__(
        self, relay: SmtpRelay, slots: Slots | None, waker: Waker, try_out: Callable[[Connection], None]
    ) -> None:
        self.connection = Connection(relay)
        self.error: BaseException | None = None
        self.since = time.monotonic()
        self.done = False
        self.aborted = False
        self._slots = slots
        self._bell = waker
        self._try_out = try_out
        # The run's id, which the owner's log lines carry, belongs on this thread's too.
        run = contextvars.copy_context().run
        self._thread = threading.Thread(target=run, args=(self._open,), name=f"smtp {relay.name}", daemon=True)

    def start(self) -> Self:
        """Begin."""
        self._thread.start()
        return self

    def abort(self) -> None:
        """Give it up: it is done soon."""
        self.aborted = True
        self.connection.abort()

    def join(self, seconds: float) -> bool:
        """Wait for the thread's end; answer whether it came."""
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def _open(self) -> None:
        try:
            self._open_in_slot()
        except BaseException as error:  # noqa: BLE001 (the owner judges it)
            self.error = error
        finally:
            self.done = True
            self._bell.ring()

    def _open_in_slot(self) -> None:
        if self._slots is None:
            self._open_and_try_out()
            return
        if not self._slots.take():
            raise NoSlot("no more connections to this relay are free")
        try:
            self._open_and_try_out()
        except BaseException:
            self._slots.give_back()
            raise

    def _open_and_try_out(self) -> None:
        self.connection.open()
        self._try_out(self.connection)
