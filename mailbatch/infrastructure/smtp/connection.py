"""One session with a relay: ``smtplib.SMTP`` with total deadlines, bounded replies, verified TLS and no surprises.

What the standard class does and this one does not: count its timeout anew for each read, read replies without end,
accept any certificate unless told otherwise, leave Nagle's algorithm on, ask the DNS who we are, try each mechanism
with a password that was refused, and raise the same exception before and after the end of the body.
"""

from __future__ import annotations

import contextlib
import logging
import smtplib
import socket
import ssl
import time
from typing import TYPE_CHECKING, Any

from mailbatch.infrastructure.smtp.errors import HandshakeTimeout, HungUp, RelayError
from mailbatch.infrastructure.smtp.login import log_in
from mailbatch.infrastructure.smtp.relay import Security
from mailbatch.infrastructure.smtp.replies import GREETING, OK, GarbledReply, RawReply, ReplyReader

if TYPE_CHECKING:
    from mailbatch.domain.outcome import Reply
    from mailbatch.infrastructure.smtp.relay import SmtpRelay

logger = logging.getLogger(__name__)

_CHUNK = 64 * 1024
_RECORD = 16 * 1024
_FAREWELL = 1.0
_SHORT = 5.0
_PERMANENT = 5
_TLS_PORT = 465
_TLS_RECORDS = (b"\x15\x03", b"\x16\x03")
"""How an alert or a handshake begins in TLS (RFC 8446 §5.1)."""
_NO_TLS = ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG", "UNEXPECTED_MESSAGE")
"""What OpenSSL makes of a greeting in clear."""


