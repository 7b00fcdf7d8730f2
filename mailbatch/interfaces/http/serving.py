"""Serve the application by uvicorn until SIGTERM or SIGINT."""

from __future__ import annotations

import logging
import os
import signal
import socket
from typing import TYPE_CHECKING

import uvicorn

from mailbatch.domain.errors import SettingsError
from mailbatch.interfaces.http.app import create_app
from mailbatch.interfaces.http.guard import is_loopback

if TYPE_CHECKING:
    from collections.abc import Callable

    from mailbatch.bootstrap import Parts

log = logging.getLogger(__name__)

GRACE = 10
"""Seconds for which answers that are under way may take after SIGTERM."""


def serve(parts: Parts, host: str, port: int, started: Callable[[str], None] = lambda _address: None) -> None:
    """Serve on ``host`` and ``port`` (0: any) until a signal; ``started`` is told the address.

    Raises:
        SettingsError: if others than this machine could ask, and there is no token that they would need.
        OSError: if the port is taken.
    """
    ensure_safe(parts, host)
    with _listening(host, port) as listener:
        app = create_app(parts)
        config = uvicorn.Config(
            app,
            log_config=None,
            # We write our own, without the query.
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=GRACE,
            limit_concurrency=200,
        )
        bound = listener.getsockname()
        shown = f"[{bound[0]}]" if ":" in bound[0] else bound[0]
        started(f"http://{shown}:{bound[1]}")
        server = uvicorn.Server(config)
        app.state.stopping = lambda: server.should_exit
        # uvicorn raises the signal once more when it has ended; to have been told to end is no failure.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda _number, _frame: None)
        server.run(sockets=[listener])


def ensure_safe(parts: Parts, host: str) -> None:
    """Refuse to listen beyond this machine without a token."""
    if not is_loopback(host) and parts.settings.api_token is None:
        raise SettingsError(
            f"serve: MAILBATCH_API_TOKEN is not set, and {host} can be reached by others; set it "
            "(`openssl rand -hex 32` makes one), or listen on 127.0.0.1"
        )


def _listening(host: str, port: int) -> socket.socket:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, _, _, _, address = found[0]
        return socket.create_server(address[:2], family=family, backlog=512)
    except OSError as error:
        said = os.strerror(error.errno) if error.errno and error.errno > 0 else str(error)
        raise OSError(
            f"serve: cannot listen on {host}, port {port}: {said}; choose another --host or --port"
        ) from error
