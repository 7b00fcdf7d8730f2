"""An SMTP server that fails on demand: a thread for each connection, a raw socket, and a script for each step.

    with FaultServer({"mail": [say("421 4.3.2 closing"), None], "dot": [drop]}) as server: ...

A script gives the steps of ``STEPS`` what to do instead of the ordinary: a list (one entry each time that step comes,
None for the ordinary, the ordinary when used up) or a function (each time). What was accepted is in ``journal`` before
the relay's 250 goes out, so that a lost answer can be told from a lost mail.
"""

from __future__ import annotations

import base64
import contextlib
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self

STEPS = ("connect", "ehlo", "starttls", "auth", "mail", "rcpt", "data", "body", "dot", "rset", "quit")
EXTENSIONS = ("SIZE 10000000", "8BITMIME", "SMTPUTF8", "ENHANCEDSTATUSCODES")
OFFERS = {
    "DATA": EXTENSIONS,
    "PIPELINING": ("PIPELINING", *EXTENSIONS),
    "BDAT": ("PIPELINING", "CHUNKING", *EXTENSIONS),
}
"""The extensions that a relay announces for each dialogue."""

Action = Callable[["Session"], None]
Script = Mapping[str, "Sequence[Action | None] | Action"]


@dataclass(frozen=True)
class Accepted:
    """A mail that the relay accepted."""

    sender: str
    recipients: tuple[str, ...]
    data: bytes
    connection: int
    encrypted: bool
    options: str = ""
    username: str | None = None


class HungUp(Exception):
    """The connection is over."""


# --- what a step may do ------------------------------------------------------------------------------------------


def say(*lines: str) -> Action:
    """Reply with these lines instead; after a 421 close the connection."""

    def action(session: Session) -> None:
        for line in lines:
            session.say(line)
        if lines[-1].startswith("421"):
            session.part()
            raise HungUp

    return action


def raw(data: bytes) -> Action:
    """Reply with exactly these bytes."""
    return lambda session: session.write(data)


def drop(session: Session) -> None:
    """Close the connection without a reply."""
    raise HungUp


def reset(session: Session) -> None:
    """Close it by RST, so that the client also loses the data on its way."""
    session.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    raise HungUp


def accept_then(action: Action) -> Action:
    """At ``dot``: take the mail, write it in the journal, and then do ``action`` instead of saying 250."""

    def accepting(session: Session) -> None:
        session.record()
        action(session)

    return accepting


def after_reading(size: int, action: Action) -> Action:
    """At ``body``: read so many bytes of it, and then do ``action``."""

    def reading(session: Session) -> None:
        while len(session.buffer) < size and (data := session.read()):
            session.buffer += data
        action(session)

    return reading


def silence(session: Session) -> None:
    """Send nothing and read nothing until the client disconnects or the server stops."""
    session.server.stopping.wait(30)
    raise HungUp


def listen_in_silence(session: Session) -> None:
    """Send nothing, and notice when the client disconnects."""
    while session.read():
        pass
    raise HungUp


def flood(session: Session) -> None:
    """Send a reply without end."""
    while not session.server.stopping.is_set():
        session.sock.sendall(b"250-and so on\r\n" * 1000)


def drip(text: bytes, seconds: float) -> Action:
    """Send one byte of the reply every so many seconds."""

    def action(session: Session) -> None:
        for byte in text:
            session.write(bytes([byte]))
            if session.server.stopping.wait(seconds):
                raise HungUp

    return action


# --- the server --------------------------------------------------------------------------------------------------


