"""``smtplib.SMTP`` with total deadlines and bounded replies: one command at a time, by blocking calls.

The standard class counts its timeout anew for each read, reads replies without end, and raises the same exception
before and after the end of the body. This one does not.
"""

from __future__ import annotations

import contextlib
import smtplib
import socket
import ssl
import time
from typing import TYPE_CHECKING, Any

from mailbatch.infrastructure.smtp.errors import HandshakeTimeout, RelayError, system_words
from mailbatch.infrastructure.smtp.replies import MalformedReply, RawReply, ReplyReader

if TYPE_CHECKING:
    from mailbatch.domain.outcome import Reply
    from mailbatch.infrastructure.smtp.relay import SmtpRelay

_CHUNK = 64 * 1024


class DeadlineSmtp(smtplib.SMTP):
    """A connection that one thread uses; only ``abort`` may be called from another.

    Each method raises ``RelayError`` when the connection is over or cannot be trusted; then it is closed.
    """

    def __init__(self, relay: SmtpRelay) -> None:
        super().__init__(local_hostname=relay.local_hostname or "", timeout=relay.timeout)
        self.relay = relay
        self._replies = ReplyReader()
        self._first_bytes = b""
        self._aborted = False
        self._doing = "nothing"
        self._allowed = 0.0
        self._deadline = 0.0

    @property
    def tls_version(self) -> str | None:
        """The version of TLS, such as ``TLSv1.3``, or None without TLS."""
        return self.sock.version() if isinstance(self.sock, ssl.SSLSocket) else None

    def ask(self, command: str, *, doing: str | None = None) -> Reply:
        """Send ``command`` and return the reply. ``doing`` names it in errors; without it, its verb does."""
        self._begin(doing or command.partition(" ")[0], self.relay.timeout)
        self._refuse_unread()
        self.putcmd(command)
        return self._next_reply().decoded()

    def abort(self) -> None:
        """End the connection now, from any thread: a call that waits for the relay fails at once."""
        self._aborted = True
        if (sock := self.sock) is not None:
            with contextlib.suppress(OSError):
                # Not SSLSocket.shutdown(), which ends the encryption first while the other thread may be writing.
                socket.socket.shutdown(sock, socket.SHUT_RDWR)

    # --- what smtplib builds upon --------------------------------------------------------------------------------

    def send(self, s: Any) -> None:
        """Write all of ``s`` before the phase's deadline."""
        rest = memoryview(s.encode(self.command_encoding) if isinstance(s, str) else s)
        while rest:
            sock = self._armed()
            try:
                sent = sock.send(rest[:_CHUNK])
            except TimeoutError:
                raise self._late() from None
            except OSError as error:
                raise self._broken(error) from error
            rest = rest[sent:]

    def getreply(self) -> tuple[int, bytes]:
        """Read one reply before the phase's deadline, in the form that smtplib expects."""
        reply = self._next_reply()
        return reply.code, b"\n".join(reply.lines)

    # --- deadlines and bytes -------------------------------------------------------------------------------------

    def _begin(self, doing: str, seconds: float) -> None:
        """Begin a phase: all that it reads and writes must be done in so many seconds."""
        self._doing = doing
        self._allowed = seconds
        self._deadline = time.monotonic() + seconds

    def _remaining(self) -> float:
        if self._aborted:
            raise self._over("the connection was given up")
        if (remaining := self._deadline - time.monotonic()) <= 0:
            raise self._late()
        return remaining

    def _socket(self) -> socket.socket:
        if self.sock is None:
            raise RelayError("the connection is closed")
        return self.sock

    def _armed(self) -> socket.socket:
        """The socket, allowed to block until the deadline."""
        sock = self._socket()
        sock.settimeout(self._remaining())
        return sock

    def _next_reply(self) -> RawReply:
        try:
            while (reply := self._replies.read()) is None:
                self._receive()
        except MalformedReply as error:
            raise self._over(f"{error} (answer to {self._doing})") from error
        return reply

    def _receive(self) -> None:
        sock = self._armed()
        try:
            data = sock.recv(4096)
        except TimeoutError:
            raise self._late() from None
        except OSError as error:
            raise self._broken(error) from error
        if not data:
            raise self._over(f"the relay closed the connection at {self._doing}")
        self._first_bytes = self._first_bytes or data[:2]
        self._replies.feed(data)

    def _refuse_unread(self) -> None:
        if self._replies:
            raise self._over("the relay said more than it was asked")

    def _expect(self, code: int, what: str, reply: Reply) -> None:
        if reply.code != code:
            raise self._over(f"{what} was refused: {reply}", reply=reply)

    # --- how it ends ---------------------------------------------------------------------------------------------

    def _over(self, reason: str, *, hopeless: bool = False, reply: Reply | None = None) -> RelayError:
        self.close()
        return RelayError(reason, hopeless=hopeless, reply=reply)

    def _late(self) -> RelayError:
        self.close()
        return HandshakeTimeout(f"{self._doing} took longer than {self._allowed:g} s")

    def _broken(self, error: Exception) -> RelayError:
        return self._over(f"the connection broke at {self._doing}: {system_words(error)}")
