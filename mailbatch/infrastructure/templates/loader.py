"""Loads templates from files under one directory, and nothing outside of it."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, TypeAlias

from jinja2 import BaseLoader, TemplateNotFound

from mailbatch.infrastructure.templates.images import TemplateImages

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from jinja2 import Environment

    from mailbatch.infrastructure.templates.sandbox import Sandbox

_Stamp: TypeAlias = tuple[int, int, int] | None

LONGEST_NAME = 255
"""Bytes of one part of a path (NAME_MAX of Linux, macOS and all their common file systems)."""
_SEGMENT = re.compile(rf"[A-Za-z0-9._-]{{1,{LONGEST_NAME}}}")


class FolderLoader(BaseLoader):
    """Loads ``<name>/<file>`` from under ``directory``; a symbolic link may not lead out of it.

    Files count as unchanged for a period of ``look_again`` seconds; in a new period each is looked at again. A missing
    file raises ``TemplateNotFound``.
    """

    def __init__(self, directory: Path, look_again: float = 0.0) -> None:
        self.directory = directory
        self.period = 0
        self.images = TemplateImages()
        self._look_again = look_again
        self._until = 0.0

    def begin_period(self) -> bool:
        """Begin a new period if the last one is over, and return whether one began. Call it before each mail."""
        now = time.monotonic()
        if now < self._until:
            return False
        self._until = now + self._look_again
        self.period += 1
        return True

    def get_source(self, environment: Environment, template: str) -> tuple[str, str, Callable[[], bool]]:
        """Read one file as UTF-8 (Jinja2's loader protocol)."""
        path = self.directory.joinpath(*_segments(template))
        if not self._is_inside(path):
            raise TemplateNotFound(template)
        stamp = _stamp(path)
        source = path.read_text(encoding="utf-8-sig")
        sandbox: Sandbox = environment  # type: ignore[assignment]
        sandbox.refuse_if_vast(source, template)
        if template.endswith(".html"):
            source = self.images.linked(source, lambda name: self._beside(template, name))
        return source, str(path), _Unchanged(self, path, stamp)

    def has(self, template: str) -> bool:
        """Return whether there is such a file inside the directory."""
        return self._is_inside(self.directory.joinpath(*_segments(template)))

    def folders(self, template: str) -> list[str]:
        """Return the names of the folders in that of ``template``, sorted; none if there is no such folder."""
        path = self.directory.joinpath(*_segments(template))
        if not path.is_dir() or not path.resolve().is_relative_to(self.directory.resolve()):
            return []
        return sorted(entry.name for entry in path.iterdir() if entry.is_dir())

    def read(self, template: str, most: int = -1) -> bytes:
        """Return a file that ``has`` found: all of it, or its first ``most`` bytes."""
        with self.directory.joinpath(*_segments(template)).open("rb") as file:
            return file.read(most)

    def _beside(self, template: str, name: str) -> str | None:
        """Return the path of the file ``name`` in the folder of ``template``, or in one above it; None if none is."""
        folder = template
        while folder := folder.rpartition("/")[0]:
            parts = [*folder.split("/"), *(part for part in name.split("/") if part != ".")]
            path = self.directory.joinpath(*parts)
            if all(map(is_template_name, parts)) and self._is_inside(path):
                return path.resolve().relative_to(self.directory.resolve()).as_posix()
        return None

    def _is_inside(self, path: Path) -> bool:
        return path.is_file() and path.resolve().is_relative_to(self.directory.resolve())


class _Unchanged:
    """Returns whether a file still has the stamp that it had when it was read."""

    def __init__(self, loader: FolderLoader, path: Path, stamp: _Stamp) -> None:
        self._loader, self._path, self._stamp = loader, path, stamp
        self._period = loader.period

    def __call__(self) -> bool:
        if self._period == self._loader.period:
            return True
        self._period = self._loader.period
        return _stamp(self._path) == self._stamp


def is_template_name(name: str) -> bool:
    """Return whether ``name`` is one plain path segment."""
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
