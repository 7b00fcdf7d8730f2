"""A network namespace whose wires can be cut without a word: no reset, no refusal, only silence."""

from __future__ import annotations

import socket
import socketserver
import subprocess
import threading
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType


@dataclass
class Network:
    """The namespace ``name``, which exists; it goes with all its wires at the end."""

    name: str
    _exits: ExitStack = field(default_factory=ExitStack)
    _wires: int = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._exits.close()
        _ip("netns", "del", self.name)

    @property
    def under(self) -> tuple[str, ...]:
        """The words that start a command inside of it."""
        return ("ip", "netns", "exec", self.name)

    def wire(self, dial: Callable[[], socket.socket]) -> PooledConnection:
        """Lay a wire; at our end of it whoever comes is joined with what ``dial`` reaches."""
        self._wires += 1
        ours, theirs, net = f"{self.name}a{self._wires}", f"{self.name}b{self._wires}", f"198.18.{self._wires}"
        _ip("link", "add", ours, "type", "veth", "peer", "name", theirs, "netns", self.name)
        _ip("addr", "add", f"{net}.1/30", "dev", ours)
        _ip("link", "set", ours, "up")
        _ip("-n", self.name, "addr", "add", f"{net}.2/30", "dev", theirs)
        _ip("-n", self.name, "link", "set", theirs, "up")
        ferry = Ferry((f"{net}.1", 0), dial)
        threading.Thread(target=ferry.serve_forever, daemon=True).start()
        self._exits.callback(ferry.server_close)
        self._exits.callback(ferry.shutdown)
        return PooledConnection(self.name, theirs, f"{net}.1", ferry.server_address[1])


@dataclass(frozen=True, slots=True)
class PooledConnection:
    """The way from inside the namespace to ``host`` and ``port``."""

    namespace: str
    device: str
    host: str
    port: int

    def cut(self) -> None:
        """From now on nothing comes through."""
        _ip("-n", self.namespace, "link", "set", self.device, "down")

    def mend(self) -> None:
        """It does again."""
        _ip("-n", self.namespace, "link", "set", self.device, "up")


class Ferry(socketserver.ThreadingTCPServer):
    """Joins each connection with one of its own to elsewhere."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, address: tuple[str, int], dial: Callable[[], socket.socket]) -> None:
        self.dial = dial
        super().__init__(address, _Passenger)


class _Passenger(socketserver.BaseRequestHandler):
    server: Ferry

    def handle(self) -> None:
        with self.server.dial() as there:
            back = threading.Thread(target=_carry, args=(there, self.request), daemon=True)
            back.start()
            _carry(self.request, there)
            back.join()


def _carry(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while some := source.recv(65536):
            target.sendall(some)
    for end in (source, target):
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)
