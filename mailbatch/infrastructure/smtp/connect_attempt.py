"""Opens a connection in a thread of its own, because connecting, TLS and the login take many round trips, and block."""

from __future__ import annotations

import contextlib
import contextvars
import socket
import threading
from typing import TYPE_CHECKING, Self

from mailbatch.infrastructure.smtp.dialogue.mode import DialogueMode
from mailbatch.infrastructure.smtp.errors import NoSlot
from mailbatch.infrastructure.smtp.handshake import Handshake

if TYPE_CHECKING:
    from mailbatch.infrastructure.smtp.transport_config import TransportConfig


class Waker:
    """Wakes the thread that polls ``ear``, from any thread."""

    def __init__(self) -> None:
        self.ear, self._hammer = socket.socketpair()
        self.ear.setblocking(False)
        self._hammer.setblocking(False)

    def wake(self) -> None:
        """Wake it; do nothing when the waker is closed."""
        # A full buffer wakes as well.
        with contextlib.suppress(OSError):
            self._hammer.send(b"!")

    def clear(self) -> None:
        """Discard the wake-ups that came."""
        with contextlib.suppress(BlockingIOError):
            self.ear.recv(64)

    def close(self) -> None:
        """Close both ends."""
        self.ear.close()
        self._hammer.close()


class ConnectAttempt:
    """The thread that opens a connection. When it is ``done``, it calls ``waker.wake``; then it must be joined.

    ``error`` says why the connection was not opened. If it is None, ``handshake`` is open, and holds a slot.
    ``tries_chunk``: find out whether the relay may be spoken to in BDAT, see ADR 11.
    """

    def __init__(self, config: TransportConfig, waker: Waker, *, tries_chunk: bool) -> None:
        self.handshake = Handshake(config.relay)
        self.error: BaseException | None = None
        self.done = False
        self._config = config
        self._waker = waker
        self._tries_chunk = tries_chunk
        # The run's id, which the owner's log lines carry, belongs on this thread's too.
        run, name = contextvars.copy_context().run, f"smtp {config.relay.name}"
        self._thread = threading.Thread(target=run, args=(self._run,), name=name, daemon=True)

    def start(self) -> Self:
        """Start the thread."""
        self._thread.start()
        return self

    def abort(self) -> None:
        """Abort the attempt. ``done`` becomes true soon after."""
        self.handshake.abort()

    def join(self, seconds: float) -> bool:
        """Wait up to ``seconds`` for the thread to end; return whether it has ended."""
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            self._open_in_slot()
        except BaseException as error:  # noqa: BLE001 (the owner judges it)
            self.error = error
        finally:
            self.done = True
            self._waker.wake()

    def _open_in_slot(self) -> None:
        slots = self._config.slots
        if slots is None:
            self._open()
            return
        if not slots.take():
            raise NoSlot("no more connections to this relay are free")
        try:
            self._open()
        except BaseException:
            slots.give_back()
            raise

    def _open(self) -> None:
        self.handshake.open()
        capabilities = self._config.capabilities
        if not self._tries_chunk or not capabilities.needs_chunk_trial(self.handshake.esmtp_features):
            return
        name = self._config.relay.name
        match self.handshake.swallows_refused_chunk():
            case True:
                capabilities.note_chunk_swallowed()
                return
            case False:
                capabilities.use_slower_mode(DialogueMode.BDAT, name, "it reads a chunk that it refused as commands")
            case None:
                reason = "it hung up on a chunk that it had to refuse"
                capabilities.suspect(DialogueMode.BDAT, name, reason, likely=False)
        self.handshake.open()
