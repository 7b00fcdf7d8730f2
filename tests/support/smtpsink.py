"""A fast SMTP server for the tests, run as a process of its own: ``python smtpsink.py --journal FILE …``.

It journals each mail before it answers 250 to it, so that what was accepted is known whatever is killed then.
The standard library only, so that it starts at once. PIPELINING (RFC 2920) is announced and served: every reply leaves
in the order of the commands, ``latency`` seconds after its command came, and the commands behind it need not wait.

What it does with a recipient depends on the local part:

- ``refuse-*``: 550 5.1.1
- ``defer-*``: 451 4.7.1 the first ``defer`` times that this address is named, then 250
- ``slow-*``: the 250 to the body comes ``slow`` seconds late
- ``lost-*``: the mail is accepted and journaled, but the connection is cut in place of the 250
"""

from __future__ import annotations

import argparse
import asyncio
import binascii
import hashlib
import json
import os
import re
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

_MESSAGE_ID = re.compile(rb"(?:^|\n)message-id:[ \t\r\n]*([^\r\n]+)", re.IGNORECASE)
_PATH = re.compile(rb"^(?:MAIL FROM|RCPT TO): ?<([^>]*)>(.*)$", re.IGNORECASE | re.DOTALL)
_END_OF_BODY = b"\r\n.\r\n"
_LONGEST_COMMAND = 4096


@dataclass
class Rules:
    """How the sink behaves; times in seconds."""

    latency: float = 0.0
    slow: float = 2.0
    defer: int = 1
    size: int = 64 * 1024 * 1024
    store: Path | None = None
    digest: bool = False


@dataclass
class Ledger:
    """The state that all connections share: journal, count of connections, how often each address was deferred."""

    rules: Rules
    journal: int
    connections: int
    accepted: int = 0
    opened: int = 0
    live: int = 0
    deferred: Counter[str] = field(default_factory=Counter)

    def accept(self, connection: int, sender: str, recipients: list[str], data: bytes) -> int:
        """Journal one mail and return its number. Once this returns, a kill cannot undo it."""
        self.accepted += 1
        head, _, _ = data.partition(b"\r\n\r\n")
        found = _MESSAGE_ID.search(head)
        line = {
            "n": self.accepted,
            "connection": connection,
            "time": time.time(),
            "message_id": found[1].decode("utf-8", "surrogateescape").strip() if found else None,
            "sender": sender,
            "recipients": recipients,
            "size": len(data),
        }
        if self.rules.store is not None:
            name = f"{time.time_ns()}-{connection}.eml"
            (self.rules.store / name).write_bytes(data)
            line["file"] = name
        if self.rules.digest:
            line["digest"] = digest_of_largest_part(data)
        os.write(self.journal, json.dumps(line).encode("ascii") + b"\n")
        return self.accepted

    def note_connection(self) -> int:
        """Record that a client has connected, and return its number."""
        self.opened += 1
        self.live += 1
        line = json.dumps({"connection": self.opened, "time": time.time(), "live": self.live})
        os.write(self.connections, line.encode("ascii") + b"\n")
        return self.opened


