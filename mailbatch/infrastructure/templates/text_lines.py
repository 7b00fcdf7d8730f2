"""The lines of a text that is made from HTML: paragraphs, indented lists, and tables in columns."""

from __future__ import annotations

import re
from itertools import zip_longest
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

WIDTH = 78
"""Characters of a line that holds a row of a table (RFC 5322 §2.1.1)."""
DEEPEST = 10
"""Tables in tables, and lists in lists, are followed so deep."""


class TextLines:
    """The lines of the body, or of a cell of a table."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._line: list[str] = []
        self._blank = False
        self._indents: list[str] = []
        self._marker = ""

    def write(self, text: str) -> None:
        """Append ``text`` to the line that is being written."""
        if self._line or text != " ":
            self._line.append(text)

    def end_line(self) -> None:
        """End the line; an empty one is left out."""
        text = re.sub(" +", " ", "".join(self._line)).strip()
        self._line.clear()
        if text:
            self.append(text)

    def append(self, text: str) -> None:
        """Append a whole line, behind an empty one if a paragraph ended before it."""
        if self._blank and self.lines:
            self.lines.append("")
        indent = "".join(self._indents[:DEEPEST])
        if self._marker:
            indent, self._marker = indent[: -len(self._marker)] + self._marker, ""
        self._blank = False
        self.lines.append(f"{indent}{text}".rstrip())

    def end_paragraph(self) -> None:
        """End the line, and put an empty one before the next."""
        self.end_line()
        self._blank = True

    def break_line(self) -> None:
        """End the line; if it is empty, begin a paragraph."""
        if self._line:
            self.end_line()
        else:
            self._blank = True

    def indent(self, text: str, marker: str = "") -> None:
        """Begin the next lines with ``text``, and the first of them with ``marker``."""
        self._indents.append(text)
        self._marker = marker if len(self._indents) <= DEEPEST else ""

    def outdent(self) -> None:
        """End the line, and what the last ``indent`` began."""
        self.end_line()
        if self._indents:
            self._indents.pop()
        self._marker = ""


def lines_of_table(rows: list[list[list[str]]]) -> Iterable[str]:
    """Return the lines of a table: its columns aligned if each cell is one short line, otherwise cell after cell."""
    rows = [row for row in rows if any(row)]
    aligned = [[cell[0] if cell else "" for cell in row] for row in rows if _is_in_columns(row)]
    widths = [max(map(len, column)) for column in zip_longest(*aligned, fillvalue="")]
    fits = sum(widths) + 2 * len(widths) <= WIDTH
    for row in rows:
        if fits and _is_in_columns(row):
            texts = zip_longest((cell[0] if cell else "" for cell in row), widths, fillvalue="")
            yield "  ".join(str(text).ljust(int(width)) for text, width in texts if width).rstrip()
        else:
            for cell in filter(None, row):
                yield from cell
                yield ""


def _is_in_columns(row: list[list[str]]) -> bool:
    """Return whether two cells of ``row`` or more have a text, and each is one line."""
    return sum(map(bool, row)) > 1 and all(len(cell) <= 1 for cell in row)
