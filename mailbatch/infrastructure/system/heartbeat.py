"""Signs of life for whoever supervises this process: a file that is touched, and systemd's watchdog."""

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
    """Touches ``file`` and tells ``notify``, systemd's socket (sd_notify(3)); either may be missing."""

    file: Path | None = None
    notify: str | None = field(default_factory=lambda: os.environ.get("NOTIFY_SOCKET"))
    _failing: bool = False

    @property
    def enabled(self) -> bool:
        """Whether anybody looks."""
        return self.file is not None or bool(self.notify)

    def begin(self) -> None:
        """The first sign; it also tells systemd that the start is over (``Type=notify``)."""
        self._beat("READY=1\nWATCHDOG=1")

    def beat(self) -> None:
        """One more sign. What cannot be written is logged once; a supervisor will then take us for dead."""
        self._beat("WATCHDOG=1")

    def _beat(self, said: str) -> None:
        try:
            if self.file is not None:
                self.file.touch()
            if self.notify:
                _tell(self.notify, said)
        except OSError as error:
            if not self._failing:
                log.error("no sign of life can be given: %s", error)  # noqa: TRY400 - one line says it all
            self._failing = True
        else:
            self._failing = False


def age(file: Path) -> float | None:
    """Seconds since ``file`` was touched last; None if there is none. Raises ``OSError`` if that cannot be seen."""
    try:
        touched = file.stat().st_mtime
    except FileNotFoundError:
        return None
    return max(0.0, time.time() - touched)


def _tell(address: str, said: str) -> None:
    # A leading @ is an abstract socket (unix(7)).
    path = "\0" + address[1:] if address.startswith("@") else address
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK) as out:
        out.sendto(said.encode(), path)
