"""Render in processes of their own, which can be killed: for whoever looks at mails while others wait.

A template cannot be interrupted from within its process: one operation that takes minutes holds all threads. Runs have
a watchdog instead (``rendering.py``), because a process in between would cost each mail more than its rendering.
"""

from __future__ import annotations

import json
import os
import socket
import struct
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

from mailbatch.application.sending.compose import Rendered
from mailbatch.domain.errors import Busy, CannotCompose
from mailbatch.domain.reservation import Mail
from mailbatch.infrastructure.templates.templates import Templates, has_tags

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from mailbatch.application.sending.compose import Renderer

SECONDS = 10.0
"""What rendering one mail may take, by the clock on the wall."""
PROCESSES = 2
"""How many mails are rendered at the same time at most."""
PATIENCE = 1.0
"""Seconds for which a mail that is only checked waits for its turn."""
WAITING = 8
"""How many more may wait for that; who comes then is told to come again."""
_NOTHING = Mail(recipients="", subject="{{ 1 }}", body_text=" ")
"""What is rendered to see that a process has started."""
KEPT_FOR = 1.0
"""Seconds for which sources that can be compiled are not looked at again: lists of mails share theirs."""
_KEPT = 256
_LONGEST_KEPT = 32_768
LENGTH = struct.Struct(">Q")
"""What stands before each message between the processes: how many bytes it has."""


class RenderApart:
    """Renders mails in other processes (the port ``Renderer``); arguments as for ``Templates``.

    A process is started when the first mail needs one, takes one mail after the other, and is killed if that takes
    more than ``seconds``. Mails without a template's marks need none.
    """

    def __init__(self, directory: Path | None, max_output_bytes: int, seconds: float = SECONDS) -> None:
        self._settings = json.dumps([str(directory) if directory else None, max_output_bytes, seconds])
        self._seconds = seconds
        self._here = Templates(directory, max_output_bytes)
        self._idle: list[_Process] = []
        # Which sources can be compiled, and until when that need not be looked at again.
        self._sound: dict[tuple[str | None, ...], float] = {}
        self._slots = threading.Semaphore(PROCESSES)
        self._places = threading.Semaphore(PROCESSES + WAITING)
        self._closed = False

    def __call__(self, mail: Mail) -> Rendered:
        """Return the parts of ``mail``.

        Raises:
            CannotCompose: as ``Templates``, and with one line if it takes too long or ends its process.
            Busy: too many others are being rendered.
        """
        return self._render(mail, self._seconds)

    def within(self, seconds: float) -> Renderer:
        """Return a renderer that gives each mail only so long, once a process has started."""

        def render(mail: Mail) -> Rendered:
            if has_tags(mail) and not self._idle:
                self._render(_NOTHING, self._seconds)
            return self._render(mail, seconds)

        return render

    def _render(self, mail: Mail, seconds: float) -> Rendered:
        if not has_tags(mail):
            return self._here(mail)
        with self._process(self._seconds) as process:
            answer = process.ask("render", mail, seconds)
        if "errors" in answer:
            raise CannotCompose(answer["errors"])
        return Rendered(**answer)

    def problems(self, mail: Mail) -> list[str]:
        """Return what fails whatever the context of ``mail`` holds, as ``Templates.problems``.

        Nothing, if others keep the processes busy: whoever reserves a mail does not wait for those who look at one.
        """
        if self._here.directory is None and not has_tags(replace(mail, template=None)):
            return self._here.problems(mail)  # which compiles nothing
        sources = (mail.template, mail.subject, mail.body_text, mail.body_html)
        if not has_tags(mail) or self._sound.get(sources, 0.0) > time.monotonic():
            return []
        try:
            with self._process(PATIENCE) as process:
                answer = process.ask("check", replace(mail, context=None), self._seconds)
        except Busy:
            return []
        errors: list[str] = answer["errors"]
        if not errors and sum(len(source or "") for source in sources) <= _LONGEST_KEPT:
            if len(self._sound) >= _KEPT:
                self._sound.clear()
            self._sound[sources] = time.monotonic() + KEPT_FOR
        return errors

    def close(self) -> None:
        """End the processes."""
        self._closed = True
        while self._idle:
            self._idle.pop().close()

    @contextmanager
    def _process(self, patience: float) -> Iterator[_Process]:
        if not self._places.acquire(blocking=False):
            raise Busy(f"{PROCESSES + WAITING} mails are being rendered; ask again")
        try:
            if not self._slots.acquire(timeout=patience):
                raise Busy(f"other mails have been rendered for {patience:g} s; ask again")
            try:
                process = self._idle.pop() if self._idle else _Process(self._settings)
                try:
                    yield process
                finally:
                    if process.usable and not self._closed:
                        self._idle.append(process)
                    else:
                        process.close()
            finally:
                self._slots.release()
        finally:
            self._places.release()


class _Process:
    """One of the processes. ``usable``: the last mail was answered."""

    def __init__(self, settings: str) -> None:
        self._socket, theirs = socket.socketpair()
        # What can be imported here can be imported there, whatever folder it is.
        path = os.pathsep.join(entry for entry in sys.path if entry)
        with theirs:
            self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
                [sys.executable, "-m", "mailbatch.infrastructure.templates.process", settings],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env={**os.environ, "PYTHONPATH": path, "PYTHONSAFEPATH": "1"},
                cwd="/",
            )
        self.usable = True

    def ask(self, what: str, mail: Mail, seconds: float) -> dict[str, Any]:
        """Return what the process makes of ``mail``: its parts or ``errors`` to ``render``, these to ``check``."""
        self.usable = False
        until = time.monotonic() + seconds
        request = json.dumps([what, {one.name: getattr(mail, one.name) for one in fields(mail)}]).encode()
        try:
            self._socket.settimeout(seconds)
            self._socket.sendall(LENGTH.pack(len(request)) + request)
            size = LENGTH.unpack(receive(self._socket, LENGTH.size, until))[0]
            answer: dict[str, Any] = json.loads(receive(self._socket, size, until))
        except TimeoutError:
            line = f"{named(mail)}: rendering takes longer than {seconds:g} seconds, and was ended"
            return {"errors": [line]}
        except (EOFError, OSError):
            return {"errors": [f"{named(mail)}: rendering ended its process ({self._end()})"]}
        self.usable = True
        return answer

    def _end(self) -> str:
        self._process.kill()  # which a process that has ended already does not notice
        status = self._process.wait()
        return f"signal {-status}" if status < 0 else f"exit code {status}"

    def close(self) -> None:
        self._socket.close()
        self._process.kill()
        self._process.wait()


def receive(connection: socket.socket, size: int, until: float | None = None) -> bytes:
    """Return the next ``size`` bytes. Raises ``TimeoutError`` after ``until``, ``EOFError`` at the end."""
    pieces, missing = [], size
    while missing:
        if until is not None:
            connection.settimeout(max(until - time.monotonic(), 0.001))
        piece = connection.recv(min(missing, 1 << 20))
        if not piece:
            raise EOFError
        pieces.append(piece)
        missing -= len(piece)
    return b"".join(pieces)


def named(mail: Mail) -> str:
    """Return by what a person knows a mail that has no id yet."""
    return f"template {ascii(mail.template)[1:-1][:80]}" if mail.template is not None else "the mail's own templates"
