"""Opens a connection to a relay: connects, greets, encrypts and logs in, by blocking calls.

Four habits of ``smtplib`` are changed. It accepts any certificate by default, leaves Nagle's algorithm on, asks the DNS
for our name, and tries a refused password again with each mechanism. This module does none of these.
"""

from __future__ import annotations

import logging
import socket
import ssl
from typing import Any

from mailbatch.infrastructure.smtp.deadline_smtp import DeadlineSmtp
from mailbatch.infrastructure.smtp.errors import HandshakeTimeout, RelayError, system_words
from mailbatch.infrastructure.smtp.login import log_in, log_in_by_token
from mailbatch.infrastructure.smtp.relay import Security
from mailbatch.infrastructure.smtp.replies import GREETING, OK, RawReply, ReplyReader

logger = logging.getLogger(__name__)

_QUIT_TIMEOUT = 1.0
_CHUNK_TRIAL_TIMEOUT = 5.0
_PERMANENT = 5
_TLS_PORT = 465
_TLS_RECORDS = (b"\x15\x03", b"\x16\x03")
"""How an alert or a handshake begins in TLS (RFC 8446 §5.1)."""
_NO_TLS = ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG", "UNEXPECTED_MESSAGE")
"""The errors of OpenSSL for a greeting without TLS."""


