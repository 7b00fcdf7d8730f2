"""Renders mails in subprocesses, which can be killed: for ``serve`` and commands, which show and check single mails.

A template cannot be interrupted from within its process: one operation that takes minutes holds all threads. Runs have
a watchdog instead (``system/watchdog.py``), because a subprocess would cost each mail more than its rendering.
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
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from mailbatch.domain.errors import Busy, CannotCompose, NotFound
from mailbatch.domain.letter import Rendered
from mailbatch.domain.redaction.lines import shown
from mailbatch.domain.reservation import Mail
from mailbatch.domain.template_check import CheckedTemplate
from mailbatch.infrastructure.templates.images import of_pairs
from mailbatch.infrastructure.templates.options import Options
from mailbatch.infrastructure.templates.renderer import TemplateRenderer
from mailbatch.infrastructure.templates.sources import has_tags

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from mailbatch.application.ports.sending import Renderer

SECONDS = 10.0
"""Seconds of wall-clock time that rendering one mail may take."""
PROCESSES = 2
"""Most mails that are rendered at the same time."""
PATIENCE = 1.0
"""Seconds for which a mail that is only checked waits for a free process."""
WAITING = 8
"""Most mails that may wait for a process; the next one raises ``Busy``."""
_WARM_UP = Mail(recipients="", subject="{{ 1 }}", body_text=" ")
"""A mail that is rendered to make sure that a process has started."""
_RENDERED = ("recipients", "subject", "body_text", "body_html", "template", "context", "locale")
"""The fields of a mail that its process gets; ``recipients`` only because each mail has some."""
KEPT_FOR = 1.0
"""Seconds for which sources that compile are not checked again: the mails of a list share theirs."""
_KEPT = 256
_LONGEST_KEPT = 32_768
LENGTH = struct.Struct(">Q")
"""The header of each message between the processes: its length in bytes."""


class SubprocessRenderer:
    """Renders mails in subprocesses (the port ``Renderer``); arguments as for ``TemplateRenderer``.

    A process starts when the first mail needs one. It renders one mail after the other, and is killed if one takes
    more than ``seconds``. Mails without a tag of the template engine need no process.
    """

    def __init__(
        self,
        directory: Path | None,
        max_output_bytes: int,
        seconds: float = SECONDS,
        options: Options | None = None,
    ) -> None:
        options = options or Options()
        self._settings = json.dumps([str(directory) if directory else None, max_output_bytes, seconds, asdict(options)])
        self._seconds = seconds
        self._in_process = TemplateRenderer(directory, max_output_bytes, options=options)
        self._idle: list[_Process] = []
        # For sources that compile: until when they need not be checked again, and what the check found.
        self._checked: dict[tuple[str | None, ...], tuple[float, _Checked]] = {}
        self._slots = threading.Semaphore(PROCESSES)
        self._places = threading.Semaphore(PROCESSES + WAITING)
        self._closed = False

    def __call__(self, mail: Mail) -> Rendered:
        """Return the parts of ``mail``.

        Raises:
            CannotCompose: as ``TemplateRenderer``, and with one line if it takes too long or ends its process.
            Busy: too many other mails are being rendered.
        """
        return self._render(mail, self._seconds)

    def within(self, seconds: float) -> Renderer:
        """Return a renderer that gives each mail only so many seconds, once a process has started."""

        def render(mail: Mail) -> Rendered:
            if has_tags(mail) and not self._idle:
                self._render(_WARM_UP, self._seconds)
            return self._render(mail, seconds)

        return render

    def _render(self, mail: Mail, seconds: float) -> Rendered:
        if not has_tags(mail):
            return self._in_process(mail)
        with self._process(self._seconds) as process:
            reply = process.request("render", _fields(mail), seconds)
        if "errors" in reply:
            raise CannotCompose(reply["errors"])
        return Rendered(**reply | {"images": of_pairs(reply["images"])})

    def served_in(self, mail: Mail) -> tuple[str, ...]:
        """Return the languages of the files that serve ``mail``, as ``TemplateRenderer.served_in``."""
        return self._in_process.served_in(mail)

    def problems(self, mail: Mail) -> list[str]:
        """Return what fails whatever the context of ``mail`` holds, as ``TemplateRenderer.problems``.

        Returns nothing if all processes are busy: reserving a mail does not wait for people who look at others.
        """
        if self._in_process.directory is None and not has_tags(replace(mail, template=None)):
            return self._in_process.problems(mail)  # which compiles nothing
        return self._check(mail).errors

    def missing_images(self, mail: Mail) -> dict[str, str]:
        """Return the images that the template of ``mail`` lacks, as ``TemplateRenderer.missing_images``."""
        if mail.template is None or self._in_process.directory is None:
            return {}
        return self._check(mail).images

    def _check(self, mail: Mail) -> _Checked:
        sources = (mail.template, mail.locale, mail.subject, mail.body_text, mail.body_html)
        until, found = self._checked.get(sources, (0.0, _Checked()))
        if not has_tags(mail) or until > time.monotonic():
            return found
        try:
            with self._process(PATIENCE) as process:
                found = _Checked(**process.request("check", _fields(replace(mail, context=None)), self._seconds))
        except Busy:
            return _Checked()
        if not found.errors and sum(len(source or "") for source in sources) <= _LONGEST_KEPT:
            if len(self._checked) >= _KEPT:
                self._checked.clear()
            self._checked[sources] = (time.monotonic() + KEPT_FOR, found)
        return found

    def preflight(self, name: str, seconds: float = SECONDS) -> CheckedTemplate:
        """Check the template ``name``, as ``Preflight`` does. It may take so many seconds.

        Raises:
            NotFound: there is no such template.
            Busy: too many mails are being rendered.
        """
        with self._process(seconds) as process:
            reply = process.request("preflight", {"template": name}, seconds)
        if "errors" in reply:
            return CheckedTemplate(name=name, locales=(), rendered=False, findings=(("", reply["errors"][0]),))
        if "missing" in reply:
            raise NotFound(reply["missing"])
        return CheckedTemplate(**{name: _frozen(value) for name, value in reply.items()})

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


@dataclass(frozen=True, slots=True)
class _Checked:
    """What the check of a mail's sources found: see ``problems`` and ``missing_images``."""

    errors: list[str] = field(default_factory=list)
    images: dict[str, str] = field(default_factory=dict)


