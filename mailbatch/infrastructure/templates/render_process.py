"""The subprocess of ``subprocess_renderer.py``: renders the mails that arrive on standard input, a socket."""

from __future__ import annotations

import json
import resource
import signal
import socket
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mailbatch.domain.errors import CannotCompose, NotFound
from mailbatch.domain.reservation import Mail
from mailbatch.infrastructure.templates.budget import GROWTH, WRITTEN
from mailbatch.infrastructure.templates.images import as_pairs
from mailbatch.infrastructure.templates.options import Options
from mailbatch.infrastructure.templates.preflight import Preflight
from mailbatch.infrastructure.templates.renderer import TemplateRenderer
from mailbatch.infrastructure.templates.subprocess_renderer import LENGTH, receive

ROOM = 1 << 30
"""Bytes of address space for the interpreter, its threads and the result of one operation, beside the budget's."""


def main(settings: str) -> None:
    """Serve until the socket closes. ``settings`` is JSON: folder, bytes of a part, seconds for a mail, options."""
    directory, most, seconds, options = json.loads(settings)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in a terminal is meant for the command that started us
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _limit(resource.RLIMIT_AS, ROOM + GROWTH + most * WRITTEN)
    folder, choices = Path(directory) if directory else None, Options(**options)
    render = TemplateRenderer(folder, most, options=choices)
    preflight = Preflight(folder, most, choices) if folder else None
    with socket.socket(fileno=sys.stdin.fileno()) as connection:
        while True:
            try:
                size = LENGTH.unpack(receive(connection, LENGTH.size))[0]
                request = receive(connection, size)
            except (EOFError, ConnectionError):
                return
            # The caller kills this process after so many seconds; if no caller is left, the kernel does.
            _limit(resource.RLIMIT_CPU, int(time.process_time() + seconds) + 2)
            what, mail = json.loads(request)
            match what:
                case "preflight":
                    reply = _preflight(preflight, mail["template"])
                case "check":
                    reply = _check(render, Mail(**mail))
                case _:
                    reply = _render(render, Mail(**mail))
            message = json.dumps(reply).encode()
            connection.sendall(LENGTH.pack(len(message)) + message)


def _limit(what: int, most: int) -> None:
    _, hard = resource.getrlimit(what)
    resource.setrlimit(what, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))


def _preflight(preflight: Preflight | None, name: str) -> dict[str, Any]:
    if preflight is None:
        return {"missing": "there is no template directory"}
    try:
        return asdict(preflight(name))
    except NotFound as error:
        return {"missing": str(error)}
    except Exception as error:  # noqa: BLE001 - the template is at fault, and the caller shows how
        return {"errors": [_broken("checked", error)]}


def _check(render: TemplateRenderer, mail: Mail) -> dict[str, Any]:
    return {"errors": render.problems(mail), "images": render.missing_images(mail)}


def _render(render: TemplateRenderer, mail: Mail) -> dict[str, Any]:
    try:
        parts = render(mail)
    except CannotCompose as error:
        return {"errors": error.errors}
    except Exception as error:  # noqa: BLE001 - the template is at fault, and the caller shows how
        return {"errors": [_broken("rendered", error)]}
    return {"subject": parts.subject, "text": parts.text, "html": parts.html, "images": as_pairs(parts.images)}


def _broken(act: str, error: Exception) -> str:
    return f"cannot be {act}: {type(error).__name__}: {' '.join(str(error)[:1000].split())[:300]}"


if __name__ == "__main__":
    main(sys.argv[1])
