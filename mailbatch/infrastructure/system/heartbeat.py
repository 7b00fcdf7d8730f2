"""Shows a supervisor that this process lives: touches a file, and notifies systemd's watchdog."""

from __future__ import annotations

import logging
import os
import socket
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Heartbeat:
    """Touches ``file`` and notifies ``notify``, systemd's socket (sd_notify(3)); each may be missing."""

    file: Path | None = None
    notify: str | None = field(default_factory=lambda: os.environ.get("NOTIFY_SOCKET"))
    _failing: bool = False

    @property
    def enabled(self) -> bool:
        """Whether there is a file to touch or a socket to notify."""
        return self.file is not None or bool(self.notify)

    def begin(self) -> None:
        """Beat for the first time; this also tells systemd that the start has ended (``Type=notify``)."""
        self._beat("READY=1\nWATCHDOG=1")

    def beat(self) -> None:
        """Beat once more. A failure is logged once; the supervisor then counts this process as dead."""
        self._beat("WATCHDOG=1")

    def _beat(self, state: str) -> None:
        try:
            if self.file is not None:
                self.file.touch()
            if self.notify:
                _notify(self.notify, state)
        except OSError as error:
            if not self._failing:
                log.error("no sign of life can be given: %s", error)  # noqa: TRY400 - one line says it all
            self._failing = True
        else:
            self._failing = False


def age(file: Path) -> float | None:
    """Return the seconds since ``file`` was touched last; None if there is no such file.

    Raises ``OSError`` if the file cannot be looked at.
    """
    try:
        touched = file.stat().st_mtime
    except FileNotFoundError:
        return None
    return max(0.0, time.time() - touched)


def _notify(address: str, state: str) -> None:
    # A leading @ is an abstract socket (unix(7)).
    path = "\0" + address[1:] if address.startswith("@") else address
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK) as out:
        out.sendto(state.encode(), path)
