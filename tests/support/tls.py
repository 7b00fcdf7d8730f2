"""A TLS server in front of a server without TLS."""

from __future__ import annotations

import socket
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def tls_before(unix_socket: Path | str, context: ssl.SSLContext) -> Iterator[int]:
    """Listen with TLS on a port of this machine, forward to ``unix_socket``, and yield the port."""
    listener = socket.create_server(("127.0.0.1", 0))
    threads: list[threading.Thread] = []
    open_ones: list[socket.socket] = []

    def serve() -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=_carry, args=(client, str(unix_socket), context, open_ones), daemon=True)
            thread.start()
            threads.append(thread)

    accepting = threading.Thread(target=serve, daemon=True)
    accepting.start()
    try:
        yield listener.getsockname()[1]
    finally:
        # A close alone leaves the thread in accept().
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        for one in open_ones:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        for thread in (accepting, *threads):
            thread.join(10)


def _carry(client: socket.socket, unix_socket: str, context: ssl.SSLContext, open_ones: list[socket.socket]) -> None:
    with (
        client,
        suppress(OSError),
        context.wrap_socket(client, server_side=True) as secure,
        socket.socket(socket.AF_UNIX) as server,
    ):
        server.connect(unix_socket)
        open_ones += (secure, server)
        back = threading.Thread(target=_pump, args=(server, secure), daemon=True)
        back.start()
        _pump(secure, server)
        server.shutdown(socket.SHUT_RDWR)
        back.join(10)


def _pump(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
