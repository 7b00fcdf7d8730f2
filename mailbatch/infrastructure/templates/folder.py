"""Find templates as files under one directory, and nothing outside of it."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, TypeAlias

from jinja2 import BaseLoader, TemplateNotFound

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from jinja2 import Environment

    from mailbatch.infrastructure.templates.sandbox import Sandbox

_Stamp: TypeAlias = tuple[int, int, int] | None

_NEVER = (0.0, False)
_MOST_SEEN = 10_000
"""Names, among them those of templates that are not there, that are kept in mind."""
_SEGMENT = re.compile(r"[A-Za-z0-9._-]+")


class Folder(BaseLoader):
    """Loads ``<name>/<file>`` from under ``directory``; a symbolic link may not lead out of it.

    A file that changes is read again: each is looked at when it is asked for and ``look_again`` seconds have passed
    since the last look. What is not there raises ``TemplateNotFound``.
    """

    def __init__(self, directory: Path, look_again: float = 0.0) -> None:
        self.directory = directory
        self._look_again = look_again
        self._seen: dict[str, tuple[float, bool]] = {}

    def get_source(self, environment: Environment, template: str) -> tuple[str, str, Callable[[], bool]]:
        """Read one file as UTF-8 (Jinja2's loader protocol)."""
        path = self.directory.joinpath(*_segments(template))
        if not self._is_inside(path):
            raise TemplateNotFound(template)
        written = _stamp(path)
        source = path.read_text(encoding="utf-8-sig")
        sandbox: Sandbox = environment  # type: ignore[assignment]
        sandbox.refuse_if_vast(source, template)
        return source, str(path), _Unchanged(path, written, self._look_again)

    def has(self, template: str) -> bool:
        """Whether there is such a file inside the directory."""
        until, there = self._seen.get(template, _NEVER)
        now = time.monotonic()
        if now < until:
            return there
        if len(self._seen) >= _MOST_SEEN:
            self._seen.clear()
        there = self._is_inside(self.directory.joinpath(*_segments(template)))
        self._seen[template] = (now + self._look_again, there)
        return there

    def _is_inside(self, path: Path) -> bool:
        return path.is_file() and path.resolve().is_relative_to(self.directory.resolve())


class _Unchanged:
    """Tells whether a file is what it was when it was read, ``written``."""

    def __init__(self, path: Path, written: _Stamp, look_again: float) -> None:
        self._path, self._written, self._look_again = path, written, look_again
        self._until = time.monotonic() + look_again

    def __call__(self) -> bool:
        now = time.monotonic()
        if now < self._until:
            return True
        self._until = now + self._look_again
        return _stamp(self._path) == self._written


def is_template_name(name: str) -> bool:
    """Whether ``name`` is one plain path segment."""
    return bool(_SEGMENT.fullmatch(name)) and name not in (".", "..")


def _segments(template: str) -> list[str]:
    segments = template.split("/")
    if not all(is_template_name(segment) for segment in segments):
        raise TemplateNotFound(template)
    return segments


def _stamp(path: Path) -> _Stamp:
    try:
        state = path.stat()
    except OSError:
        return None
    return state.st_mtime_ns, state.st_size, state.st_ino
