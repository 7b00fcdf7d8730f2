"""Find templates as files under one directory, and nothing outside of it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from jinja2 import BaseLoader, TemplateNotFound

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from jinja2 import Environment

    from mailbatch.infrastructure.templates.sandbox import Sandbox

_SEGMENT = re.compile(r"[A-Za-z0-9._-]+")


class Folder(BaseLoader):
    """Loads ``<name>/<file>`` from under ``directory``; a symbolic link may not lead out of it.

    A file that changes is read again. What is not there raises ``TemplateNotFound``.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def get_source(self, environment: Environment, template: str) -> tuple[str, str, Callable[[], bool]]:
        """Read one file as UTF-8 (Jinja2's loader protocol)."""
        path = self.directory.joinpath(*_segments(template))
        if not self.has(template):
            raise TemplateNotFound(template)
        written = _stamp(path)
        source = path.read_text(encoding="utf-8-sig")
        sandbox: Sandbox = environment  # type: ignore[assignment]
        sandbox.refuse_if_vast(source, template)
        return source, str(path), lambda: _stamp(path) == written

    def has(self, template: str) -> bool:
        """Whether there is such a file inside the directory."""
        path = self.directory.joinpath(*_segments(template))
        return path.is_file() and path.resolve().is_relative_to(self.directory.resolve())


def is_template_name(name: str) -> bool:
    """Whether ``name`` is one plain path segment."""
    return bool(_SEGMENT.fullmatch(name)) and name not in (".", "..")


def _segments(template: str) -> list[str]:
    segments = template.split("/")
    if not all(is_template_name(segment) for segment in segments):
        raise TemplateNotFound(template)
    return segments


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        state = path.stat()
    except OSError:
        return None
    return state.st_mtime_ns, state.st_size, state.st_ino
