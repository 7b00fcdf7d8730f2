"""Finds the line of a key in a TOML file, because ``tomllib`` returns values without their lines.

It reads only what begins a line: headers of tables, and keys. A key inside an inline table has the line of that table.
"""

from __future__ import annotations

import re
import tomllib
from typing import Any, TypeAlias

Path: TypeAlias = tuple[str | int, ...]
_KEY = re.compile(r"\s*((?:[A-Za-z0-9_-]+|\"[^\"]*\"|'[^']*')(?:\s*\.\s*(?:[A-Za-z0-9_-]+|\"[^\"]*\"|'[^']*'))*)\s*=")
_HEADER = re.compile(r"\s*\[.*\]\s*(#.*)?")


def line_of(text: str, path: Path) -> int:
    """Return the number of the line, from 1, that holds ``path``, or what is in it, or the nearest table around it."""
    lines = _lines(text)
    while path:
        if inside := [line for known, line in lines.items() if known[: len(path)] == path]:
            return min(inside)
        path = path[:-1]
    return 1


def _lines(text: str) -> dict[Path, int]:
    found: dict[Path, int] = {}
    table: Path = ()
    last: dict[Path, int] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if _HEADER.fullmatch(line) and (names := _names(line)):
            table = _within_lists(names, last)
            if line.lstrip().startswith("[["):
                place = last.get(table, -1) + 1
                last[table] = place
                table = (*table, place)
            found.setdefault(table, number)
        elif key := _KEY.match(line):
            found.setdefault((*table, *_names(f"{key[1]} = 0")), number)
    return found


def _names(line: str) -> tuple[str, ...]:
    """Return the names in a header or before a ``=``; none if ``line`` is a part of something else."""
    try:
        value: Any = tomllib.loads(line)
    except tomllib.TOMLDecodeError:
        return ()
    names: list[str] = []
    while isinstance(value, dict) and value:
        [(name, value)] = value.items()
        names.append(name)
        if isinstance(value, list):
            value = value[0]
    return tuple(names)


def _within_lists(names: tuple[str, ...], last: dict[Path, int]) -> Path:
    """Return the path of a header: a table below a list of tables belongs to the last one of the list."""
    path: Path = ()
    for index, name in enumerate(names):
        path = (*path, name)
        if path in last and index < len(names) - 1:
            path = (*path, last[path])
    return path