class Session(asyncio.Protocol):
    """One client's dialogue."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._rules = ledger.rules
        self._loop = asyncio.get_running_loop()
        self._buffer = bytearray()
        self._in_body = False
        self._sender: str | None = None
        self._recipients: list[str] = []
        self._free_at = 0.0
        self._closed = False
        self._out: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._number = self._ledger.note_connection()
        self._reply(b"220 sink ESMTP")
        self._flush()

    def connection_lost(self, exc: Exception | None) -> None:
        self._closed = True
        self._ledger.live -= 1

    def data_received(self, data: bytes) -> None:
        # The end of a body may straddle two reads: look again at the last bytes of what was there.
        seen = max(0, len(self._buffer) - len(_END_OF_BODY))
        self._buffer += data
        while not self._closed and (self._take_body(seen) if self._in_body else self._take_command()):
            seen = 0
        self._flush()

    def _take_command(self) -> bool:
        end = self._buffer.find(b"\n")
        if end < 0:
            if len(self._buffer) > _LONGEST_COMMAND:
                self._reply(b"500 5.5.2 line too long")
                self._close()
            return False
        line = bytes(self._buffer[:end]).rstrip(b"\r")
        del self._buffer[: end + 1]
        self._command(line)
        return True

    def _command(self, line: bytes) -> None:
        match line[:4].upper():
            case b"EHLO":
                self._reset()
                size = b"SIZE %d" % self._rules.size
                offers = (b"sink", size, b"PIPELINING", b"8BITMIME", b"SMTPUTF8", b"ENHANCEDSTATUSCODES")
                self._reply(b"\r\n".join(b"250-" + offer for offer in offers[:-1]) + b"\r\n250 " + offers[-1])
            case b"HELO":
                self._reset()
                self._reply(b"250 sink")
            case b"MAIL":
                self._mail(line)
            case b"RCPT":
                self._rcpt(line)
            case b"DATA":
                self._data()
            case b"RSET":
                self._reset()
                self._reply(b"250 2.0.0 ok")
            case b"NOOP":
                self._reply(b"250 2.0.0 ok")
            case b"QUIT":
                self._reply(b"221 2.0.0 bye")
                self._close()
            case _:
                self._reply(b"502 5.5.1 not known here")

    def _mail(self, line: bytes) -> None:
        found = _PATH.match(line)
        if self._sender is not None or not found:
            self._reply(b"503 5.5.1 nested MAIL" if found else b"501 5.5.4 no path")
            return
        self._sender = found[1].decode("utf-8", "surrogateescape")
        self._reply(b"250 2.1.0 ok")

    def _rcpt(self, line: bytes) -> None:
        found = _PATH.match(line)
        if self._sender is None or not found:
            self._reply(b"501 5.5.4 no path" if self._sender is not None else b"503 5.5.1 MAIL first")
            return
        recipient = found[1].decode("utf-8", "surrogateescape")
        if recipient.startswith("refuse-"):
            self._reply(b"550 5.1.1 no such user")
        elif recipient.startswith("defer-") and self._ledger.deferred[recipient] < self._rules.defer:
            self._ledger.deferred[recipient] += 1
            self._reply(b"451 4.7.1 try again later")
        else:
            self._recipients.append(recipient)
            self._reply(b"250 2.1.5 ok")

    def _data(self) -> None:
        if not self._recipients:
            self._reply(b"554 5.5.1 no valid recipients" if self._sender is not None else b"503 5.5.1 MAIL first")
            return
        self._in_body = True
        self._reply(b"354 go on")

    def _take_body(self, seen: int) -> bool:
        if self._buffer.startswith(b".\r\n"):
            end, rest = 0, 3
        else:
            found = self._buffer.find(_END_OF_BODY, seen)
            if found < 0:
                return False
            end, rest = found + 2, found + len(_END_OF_BODY)
        data = bytes(self._buffer[:end])
        del self._buffer[:rest]
        self._in_body = False
        self._accept(_unstuffed(data))
        return True

    def _accept(self, data: bytes) -> None:
        recipients = self._recipients
        number = self._ledger.accept(self._number, self._sender or "", recipients, data)
        self._reset()
        if any(recipient.startswith("lost-") for recipient in recipients):
            self._close()
            return
        slow = any(recipient.startswith("slow-") for recipient in recipients)
        self._reply(b"250 2.0.0 taken as %d" % number, late=self._rules.slow if slow else 0.0)

    def _reset(self) -> None:
        self._sender, self._recipients = None, []

    def _reply(self, text: bytes, late: float = 0.0) -> None:
        if late or self._rules.latency or self._free_at:
            self._reply_later(text, late)
        else:
            self._out.append(text + b"\r\n")

    def _reply_later(self, text: bytes, late: float) -> None:
        """Send ``text`` at its time, but never before earlier replies."""
        self._free_at = max(self._free_at, self._loop.time() + self._rules.latency + late)
        self._loop.call_at(self._free_at, self._send, text + b"\r\n")

    def _flush(self) -> None:
        if self._out:
            self._send(b"".join(self._out))
            self._out.clear()

    def _send(self, data: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(data)

    def _close(self) -> None:
        self._closed = True
        self._flush()
        if self._free_at:
            self._loop.call_at(self._free_at, self._transport.close)
        else:
            self._transport.close()


def _unstuffed(data: bytes) -> bytes:
    """RFC 5321 §4.5.2: a leading dot that was doubled is one dot."""
    if data.startswith(b"."):
        data = data[1:]
    return data.replace(b"\r\n.", b"\r\n")


def digest_of_largest_part(data: bytes) -> str:
    """Return the SHA-256 of the largest part, decoded. No text of the mail may have a line that begins with "--"."""
    head, _, body = max(data.split(b"\r\n--"), key=len).partition(b"\r\n\r\n")
    if b"base64" in head:
        body = binascii.a2b_base64(body)
    elif b"quoted-printable" in head:
        body = binascii.a2b_qp(body)
    return hashlib.sha256(body).hexdigest()


async def serve(host: str, port: int, ledger: Ledger, ready: Path) -> None:
    """Listen for ever; write the port to ``ready`` once clients can connect."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Session(ledger), host, port, backlog=512, reuse_address=True)
    half_written = ready.with_suffix(".tmp")
    half_written.write_text(str(server.sockets[0].getsockname()[1]))
    half_written.replace(ready)
    await server.serve_forever()


def main() -> None:
    """Read the command line and serve."""
    reader = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    reader.add_argument("--host", default="127.0.0.1")
    reader.add_argument("--port", type=int, default=0)
    reader.add_argument("--journal", type=Path, required=True)
    reader.add_argument("--connections", type=Path, required=True)
    reader.add_argument("--ready", type=Path, required=True)
    reader.add_argument("--latency", type=float, default=0.0)
    reader.add_argument("--slow", type=float, default=2.0)
    reader.add_argument("--defer", type=int, default=1)
    reader.add_argument("--store", type=Path)
    reader.add_argument("--digest", action="store_true")
    said = reader.parse_args()
    if said.store is not None:
        said.store.mkdir(parents=True, exist_ok=True)
    ledger = Ledger(
        Rules(latency=said.latency, slow=said.slow, defer=said.defer, store=said.store, digest=said.digest),
        journal=_appending(said.journal),
        connections=_appending(said.connections),
    )
    asyncio.run(serve(said.host, said.port, ledger, said.ready))


def _appending(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)


if __name__ == "__main__":
    main()
