"""Serves the application with uvicorn until SIGTERM or SIGINT."""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
from typing import TYPE_CHECKING, Any

import uvicorn

from mailbatch.batch.monitor import EVERY, IncidentNotifier, JobMonitor
from mailbatch.bootstrap import Parts
from mailbatch.config import short_tokens
from mailbatch.domain.errors import SettingsError
from mailbatch.domain.job_name import SEND_ALL
from mailbatch.interfaces.console import overview
from mailbatch.interfaces.http.app import create_app
from mailbatch.interfaces.http.connections import BACKLOG, TimedConnection
from mailbatch.interfaces.http.guard import is_loopback

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from fastapi import FastAPI

    from mailbatch.config import Settings

log = logging.getLogger(__name__)

GRACE = 10
"""Seconds that requests in progress may take after SIGTERM."""
_EXAMPLE = "CHANGE-ME"
"""The token of the examples in deploy/, which everybody can read."""


def serve(parts: Parts, host: str, port: int, started: Callable[[str], None] = lambda _address: None) -> None:
    """Serve on ``host`` and ``port`` (0: any) until a signal. ``started`` is called with the address.

    Raises:
        SettingsError: if other machines could connect although there is no token.
        OSError: if the port is taken.
    """
    ensure_safe(parts.settings, host)
    for line in short_tokens(parts.settings):
        log.warning("%s", line)
    with _listening(host, port) as listener:
        app = create_app(parts)
        config = config_of(app)
        bound = listener.getsockname()
        shown = f"[{bound[0]}]" if ":" in bound[0] else bound[0]
        started(f"http://{shown}:{bound[1]}")
        server = _Server(config)
        app.state.stopping = lambda: server.should_exit
        monitor = monitor_of(parts)
        monitor.start()
        threading.Thread(target=overview.prepare, args=(app,), name="first-page", daemon=True).start()
        # uvicorn raises the signal again when it has ended; here a requested end is no failure.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda _number, _frame: None)
        server.run(sockets=[listener])
        monitor.stop()


def monitor_of(parts: Parts, every: float = EVERY) -> JobMonitor:
    """Return a monitor of ``send-all`` for this process, because worker and beat may both be dead.

    It does not close runs that died: the database role of ``serve`` may not have the right to.
    """
    return JobMonitor(
        lambda: parts.operating.watch(SEND_ALL)(SEND_ALL),
        every=every,
        notify=IncidentNotifier(lambda: Parts(parts.settings)),
    )


def config_of(app: FastAPI, **more: Any) -> uvicorn.Config:
    """Return the configuration of uvicorn. The guard limits requests; each connection limits its waiting."""
    return uvicorn.Config(
        app,
        log_config=None,
        # The guard writes its own log, without the query.
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=GRACE,
        http=TimedConnection,
        ws="none",
        backlog=BACKLOG,
        **more,
    )


class _Server(uvicorn.Server):
    """Ends on a signal even if a request in progress does not end: uvicorn would wait for its thread for ever."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        super().handle_exit(sig, frame)
        last = threading.Timer(GRACE + 1, _leave)
        last.daemon = True
        last.start()


def _leave() -> None:
    # A thread waits for a relay or a database. What is not committed is not done; its audit entry stays `begun`.
    log.warning("an answer was still under way after %d s, and is given up", GRACE)
    logging.shutdown()
    os._exit(0)


def ensure_safe(settings: Settings, host: str) -> None:
    """Raise ``SettingsError`` if the server would listen beyond this machine without a secret token."""
    operates, reads = settings.api_token, settings.api_read_token
    if is_loopback(host):
        return
    if operates is None or operates.get_secret_value() == _EXAMPLE:
        what = "not set" if operates is None else f"still {_EXAMPLE}"
        raise SettingsError(
            f"serve: MAILBATCH_API_TOKEN is {what}, and {host} can be reached by others; set it "
            "(`openssl rand -hex 32` makes one), or listen on 127.0.0.1"
        )
    if reads is not None and reads.get_secret_value() in {_EXAMPLE, operates.get_secret_value()}:
        raise SettingsError("serve: MAILBATCH_API_READ_TOKEN must be a secret of its own, for people who may only read")


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
