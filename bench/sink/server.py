"""The SMTP sink of the bench: it accepts every mail, offers PIPELINING and CHUNKING, and delays its replies.

Each reply is sent one round trip after its command arrived, in order, and delays no reply behind it. This is how a far
relay behaves; a server that sleeps does not. One thread, no dependency, one regular expression a mail where possible.

Besides SMTP (RFC 5321, 2920, 3030) it has commands for the bench, on connections that are not counted: XSET (delay in
seconds, extensions), XSTATS, XTIMES. Each returns one line of JSON.
"""

from __future__ import annotations

import json
import re
import select
import socket
import sys
from array import array
from collections import deque
from time import monotonic, process_time

GREETING = b"220 sink ESMTP\r\n"
OK = b"250 2.0.0 Ok\r\n"
NO_MAIL = b"503 5.5.1 no mail\r\n"
GO_AHEAD = b"354 End data with <CR><LF>.<CR><LF>\r\n"
END_OF_DATA = b"\r\n.\r\n"
EMPTY = b".\r\n"
READ_BYTES = 1 << 20
# All commands of a mail in one piece, as a pipelining client writes them.
CHUNKED = re.compile(rb"MAIL [^\r\n]*\r\n(?:RCPT [^\r\n]*\r\n)+BDAT (\d+) LAST\r\n", re.IGNORECASE)
EXTENSIONS = ("PIPELINING", "CHUNKING", "8BITMIME", "SMTPUTF8")


class Account:
    """Counts since the last XSET."""

    def __init__(self) -> None:
        self.delay = 0.0
        self.offers: tuple[str, ...] = EXTENSIONS
        self.open = self.most_open = 0
        self.reset()

    def reset(self) -> None:
        self.connections = 0
        self.most_open = self.open
        self.bytes = 0
        self.times = array("d")
        self.protocols: dict[str, int] = {}
        self.cpu = process_time()

    def took(self, protocol: str, size: int) -> None:
        """Count a complete mail of ``size`` bytes."""
        self.times.append(monotonic())
        self.bytes += size
        self.protocols[protocol] = self.protocols.get(protocol, 0) + 1

    def stats(self) -> dict[str, object]:
        """Return all counts, without the times."""
        return {
            "mails": len(self.times),
            "bytes": self.bytes,
            "connections": self.connections,
            "most_open": self.most_open,
            "protocols": self.protocols,
            "cpu": process_time() - self.cpu,
            "first": self.times[0] if self.times else None,
            "last": self.times[-1] if self.times else None,
        }


class Session:
    """The dialogue on one connection: bytes in, replies out."""

    def __init__(self, account: Account) -> None:
        self.account = account
        self.rest = b""
        self.skip = 0
        self.chunk = 0
        self.is_last = False
        self.in_data = False
        self.data_bytes = 0
        self.protocol = ""
        self.speaks_smtp = False
        self.ended = False

    def receive(self, new: bytes) -> bytes:
        """Return the replies to all commands that ``new`` completes."""
        data = self.rest + new if self.rest else new
        replies: list[bytes] = []
        at, end = 0, len(data)
        while at < end:
            if self.skip:
                step = min(self.skip, end - at)
                at += step
                self.skip -= step
                if not self.skip:
                    self._chunk_is_in(replies)
            elif self.in_data:
                at = self._body(data, at, replies)
                if self.in_data:
                    break
            elif whole := CHUNKED.match(data, at):
                replies.append(OK * (whole[0].count(b"\n") - 1))
                at = whole.end()
                self.protocol = "BDAT"
                self._expect_chunk(int(whole[1]), is_last=True)
                if not self.skip:
                    self._chunk_is_in(replies)
            else:
                line_end = data.find(b"\n", at)
                if line_end < 0:
                    break
                self._command(data[at:line_end].rstrip(b"\r"), line_end + 1 < end, replies)
                at = line_end + 1
        self.rest = data[at:]
        return b"".join(replies)

    def _expect_chunk(self, size: int, *, is_last: bool) -> None:
        self.skip, self.chunk, self.is_last = size, size, is_last

    def _chunk_is_in(self, replies: list[bytes]) -> None:
        if not self.protocol:
            replies.append(NO_MAIL)
            return
        self.data_bytes += self.chunk
        if self.is_last:
            self.account.took("BDAT", self.data_bytes)
            self.data_bytes = 0
        replies.append(OK)

    def _body(self, data: bytes, at: int, replies: list[bytes]) -> int:
        """Search for the end of DATA; keep bytes that may be its beginning."""
        if not self.data_bytes and data.startswith(EMPTY, at):
            # Its first CRLF may be that of the line DATA (RFC 5321 §4.1.1.4).
            size, end = 0, at + len(EMPTY)
        elif (found := data.find(END_OF_DATA, at)) >= 0:
            size, end = found + 2 - at, found + len(END_OF_DATA)
        else:
            keep = max(at, len(data) - len(END_OF_DATA) + 1)
            self.data_bytes += keep - at
            return keep
        self.account.took(self.protocol, self.data_bytes + size)
        self.in_data, self.data_bytes = False, 0
        replies.append(OK)
        return end

    def _command(self, line: bytes, more_follows: bool, replies: list[bytes]) -> None:  # noqa: FBT001
        verb, _, rest = line.partition(b" ")
        verb = verb.upper()
        if verb == b"MAIL":
            # A client that writes on without waiting for this reply uses pipelining.
            self.protocol = "PIPELINING" if more_follows else "DATA"
            replies.append(OK)
        elif verb == b"DATA":
            self.in_data = True
            replies.append(GO_AHEAD)
        elif verb == b"BDAT":
            size, _, last = rest.partition(b" ")
            # Without a mail before it, the client tests whether a refused chunk is read.
            self.protocol = self.protocol and "BDAT"
            self._expect_chunk(int(size), is_last=last.strip().upper() == b"LAST")
            if not self.skip:
                self._chunk_is_in(replies)
        elif verb == b"EHLO":
            lines = ["sink", *self.account.offers]
            replies.append(
                "".join(f"250{'-' if i < len(lines) else ' '}{x}\r\n" for i, x in enumerate(lines, 1)).encode()
            )
        elif verb == b"QUIT":
            self.ended = True
            replies.append(b"221 2.0.0 Bye\r\n")
        elif verb in {b"RCPT", b"RSET", b"NOOP", b"HELO"}:
            replies.append(OK)
        elif verb.startswith(b"X"):
            replies.append(self._of_the_bench(verb, rest))
        else:
            replies.append(b"500 5.5.2 unknown command\r\n")
        if not verb.startswith(b"X"):
            self._is_counted()

    def _is_counted(self) -> None:
        if not self.speaks_smtp:
            self.speaks_smtp = True
            self.account.connections += 1
            self.account.open += 1
            self.account.most_open = max(self.account.most_open, self.account.open)

    def _of_the_bench(self, verb: bytes, rest: bytes) -> bytes:
        account = self.account
        if verb == b"XSET":
            wanted = json.loads(rest)
            account.delay = float(wanted["delay"])
            account.offers = tuple(wanted["offers"])
            account.reset()
        answer = account.times.tolist() if verb == b"XTIMES" else account.stats()
        return json.dumps(answer).encode() + b"\r\n"