class FaultServer:
    """Listens on a port of 127.0.0.1, by default a free one, inside its ``with`` block."""

    def __init__(
        self,
        script: Script | None = None,
        *,
        extensions: Sequence[str] | None = None,
        tls: ssl.SSLContext | None = None,
        implicit_tls: bool = False,
        login: tuple[str, str] | None = None,
        mechanisms: str = "PLAIN LOGIN CRAM-MD5",
        port: int = 0,
        helo: str = "",
    ) -> None:
        assert set(script or {}) <= set(STEPS)
        self.script = {step: (iter(todo) if not callable(todo) else todo) for step, todo in (script or {}).items()}
        self.extensions = EXTENSIONS if extensions is None else extensions
        self.tls = tls
        self.implicit_tls = implicit_tls
        self.login = login
        self.mechanisms = mechanisms
        self.helo = helo
        self.journal: list[Accepted] = []
        self.commands: list[tuple[int, str]] = []
        self.trials: list[int] = []
        self.sessions: list[Session] = []
        self.stopping = threading.Event()
        self._changed = threading.Condition()
        self._listener = socket.create_server(("127.0.0.1", port))
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._accept, name="smtpfault", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopping.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()
        for session in self.sessions:
            session.stop()

    @property
    def verbs(self) -> list[str]:
        """Return the verbs of all commands in the order in which they came."""
        return [command.split(" ")[0].upper() for _, command in self.commands]

    def todo(self, step: str) -> Action | None:
        with self._changed:
            todo = self.script.get(step)
            return todo if callable(todo) else next(todo, None) if todo is not None else None

    def note(self, change: Callable[[], object]) -> None:
        with self._changed:
            change()
            self._changed.notify_all()

    def wait_for(self, condition: Callable[[], bool], seconds: float = 10) -> None:
        """Wait until ``condition`` holds, which is looked at after each command and each end of a connection."""
        with self._changed:
            assert self._changed.wait_for(condition, seconds), "the relay did not see what was waited for"

    @property
    def open_sessions(self) -> int:
        return sum(not session.ended for session in self.sessions)

    def _accept(self) -> None:
        while not self.stopping.is_set():
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            # Replies are written one by one, and none is to wait for the acknowledgement of the one before.
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            session = Session(self, sock, len(self.sessions) + 1)
            self.note(lambda session=session: self.sessions.append(session))
            session.thread.start()