class _Process:
    """One of the processes. ``usable``: it has replied to the last request."""

    def __init__(self, settings: str) -> None:
        self._socket, theirs = socket.socketpair()
        # The subprocess imports from the same folders as this one.
        path = os.pathsep.join(entry for entry in sys.path if entry)
        with theirs:
            self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
                [sys.executable, "-m", "mailbatch.infrastructure.templates.render_process", settings],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env={**os.environ, "PYTHONPATH": path, "PYTHONSAFEPATH": "1"},
                cwd="/",
            )
        self.usable = True

    def request(self, what: str, mail: dict[str, Any], seconds: float) -> dict[str, Any]:
        """Send fields of a mail and return the reply: what ``render_process.py`` makes of them, or ``errors``."""
        self.usable = False
        until = time.monotonic() + seconds
        message = json.dumps([what, mail]).encode()
        try:
            self._socket.settimeout(seconds)
            self._socket.sendall(LENGTH.pack(len(message)) + message)
            size = LENGTH.unpack(receive(self._socket, LENGTH.size, until))[0]
            reply: dict[str, Any] = json.loads(receive(self._socket, size, until))
        except TimeoutError:
            line = f"{_shown_name(mail)}: rendering takes longer than {seconds:g} seconds, and was ended"
            return {"errors": [line]}
        except (EOFError, OSError):
            return {"errors": [f"{_shown_name(mail)}: rendering ended its process ({self._end()})"]}
        self.usable = True
        return reply

    def _end(self) -> str:
        self._process.kill()  # does nothing if the process has ended already
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


def _shown_name(mail: dict[str, Any]) -> str:
    """Return the name by which a person knows a mail that has no id yet."""
    template = mail["template"]
    return f"template {shown(template, 80)}" if template is not None else "the mail's own templates"


def _fields(mail: Mail) -> dict[str, Any]:
    return {name: getattr(mail, name) for name in _RENDERED}


def _frozen(value: Any) -> Any:
    """Return a value of JSON with tuples in place of its lists."""
    return tuple(map(_frozen, value)) if isinstance(value, list) else value