class Server:
    """The event loop: it reads all input and sends each reply after its round trip."""

    def __init__(self, listener: socket.socket) -> None:
        self.listener = listener
        self.account = Account()
        self.sockets: dict[int, socket.socket] = {}
        self.sessions: dict[int, Session] = {}
        # All replies have the same delay, so the first in is the first out.
        self.line: deque[tuple[float, socket.socket, bytes, bool]] = deque()

    def run(self) -> None:
        listening = self.listener.fileno()
        while True:
            # Not epoll: it counts in milliseconds, too coarse for a short round trip.
            wait = max(0.0, self.line[0][0] - monotonic()) if self.line else None
            readable, _, _ = select.select([listening, *self.sockets], (), (), wait)
            for fd in readable:
                if fd == listening:
                    self._accept()
                else:
                    self._read(fd)
            self._let_go()

    def _accept(self) -> None:
        sock, _ = self.listener.accept()
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sockets[sock.fileno()] = sock
        self.sessions[sock.fileno()] = Session(self.account)
        self._answer(sock, GREETING, last=False)

    def _read(self, fd: int) -> None:
        sock, session = self.sockets[fd], self.sessions[fd]
        try:
            new = sock.recv(READ_BYTES)
        except ConnectionError:
            new = b""
        if not new:
            self._close(fd)
        elif replies := session.receive(new):
            self._answer(sock, replies, last=session.ended)

    def _answer(self, sock: socket.socket, replies: bytes, *, last: bool) -> None:
        if self.account.delay:
            self.line.append((monotonic() + self.account.delay, sock, replies, last))
        else:
            self._write(sock, replies, last=last)

    def _let_go(self) -> None:
        while self.line and self.line[0][0] <= monotonic():
            _, sock, replies, last = self.line.popleft()
            self._write(sock, replies, last=last)

    def _write(self, sock: socket.socket, replies: bytes, *, last: bool) -> None:
        if sock.fileno() < 0:
            return
        try:
            sock.sendall(replies)
        except OSError:
            last = True
        if last:
            self._close(sock.fileno())

    def _close(self, fd: int) -> None:
        session = self.sessions.pop(fd)
        self.account.open -= session.speaks_smtp
        self.sockets.pop(fd).close()


def main() -> None:
    """Listen on a free port of the loopback interface, and print the port."""
    listener = socket.create_server(("127.0.0.1", int(sys.argv[1]) if len(sys.argv) > 1 else 0), backlog=256)
    sys.stdout.write(f"{listener.getsockname()[1]}\n")
    sys.stdout.flush()
    Server(listener).run()


if __name__ == "__main__":
    main()