@dataclass(eq=False)
class Session:
    """One connection."""

    server: FaultServer
    sock: socket.socket
    number: int
    sender: str | None = None
    options: str = ""
    recipients: list[str] = field(default_factory=list)
    data: bytes = b""
    command: str = ""
    username: str | None = None
    ended: bool = False
    has_begun: bool = False
    prefix: bytes = b""
    ordinary: Callable[[], None] = lambda: None

    def __post_init__(self) -> None:
        self.buffer = bytearray()
        self.said = b""
        self.thread = threading.Thread(target=self.serve, name=f"smtpfault {self.number}", daemon=True)

    # --- bytes

    def write(self, data: bytes) -> None:
        try:
            self.sock.sendall(self.prefix + data)
        except OSError as error:
            raise HungUp from error
        self.said += self.prefix + data
        self.prefix = b""

    def say(self, line: str) -> None:
        self.write(f"{line}\r\n".encode())

    def read(self) -> bytes:
        try:
            return self.sock.recv(65536)
        except OSError:
            return b""

    def part(self) -> None:
        """Send no more, and read until the client goes.

        To close with unread bytes would reset the connection, and what the kernel has not sent yet would be lost.
        """
        socket.socket.shutdown(self.sock, socket.SHUT_WR)
        self.sock.settimeout(10)
        while self.read():
            pass

    def read_until(self, end: bytes) -> bytes:
        looked_at = 0
        while (at := self.buffer.find(end, looked_at)) < 0:
            looked_at = max(0, len(self.buffer) - len(end))
            data = self.read()
            if not data:
                raise HungUp
            self.buffer += data
        found = bytes(self.buffer[:at])
        del self.buffer[: at + len(end)]
        return found

    def stop(self) -> None:
        with contextlib.suppress(OSError):
            socket.socket.shutdown(self.sock, socket.SHUT_RDWR)
        self.thread.join()

    # --- the dialogue

    def serve(self) -> None:
        try:
            if self.server.implicit_tls:
                self.encrypt()
            self.step("connect", lambda: self.say("220 fault.example ESMTP"))
            while True:
                self.command = self.read_until(b"\r\n").decode()
                if self.command.startswith("BDAT") and not self.has_begun:
                    self.swallow_trial()
                    continue
                self.has_begun |= self.command.startswith("MAIL")
                self.server.note(lambda: self.server.commands.append((self.number, self.command)))
                self.obey(*self.command.partition(" ")[::2])
        except (HungUp, OSError):
            pass
        finally:
            self.sock.close()
            self.server.note(lambda: setattr(self, "ended", True))

    def swallow_trial(self) -> None:
        """A chunk before any mail, by which a client sees what becomes of one that is refused; no step of a script."""
        self.server.note(lambda: self.server.trials.append(self.number))
        assert self.read_until(b"\r\nRSET\r\n") == b"QUIT"
        self.say("503 5.5.1 no recipients")
        self.say("250 2.0.0 forgotten")

    def obey(self, verb: str, rest: str) -> None:
        match verb.upper():
            case "EHLO":
                self.step("ehlo", self.greet)
            case "STARTTLS":
                self.step("starttls", self.start_tls)
            case "AUTH":
                self.step("auth", lambda: self.authenticate(rest))
            case "MAIL":
                self.step("mail", lambda: self.mail(rest))
            case "RCPT":
                self.step("rcpt", lambda: self.rcpt(rest))
            case "DATA":
                self.read_mail()
            case "BDAT":
                self.read_chunk(int(rest.partition(" ")[0]))
            case "RSET":
                self.step("rset", lambda: self.say("250 2.0.0 forgotten"))
                self.forget()
            case "QUIT":
                self.step("quit", lambda: self.say("221 2.0.0 bye"))
                raise HungUp
            case other:
                self.say((other == "HELO" and self.server.helo) or "500 5.5.1 what?")

    def step(self, name: str, ordinary: Callable[[], None]) -> None:
        self.ordinary = ordinary
        self.said = b""
        action = self.server.todo(name)
        if action is None:
            ordinary()
        else:
            action(self)

    def greet(self) -> None:
        lines = ["fault.example", *self.server.extensions]
        if self.server.tls and not self.encrypted:
            lines.append("STARTTLS")
        if self.server.login:
            lines.append(f"AUTH {self.server.mechanisms}")
        for line in lines[:-1]:
            self.prefix += f"250-{line}\r\n".encode()
        self.say(f"250 {lines[-1]}")

    @property
    def encrypted(self) -> bool:
        return isinstance(self.sock, ssl.SSLSocket)

    def start_tls(self) -> None:
        self.say("220 2.0.0 go ahead")
        self.encrypt()

    def encrypt(self) -> None:
        assert self.server.tls is not None
        self.sock = self.server.tls.wrap_socket(self.sock, server_side=True)

    def authenticate(self, rest: str) -> None:
        mechanism, _, initial = rest.partition(" ")
        if mechanism == "PLAIN":
            _, user, password = base64.b64decode(initial).decode().split("\0")
        elif mechanism == "LOGIN":
            user, password = (self.challenge(prompt) for prompt in ("Username:", "Password:"))
        elif mechanism == "XOAUTH2":
            fields = dict(part.split("=", 1) for part in base64.b64decode(initial).decode().strip("\1").split("\1"))
            user, password = fields["user"], fields["auth"].removeprefix("Bearer ")
            if (user, password) != self.server.login:
                self.challenge('{"status":"401"}')
        else:
            self.say("504 5.5.4 not this one")
            return
        if (user, password) == self.server.login:
            self.username = user
            self.say("235 2.7.0 welcome")
        else:
            self.say(f"535 5.7.8 no: {password}")

    def challenge(self, prompt: str) -> str:
        self.say(f"334 {base64.b64encode(prompt.encode()).decode()}")
        return base64.b64decode(self.read_until(b"\r\n")).decode()

    def mail(self, rest: str) -> None:
        if self.sender is not None:
            self.say("503 5.5.1 nested MAIL")
            return
        self.forget()
        address, _, self.options = rest.removeprefix("FROM:<").partition(">")
        self.sender = address
        self.say("250 2.1.0 sender noted")

    def rcpt(self, rest: str) -> None:
        if self.sender is None:
            self.say("503 5.5.1 no sender")
            return
        self.recipients.append(rest.removeprefix("TO:<").partition(">")[0])
        self.say("250 2.1.5 recipient noted")

    def forget(self) -> None:
        self.sender, self.recipients, self.data = None, [], b""

    def read_mail(self) -> None:
        self.step("data", lambda: self.say("354 go on" if self.recipients else "503 5.5.1 no recipients"))
        if not self.said.startswith(b"354"):
            return
        self.step("body", lambda: None)
        body = self.read_until(b"\r\n.\r\n") + b"\r\n"
        self.data = body.replace(b"\r\n..", b"\r\n.").removeprefix(b".")
        self.step("dot", self.take)
        self.forget()

    def read_chunk(self, size: int) -> None:
        """BDAT n LAST (RFC 3030): it is read whatever it is answered; both ``data`` and ``dot`` may be scripted."""
        self.step("body", lambda: None)
        while len(self.buffer) < size:
            data = self.read()
            if not data:
                raise HungUp
            self.buffer += data
        self.data = bytes(self.buffer[:size])
        del self.buffer[:size]
        if self.sender is None or not self.recipients:
            self.say("503 5.5.1 no recipients")
            return
        self.said = b""
        action = self.server.todo("data")
        if action is not None:
            action(self)
        else:
            self.step("dot", self.take)
        self.forget()

    def take(self) -> None:
        self.record()
        self.say(f"250 2.0.0 queued as {len(self.server.journal)}")

    def record(self) -> None:
        accepted = Accepted(
            self.sender or "",
            tuple(self.recipients),
            self.data,
            self.number,
            self.encrypted,
            self.options.strip(),
            self.username,
        )
        self.server.note(lambda: self.server.journal.append(accepted))
