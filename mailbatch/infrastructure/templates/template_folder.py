"""The templates of a folder as people look at them: each is checked again when a file of the folder has changed."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from hashlib import sha256
from math import inf
from typing import TYPE_CHECKING, Any, NamedTuple

from mailbatch.domain.errors import Busy, NotFound

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from mailbatch.domain.template_check import CheckedTemplate
    from mailbatch.infrastructure.templates.preflight import Preflight

EACH = 5.0
"""Seconds for checking one template at most."""
AGAIN = 60.0
"""Seconds after which a template is checked again whose check did not end: the machine may have been busy."""
_MOST_FILES = 20_000
"""Files of the folder that are looked at for a change."""


class _Kept(NamedTuple):
    """A result, and until when it holds unless a file changes."""

    result: CheckedTemplate
    until: float


class TemplateFolder:
    """The templates in ``directory``. ``preflight`` reads them, ``check`` checks one within some seconds.

    Reading runs no template. ``check`` must be able to kill one that takes too long.
    """

    def __init__(self, directory: Path, preflight: Preflight, check: Callable[[str, float], CheckedTemplate]) -> None:
        self._directory = directory
        self._preflight = preflight
        self._check = check
        self._kept: tuple[bytes, dict[str, _Kept]] = (b"", {})

    def names(self) -> list[str]:
        """Return the names of all templates, sorted. Raises ``NotFound`` if the folder cannot be read."""
        return self._preflight.names()

    def locales(self, name: str) -> tuple[str, ...]:
        """Return the languages of the template ``name``, the default one first.

        Raises ``NotFound`` if there is no such template.
        """
        return self._preflight.locales(name)

    def checked(self, names: Iterable[str], seconds: float) -> dict[str, CheckedTemplate | None]:
        """Return what is wrong with each template; None where the seconds, or the processes, did not suffice.

        It takes at most ``EACH`` seconds longer.
        """
        kept, until = self._results(), time.monotonic() + seconds
        found: dict[str, CheckedTemplate | None] = {}
        for name in names:
            if (name not in kept or kept[name].until <= time.monotonic()) and time.monotonic() < until:
                with suppress(NotFound, Busy):  # it was removed meanwhile, or all processes render mails
                    result = self._check(name, EACH)
                    # A check that did not end found no languages.
                    kept[name] = _Kept(result, inf if result.locales else time.monotonic() + AGAIN)
            found[name] = kept[name].result if name in kept else None
        return found

    def _results(self) -> dict[str, _Kept]:
        """Return the results that still hold: all, unless some file has changed, because templates include others."""
        now = _stamp(self._directory)
        if self._kept[0] != now:
            self._kept = (now, {})
        return self._kept[1]

    def has_sample(self, name: str, locale: str) -> bool:
        """Return whether there is a ``sample.json`` for this language."""
        return self._preflight.has_sample(name, locale)

    def sample(self, name: str, locale: str) -> Mapping[str, Any] | None:
        """Return the context in ``sample.json``, or None. Raises ``ValueError`` if it is no JSON object."""
        return self._preflight.sample(name, locale)

    def sources(self, name: str, locale: str, most: int) -> dict[str, str]:
        """Return the first ``most`` bytes of each file, by its name. Raises ``ValueError`` if there are none."""
        return self._preflight.sources(name, locale, most)


def _stamp(directory: Path) -> bytes:
    """Return a value that changes when a file below ``directory`` does."""
    digest, seen = sha256(), 0
    for folder, _, files in os.walk(directory):
        for file in files:
            path = os.path.join(folder, file)  # noqa: PTH118 - it may be done for thousands of files
            try:
                state = os.stat(path)  # noqa: PTH116 - as above
            except OSError:
                continue
            digest.update(f"{path} {state.st_mtime_ns} {state.st_size}\n".encode("utf-8", "surrogateescape"))
            seen += 1
        if seen > _MOST_FILES:
            break
    return digest.digest()
