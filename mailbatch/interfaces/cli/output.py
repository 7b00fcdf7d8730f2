"""Prints tables for people and JSON for programs. No text from a row can control the terminal."""

from __future__ import annotations

import json
import shutil
import sys
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any
from uuid import UUID

import click

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

WIDE = 110
"""A terminal with at least so many characters has room for one more text column."""
_PIPED_WIDTH = 160
_GAP = 2
_INDENT = 4
_NARROWEST = 8
_LONGEST_CELL = 2_000
"""Characters of a cell that are measured at most: no terminal is wider."""
# These are unprintable too, like controls, line separators, direction overrides and lone surrogates. They stay,
# because Persian, Indic scripts and emoji need them.
_JOINERS = "\u200c\u200d"

as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def clean(text: str) -> str:
    """Return ``text`` with unprintable characters as escapes: a subject must not colour or clear the terminal."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in _JOINERS else ascii(c)[1:-1] for c in text)


def print_json(value: Any) -> None:
    """Print one JSON document."""
    click.echo(to_json(value))


def print_json_list(values: Iterable[Any]) -> None:
    """Print a JSON list item by item, so that it may be longer than the memory."""
    click.echo("[", nl=False)
    for i, value in enumerate(values):
        click.echo(("," if i else "") + "\n  " + to_json(value, indent=None), nl=False)
    click.echo("\n]")


def to_json(value: Any, indent: int | None = 2) -> str:
    """Return ``value`` as JSON; other scripts are not escaped, unprintable characters are."""
    # With another encoding than UTF-8 Python would escape characters in a way that is no JSON.
    narrow = (sys.stdout.encoding or "").lower().replace("-", "") != "utf8"
    text = json.dumps(value, ensure_ascii=narrow, indent=indent, default=_plain)
    return "\n".join(line if line.isprintable() else "".join(map(_escaped, line)) for line in text.split("\n"))


def moment(when: datetime | None, zone: str = "UTC") -> str:
    """Return a time for a narrow column: day and minute, or only the date if it is in another year."""
    if when is None:
        return ""
    from zoneinfo import ZoneInfo

    local = when.astimezone(ZoneInfo(zone))
    same_year = local.year == datetime.now(ZoneInfo(zone)).year
    return local.strftime("%m-%d %H:%M" if same_year else "%Y-%m-%d")


def span(seconds: float) -> str:
    """Return a duration in its largest unit: ``45 s``, ``3 min``, ``5 h``, ``2 d``."""
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def width() -> int:
    """Return the width of the terminal, or COLUMNS; a large number if there is no terminal."""
    return shutil.get_terminal_size(fallback=(_PIPED_WIDTH, 24)).columns


def print_table(columns: Sequence[tuple[str, str]], rows: Iterable[Sequence[str]], nothing: str) -> None:
    """Print a table, or the line ``nothing`` if it has no rows.

    Columns are ``(title, kind)``: "fixed" and "number" are never cut, "text" is cut to fit. The last column may be
    "whole" or "below". If the table is too wide, "whole" gets a line of its own and is never cut. On a terminal below
    ``_PIPED_WIDTH`` "below" gets a line of its own too, and is cut to that line.
    """
    from rich.cells import cell_len

    whole = [kind == "whole" for _, kind in columns]
    cells = [
        [clean(cell if uncut else cell[:_LONGEST_CELL]) for cell, uncut in zip(row, whole, strict=True)] for row in rows
    ]
    if not cells:
        click.echo(nothing)
        return
    titles = [title for title, _ in columns]
    needed = [max(map(cell_len, column)) for column in zip(titles, *cells, strict=True)]
    kind, below = columns[-1][1], [""] * len(cells)
    if sum(needed) + _GAP * (len(needed) - 1) > width() and (kind == "whole" or (kind == "below" and _is_narrow())):
        columns, titles, needed = columns[:-1], titles[:-1], needed[:-1]
        below = [row.pop() for row in cells]
    widths = _fitted(needed, [kind not in {"fixed", "number"} for _, kind in columns])
    numbers = [kind == "number" for _, kind in columns]
    click.secho(_line(titles, widths, numbers), bold=True)
    for row, more in zip(cells, below, strict=True):
        click.echo(_line(row, widths, numbers))
        if more:
            room = width() - _INDENT if kind == "below" else cell_len(more)
            click.echo(" " * _INDENT + _line([more], [room], [False]))


def _is_narrow() -> bool:
    return width() < _PIPED_WIDTH


def print_fields(fields: Iterable[tuple[str, str]]) -> None:
    """Print names and values, one a line; the lines of a longer value are indented."""
    shown = [(name, value) for name, value in fields if value]
    width = max((len(name) for name, _ in shown), default=0)
    for name, value in shown:
        lines = [clean(line) for line in value.splitlines()] or [""]
        click.echo(f"{name:<{width}}  {lines[0]}")
        for line in lines[1:]:
            click.echo(f"{'':<{width}}  {line}")


def _fitted(needed: list[int], elastic: list[bool]) -> list[int]:
    """Return the widths of the columns: fixed ones get theirs first, then the others, from the narrowest on."""
    widths = list(needed)
    left = width() - _GAP * (len(needed) - 1) - sum(n for n, e in zip(needed, elastic, strict=True) if not e)
    modest_first = sorted((i for i, e in enumerate(elastic) if e), key=lambda i: needed[i])
    for rank, i in enumerate(modest_first):
        widths[i] = max(_NARROWEST, min(needed[i], left // (len(modest_first) - rank)))
        left -= widths[i]
    return widths


def _line(cells: Sequence[str], widths: list[int], numbers: list[bool]) -> str:
    from rich.cells import cell_len, set_cell_size

    def sized(cell: str, width: int, number: bool) -> str:  # noqa: FBT001 - a column's kind
        if cell_len(cell) > width:
            cell = set_cell_size(cell, width - 1).rstrip() + "…"
        blanks = " " * (width - cell_len(cell))
        return blanks + cell if number else cell + blanks

    return (" " * _GAP).join(map(sized, cells, widths, numbers)).rstrip()


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    if isinstance(value, UUID | StrEnum):
        return str(value)
    raise TypeError(f"{type(value).__name__} is no JSON")


def _escaped(sign: str) -> str:
    return sign if sign.isprintable() or sign in _JOINERS else json.dumps(sign)[1:-1]
