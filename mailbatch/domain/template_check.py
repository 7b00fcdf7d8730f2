"""What a check of the templates found."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedTemplate:
    """A template, its languages, and what is wrong with it.

    ``findings``: pairs of a language and a line. ``rendered``: it has a ``sample.json``, so it was rendered as well.
    """

    name: str
    locales: tuple[str, ...]
    rendered: bool
    findings: tuple[tuple[str, str], ...]
