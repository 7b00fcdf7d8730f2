"""The other side of ``apart.py``: render what comes by the standard input, which is a socket, until it closes."""

from __future__ import annotations

import json
import resource
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any

from mailbatch.domain.errors import CannotCompose
from mailbatch.domain.reservation import Mail
from mailbatch.infrastructure.templates.apart import LENGTH, receive
from mailbatch.infrastructure.templates.budget import GROWTH, WRITTEN
from mailbatch.infrastructure.templates.templates import Templates

ROOM = 1 << 30
"""Bytes of address space for the interpreter, its threads and what one operation makes, beside the budget's own."""


def main(settings: str) -> None:
    """Serve by ``settings``, JSON: the template directory, the bytes of a part at most, the seconds for a mail."""
    directory, most, seconds = json.loads(settings)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in a terminal is for the command that started this
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _limit(resource.RLIMIT_AS, ROOM + GROWTH + most * WRITTEN)
    render = Templates(Path(directory) if directory else None, most)
    with socket.socket(fileno=sys.stdin.fileno()) as connection:
        while True:
            try:
                size = LENGTH.unpack(receive(connection, LENGTH.size))[0]
                request = receive(connection, size)
            except (EOFError, ConnectionError):
                return
            # Whoever waits kills this process after so many seconds; the kernel does, if nobody waits any more.
            _limit(resource.RLIMIT_CPU, int(time.process_time() + seconds) + 2)
            what, mail = json.loads(request)
            answer = json.dumps((_checked if what == "check" else _answer)(render, Mail(**mail))).encode()
            connection.sendall(LENGTH.pack(len(answer)) + answer)


def _limit(what: int, most: int) -> None:
    _, hard = resource.getrlimit(what)
    resource.setrlimit(what, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))


def _checked(render: Templates, mail: Mail) -> dict[str, Any]:
    return {"errors": render.problems(mail)}


def _answer(render: Templates, mail: Mail) -> dict[str, Any]:
    try:
        parts = render(mail)
    except CannotCompose as error:
        return {"errors": error.errors}
    except Exception as error:  # noqa: BLE001 - it is the template that is wrong, and whoever asked wants to know how
        return {"errors": [f"cannot be rendered: {type(error).__name__}: {' '.join(str(error)[:1000].split())[:300]}"]}
    return {"subject": parts.subject, "text": parts.text, "html": parts.html}


if __name__ == "__main__":
    main(sys.argv[1])
