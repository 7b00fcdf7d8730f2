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

LONGEST_NAME = 255
"""Bytes of one part of a path (NAME_MAX of Linux, macOS and all their common file systems)."""
_SEGMENT = re.compile(rf"[A-Za-z0-9._-]{{1,{LONGEST_NAME}}}")


class Folder(BaseLoader):
    """Loads ``<name>/<file>`` from under ``directory``; a symbolic link may not lead out of it.

    A file that changes is read again: ``look_again`` seconds after the last look all files are looked at anew.
    What is not there raises ``TemplateNotFound``.
    """

    def __init__(self, directory: Path, look_again: float = 0.0) -> None:
        self.directory = directory
        self.looks = 0  # how often it was time to
        self._look_again = look_again
        self._until = 0.0

    def looks_anew(self) -> bool:
        """Whether it is time to look: what was seen before is then no longer known. To be asked before each mail."""
        now = time.monotonic()
        if now < self._until:
            return False
        self._until = now + self._look_again
        self.looks += 1
        return True

    def get_source(self, environment: Environment, template: str) -> tuple[str, str, Callable[[], bool]]:
        """Read one file as UTF-8 (Jinja2's loader protocol)."""
        path = self.directory.joinpath(*_segments(template))
        if not self._is_inside(path):
            raise TemplateNotFound(template)
        written = _stamp(path)
        source = path.read_text(encoding="utf-8-sig")
        sandbox: Sandbox = environment  # type: ignore[assignment]
        sandbox.refuse_if_vast(source, template)
        return source, str(path), _Unchanged(self, path, written)

    def has(self, template: str) -> bool:
        """Whether there is such a file inside the directory."""
        return self._is_inside(self.directory.joinpath(*_segments(template)))

    def _is_inside(self, path: Path) -> bool:
        return path.is_file() and path.resolve().is_relative_to(self.directory.resolve())


class _Unchanged:
    """Tells whether a file is what it was when it was read, ``written``."""

    def __init__(self, folder: Folder, path: Path, written: _Stamp) -> None:
        self._folder, self._path, self._written = folder, path, written
        self._looks = folder.looks

    def __call__(self) -> bool:
        if self._looks == self._folder.looks:
            return True
        self._looks = self._folder.looks
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