class Handshake(DeadlineSmtp):
    """The first part of a connection. At its end ``begin_dialogue`` hands the socket to the dialogue."""

    def open(self) -> None:
        """Connect, greet, encrypt and log in, as the relay's settings say."""
        try:
            self._connect_and_greet()
            self._greet()
            if self.relay.security in (Security.STARTTLS_REQUIRED, Security.STARTTLS_TRY):
                self._start_tls()
            if self.relay.username is not None:
                self._log_in(self.relay.username)
        except BaseException:
            self.close()
            raise

    def swallows_refused_chunk(self) -> bool | None:
        """Try with a chunk that the relay must refuse whether it reads and discards such a chunk (RFC 3030 §2).

        The chunk is QUIT: a relay that reads it as a command ends the connection. Return True if it discards the chunk,
        False if it answers anything else, None if it hangs up or is silent. Unless True, the connection is closed.
        """
        self._begin("a chunk without a mail", min(_CHUNK_TRIAL_TIMEOUT, self.relay.timeout))
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

    def begin_dialogue(self) -> socket.socket:
        """Return the socket, which no longer blocks; ``close`` still closes it.

        Raises:
            RelayError: the relay sent something that we have not asked for.
        """
        self._refuse_unread()
        sock = self._socket()
        sock.setblocking(False)
        return sock

    def quit_and_close(self) -> None:
        """Send QUIT, wait up to ``_QUIT_TIMEOUT`` seconds for the reply, and close. An error is logged, not raised."""
        try:
            self._begin("QUIT", min(_QUIT_TIMEOUT, self.relay.timeout))
            self.docmd("QUIT")
        except RelayError as error:
            logger.debug("%s: no reply to QUIT: %s", self.relay.name, error)
        finally:
            self.close()

    # --- opening -------------------------------------------------------------------------------------------------

    def _connect_and_greet(self) -> None:
        """Connect to the first address of the relay's name that greets us (RFC 5321 §5.1)."""
        host, port = self.relay.host, self.relay.port
        self._host = host  # the name of the attribute in smtplib
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise RelayError(f"cannot find {host}: {system_words(error)}") from error
        problems: list[RelayError] = []
        # Each address gets an equal part of the time, so that a silent one cannot use it up.
        share = self.relay.timeout / len(found)
        for family, kind, protocol, _, address in found:
            try:
                self._connect((family, kind, protocol), address, share)
                self._read_greeting()
            except RelayError as error:
                self.close()
                problems.append(error)
                if error.hopeless or self._aborted:
                    break
            else:
                return
        raise _best_error(problems)

    def _connect(self, kind: tuple[int, int, int], address: Any, seconds: float) -> None:
        self._replies, self._first_bytes = ReplyReader(), b""
        self._begin("connecting", seconds)
        try:
            self.sock = sock = socket.socket(*kind)
            self._armed().connect(address)
            # The end of the body is a write of its own: without this it waits 40 ms for a delayed ACK.
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError as error:
            raise RelayError(f"cannot connect: {system_words(error)}") from error

    def _read_greeting(self) -> None:
        if self.relay.security is Security.TLS:
            self._encrypt()
        self._begin("the greeting", self.relay.timeout)
        try:
            reply = self._next_reply()
        except RelayError as error:
            raise self._with_tls_hint(error) from error
        self._expect(GREETING, "the greeting", reply.decoded())

    def _with_tls_hint(self, error: RelayError) -> RelayError:
        """Add a hint if the port may expect TLS from the start: it was silent, or answered in TLS."""
        might_be = (
            self.relay.port == _TLS_PORT
            or isinstance(error, HandshakeTimeout)
            or self._first_bytes.startswith(_TLS_RECORDS)
        )
        if self.relay.security is Security.TLS or not might_be or self._aborted:
            return error
        return RelayError(f"{error}; if this port speaks TLS from the start, write smtps:// for smtp://")

    def _greet(self) -> None:
        if not self.local_hostname:
            self.local_hostname = _address_literal(self._socket().getsockname()[0])
        self._begin("EHLO", self.relay.timeout)
        self._refuse_unread()
        code, text = self.ehlo()
        if code == OK:
            return
        refusal = RawReply(code, tuple(text.split(b"\n"))).decoded()
        # RFC 5321 §3.2: a server that does not know EHLO may know HELO.
        if code // 100 != _PERMANENT or self.helo()[0] != OK:
            raise self._over(f"EHLO was refused: {refusal}", reply=refusal)
        self.esmtp_features.clear()
        logger.debug("%s: greeted by HELO, because EHLO was refused: %s", self.relay.name, refusal)

    def _start_tls(self) -> None:
        if not self.has_extn("starttls"):
            if self.relay.security is Security.STARTTLS_REQUIRED:
                raise self._over("the relay does not offer STARTTLS, which starttls=required asks for", hopeless=True)
            return
        self._expect(GREETING, "STARTTLS", self.ask("STARTTLS"))
        if self._replies:
            # RFC 3207 §4.2; CVE-2011-0411: bytes that came in clear would be read as if TLS had protected them.
            raise self._over("the relay, or someone between, answered ahead of TLS")
        self._encrypt()
        self._greet()

    def _encrypt(self) -> None:
        context = _tls_context(self.relay.ca_file)
        self._begin("the TLS handshake", self.relay.timeout)
        sock = self._armed()
        try:
            # The handshake is a step of its own, so that abort() finds the socket.
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
            raise self._over(f"the connection broke at the TLS handshake: {system_words(error)}{hint}") from error
        except (OSError, ValueError) as error:
            raise self._broken(error) from error

    def _log_in(self, username: str) -> None:
        if self.tls_version is None and self.relay.security is not Security.OFF:
            reason = "the relay does not offer STARTTLS, and the password does not go out in clear"
            raise RelayError(reason, hopeless=True)
        offered = self.esmtp_features.get("auth", "")
        if (token := self.relay.access_token) is not None:
            log_in_by_token(self.ask, offered, username, token)
        else:
            log_in(self.ask, offered, username, self.relay.password or "")


def has_unread(sock: socket.socket) -> bool:
    """Whether TLS holds decrypted bytes, which a poll of the socket does not report."""
    return isinstance(sock, ssl.SSLSocket) and sock.pending() > 0


def _tls_context(ca_file: str | None) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=ca_file)
    except OSError as error:
        raise RelayError(f"ca_file {ca_file} cannot be read: {system_words(error)}", hopeless=True) from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _best_error(problems: list[RelayError]) -> RelayError:
    """Return the most useful error: the last one with a reply or that is ``hopeless``, else the last one."""
    telling = [problem for problem in problems if problem.reply is not None or problem.hopeless]
    problem = (telling or problems)[-1]
    if len({str(one) for one in problems}) == 1:
        return problem
    reason = f"{problem} ({len(problems)} addresses of the relay were tried)"
    return RelayError(reason, hopeless=problem.hopeless, reply=problem.reply)


def _address_literal(address: str) -> str:
    """Return our address in the form for EHLO (RFC 5321 §4.1.3)."""
    address = address.partition("%")[0]
    return f"[IPv6:{address}]" if ":" in address else f"[{address}]"
