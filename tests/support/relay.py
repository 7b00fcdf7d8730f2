"""Controls the recording relay from a test: sets its faults, holds it at a step, reads the mails that it accepted."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

from support.sink import Sink

_SERVER = Path(__file__).with_name("relay_server.py")


class Relay(Sink):
    """A relay process that fails on demand; its faults are named as in ``relay_server.Relay.action``.

    It is started, stopped, frozen and read as a ``Sink``.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._control = 0

    def script(self, **steps: Any) -> None:
        """From now on do this at these steps, and the ordinary at all others: an action each time, or a list of turns.

        Without steps everything is ordinary, and who was held goes on.
        """
        self._tell(script=steps)

    def offer(self, dialogue: str) -> None:
        """Announce the extensions that make clients use ``DATA``, ``PIPELINING`` or ``BDAT``."""
        self._tell(extensions=dialogue)

    def wait_held(self, sessions: int = 1, timeout: float = 30.0) -> None:
        """Wait until so many sessions are held."""
        assert self._tell(held=sessions, seconds=timeout), f"no client came to the hold within {timeout:g} s"

    def release(self) -> None:
        """Let the held sessions go on, and hold none any more."""
        self._tell(release=True)

    def hang_up(self) -> None:
        """Close every connection that is open now."""
        self._tell(hang_up=True)

    def sessions(self) -> int:
        """Return how many connections are open."""
        return int(self._tell(sessions=True))

    def _tell(self, **words: Any) -> Any:
        with socket.create_connection(("127.0.0.1", self._control), 60) as control, control.makefile("rwb") as lines:
            lines.write(json.dumps(words).encode() + b"\n")
            lines.flush()
            return json.loads(lines.readline())

    def _command(self) -> list[str]:
        return [str(_SERVER), "--journal", str(self._journal)]

    def _listening(self, port: int, control: int = 0) -> None:
        self._port, self._control = port, control