class Connection(smtplib.SMTP):
    """A session, used by one thread; only ``abort`` may be called from another.

    Every method raises ``RelayError`` when the session is over or cannot be trusted; it is closed then. It opens the
    session and ends it; in between, ``read_now`` and ``write_now`` carry a dialogue, and never wait.
    """

    def __init__(self, relay: SmtpRelay) -> None:
        super().__init__(local_hostname=relay.local_hostname or "", timeout=relay.timeout)
        self.relay = relay
        self._replies = ReplyReader()
        self._heard = b""
        self._aborted = False
        self._doing = "nothing"
        self._allowed = 0.0
        self._deadline = 0.0

    # --- the session ---------------------------------------------------------------------------------------------

    @property
    def is_open(self) -> bool:
        """Whether there is a socket; the relay may still have closed its end."""
        return self.sock is not None

    @property
    def tls_version(self) -> str | None:
        """``TLSv1.3``, say, or None in clear."""
        return self.sock.version() if isinstance(self.sock, ssl.SSLSocket) else None

    def open(self) -> None:
        """Connect, greet, encrypt and log in, as the relay's settings say."""
        try:
            self._reach()
            self._greet()
            if self.relay.security in (Security.STARTTLS_REQUIRED, Security.STARTTLS_TRY):
                self._start_tls()
            if self.relay.username is not None:
                self._log_in(self.relay.username, self.relay.password or "")
        except BaseException:
            self.close()
            raise

    def hang_up(self) -> None:
        """Say QUIT, wait a moment for the answer, close. Never raises."""
        try:
            if self.is_open and not self._aborted:
                self._begin("QUIT", min(_FAREWELL, self.relay.timeout))
                self.docmd("QUIT")
        except RelayError as error:
            logger.debug("%s: no farewell: %s", self.relay.name, error)
        finally:
            self.close()

    def abort(self) -> None:
        """End the session now, from any thread: whatever waits for it fails at once."""
        self._aborted = True
        if (sock := self.sock) is not None:
            with contextlib.suppress(OSError):
                # Not SSLSocket.shutdown(): that drops the encryption first, and the other thread may be writing.
                socket.socket.shutdown(sock, socket.SHUT_RDWR)

    # --- one command at a time -----------------------------------------------------------------------------------

    def ask(self, command: str, *, doing: str | None = None) -> Reply:
        """Send ``command``, answer the reply; ``doing`` names it in errors (its verb, if not told)."""
        self._begin(doing or command.partition(" ")[0], self.relay.timeout)
        if self._replies:
            raise self._over("the relay said more than it was asked")
        self.putcmd(command)
        return self._next_reply().cooked()

    def swallows(self) -> bool | None:
        """Whether the relay reads a chunk that it refuses (RFC 3030 §2), found out by one that it must refuse.

        The chunk is QUIT: a relay that does not swallow it says farewell. False or None (it hung up without a word, or
        fell silent): the connection is closed.
        """
        self._begin("a chunk without a mail", min(_SHORT, self.relay.timeout))
        try:
            self.send(b"BDAT 6 LAST\r\nQUIT\r\nRSET\r\n")
            self._next_reply()
            reset = self._next_reply()
        except RelayError:
            self.close()
            return None
        if reset.code == OK and not self._replies:
            return True
        self.close()
        return False

    # --- a dialogue ----------------------------------------------------------------------------------------------

    @property
    def record(self) -> int:
        """Bytes that a write may have: through TLS no more than a record, so that it went as a whole or not at all."""
        return _RECORD if isinstance(self.sock, ssl.SSLSocket) else _CHUNK

    @property
    def has_unread(self) -> bool:
        """Whether TLS holds bytes that the poll of its socket does not show."""
        return isinstance(self.sock, ssl.SSLSocket) and self.sock.pending() > 0

    def begin_dialogue(self) -> int:
        """Stop waiting in reads and writes; answer the descriptor to wait at.

        Raises:
            RelayError: the relay said something already.
        """
        if self._replies:
            raise self._over("the relay said more than it was asked")
        sock = self._socket()
        sock.setblocking(False)
        return sock.fileno()

    def read_now(self) -> bytes:
        """What has come, or nothing."""
        try:
            data = self._socket().recv(_CHUNK)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return b""
        except OSError as error:
            raise HungUp(f"the connection broke: {_plain(error)}") from error
        if not data:
            raise HungUp("the relay closed the connection")
        return data

    def write_now(self, data: bytes | memoryview) -> int:
        """Hand ``data`` to the kernel; answer how many bytes of it went."""
        try:
            return self._socket().send(data)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return 0
        except OSError as error:
            raise HungUp(f"the connection broke: {_plain(error)}") from error

    def say_quit(self) -> bool:
        """Say QUIT without waiting for the answer; whether there can be one."""
        try:
            return self.write_now(b"QUIT\r\n") > 0
        except RelayError:
            return False

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
        """Read one reply before the phase's deadline, as smtplib wants it."""
        reply = self._next_reply()
        return reply.code, b"\n".join(reply.lines)

    # --- opening -------------------------------------------------------------------------------------------------

    def _reach(self) -> None:
        """Try each address of the relay's name until one greets us (RFC 5321 §5.1)."""
        host, port = self.relay.host, self.relay.port
        self._host = host  # smtplib's own name for it
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise RelayError(f"cannot find {host}: {_plain(error)}") from error
        problems: list[RelayError] = []
        # Each address gets its share, so that a silent one cannot use up the time of all.
        share = self.relay.timeout / len(found)
        for family, kind, protocol, _, address in found:
            try:
                self._dial((family, kind, protocol), address, share)
                self._hear_greeting()
            except RelayError as error:
                self.close()
                problems.append(error)
                if error.hopeless or self._aborted:
                    break
            else:
                return
        raise _most_telling(problems)

    def _dial(self, kind: tuple[int, int, int], address: Any, seconds: float) -> None:
        self._replies, self._heard = ReplyReader(), b""
        self._begin("connecting", seconds)
        try:
            self.sock = sock = socket.socket(*kind)
            self._armed().connect(address)
            # The end of the body is a write of its own: without this it waits 40 ms for a delayed ACK.
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError as error:
            raise RelayError(f"cannot connect: {_plain(error)}") from error

    def _hear_greeting(self) -> None:
        if self.relay.security is Security.TLS:
            self._encrypt()
        self._begin("the greeting", self.relay.timeout)
        try:
            reply = self._next_reply()
        except RelayError as error:
            raise self._or_is_it_tls(error) from error
        self._expect(GREETING, "the greeting", reply.cooked())

    def _or_is_it_tls(self, error: RelayError) -> RelayError:
        """A port that speaks TLS from the start waits for us in silence, or answers in TLS."""
        might_be = (
            self.relay.port == _TLS_PORT or isinstance(error, HandshakeTimeout) or self._heard.startswith(_TLS_RECORDS)
        )
        if self.relay.security is Security.TLS or not might_be or self._aborted:
            return error
        return RelayError(f"{error}; if this port speaks TLS from the start, write smtps:// for smtp://")

    def _greet(self) -> None:
        if not self.local_hostname:
            self.local_hostname = _address_literal(self._socket().getsockname()[0])
        self._begin("EHLO", self.relay.timeout)
        if self._replies:
            raise self._over("the relay said more than it was asked")
        code, text = self.ehlo()
        if code == OK:
            return
        refusal = RawReply(code, tuple(text.split(b"\n"))).cooked()
        # RFC 5321 §3.2: a server that does not know EHLO may know HELO.
        if code // 100 != _PERMANENT or self.helo()[0] != OK:
            raise self._over(f"EHLO was refused: {refusal}", reply=refusal)
        self.esmtp_features.clear()
        logger.debug("%s: greeted by HELO, for EHLO was refused: %s", self.relay.name, refusal)

    def _start_tls(self) -> None:
        if not self.has_extn("starttls"):
            if self.relay.security is Security.STARTTLS_REQUIRED:
                raise self._over("the relay does not offer STARTTLS, which starttls=required asks for", hopeless=True)
            return
        self._expect(GREETING, "STARTTLS", self.ask("STARTTLS"))
        if self._replies:
            # RFC 3207 §4.2; CVE-2011-0411: what came in clear would be read as if it had been protected.
            raise self._over("the relay, or someone between, answered ahead of TLS")
        self._encrypt()
        self._greet()

    def _encrypt(self) -> None:
        context = _tls_context(self.relay.ca_file)
        self._begin("the TLS handshake", self.relay.timeout)
        sock = self._armed()
        try:
            # Shaking hands apart keeps the socket where abort() finds it.
            self.sock = wrapped = context.wrap_socket(
                sock, server_hostname=self.relay.host, do_handshake_on_connect=False
            )
            wrapped.settimeout(self._remaining())
            wrapped.do_handshake()
        except ssl.SSLCertVerificationError as error:
            reason = (
                f"the certificate is not trusted: {error.verify_message}; if the authority is your own, set ca_file"
            )
            raise self._over(reason, hopeless=True) from error
        except TimeoutError:
            raise self._late() from None
        except ssl.SSLError as error:
            hint = ""
            if error.reason in _NO_TLS and self.relay.security is Security.TLS:
                hint = "; this port does not speak TLS from the start: write smtp:// for smtps:// (it uses STARTTLS)"
            raise self._over(f"the connection broke at the TLS handshake: {_plain(error)}{hint}") from error
        except (OSError, ValueError) as error:
            raise self._broken(error) from error

    def _log_in(self, username: str, password: str) -> None:
        if self.tls_version is None and self.relay.security is not Security.OFF:
            reason = "the relay does not offer STARTTLS, and the password does not go out in clear"
            raise RelayError(reason, hopeless=True)
        log_in(self.ask, self.esmtp_features.get("auth", ""), username, password)

    # --- deadlines and bytes -------------------------------------------------------------------------------------

    def _begin(self, doing: str, seconds: float) -> None:
        """Start a phase: all that it reads and writes must be done in so many seconds."""
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
        except GarbledReply as error:
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
        self._heard = self._heard or data[:2]
        self._replies.feed(data)

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
        return self._over(f"the connection broke at {self._doing}: {_plain(error)}")


def _tls_context(ca_file: str | None) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=ca_file)
    except OSError as error:
        raise RelayError(f"ca_file {ca_file} cannot be read: {_plain(error)}", hopeless=True) from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _most_telling(problems: list[RelayError]) -> RelayError:
    """Of what the addresses of a name met: what a relay said, else the last."""
    told = [problem for problem in problems if problem.reply is not None or problem.hopeless]
    problem = (told or problems)[-1]
    if len({str(one) for one in problems}) == 1:
        return problem
    reason = f"{problem} ({len(problems)} addresses of the relay were tried)"
    return RelayError(reason, hopeless=problem.hopeless, reply=problem.reply)


def _address_literal(address: str) -> str:
    """Our end's address as EHLO may say it (RFC 5321 §4.1.3)."""
    address = address.partition("%")[0]
    return f"[IPv6:{address}]" if ":" in address else f"[{address}]"


def _plain(error: Exception | None) -> str:
    """An exception in the words of the system, without its number."""
    return getattr(error, "strerror", None) or getattr(error, "reason", None) or str(error) or type(error).__name__
