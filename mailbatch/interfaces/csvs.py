"""Writes CSV (RFC 4180) that is safe to open in a spreadsheet."""

from __future__ import annotations

import csv
import io
import re
from typing import TYPE_CHECKING

from mailbatch.interfaces.visible import visible

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from mailbatch.domain.run import ItemError

_SIGNS = r"[=+\-@\uff1d\uff0b\uff0d\uff20]"
_FORMULA = re.compile(rf"""^(?=[\t\r\n]|\s*{_SIGNS})|(?<=;)(?=\s*["']?{_SIGNS})""")
"""The first characters of cells that a spreadsheet would run (OWASP, CSV injection).

In half of Europe a semicolon ends a cell, and in East Asia the wide forms of these signs count as well.
"""


def errors_as_csv(errors: Iterable[ItemError]) -> Iterator[bytes]:
    """Yield a row for each item as it is read, with its errors in one cell."""
    yield csv_line(("index", "reservation_id", "errors"))
    for error in errors:
        yield csv_line((str(error.index), str(error.reservation_id), " ".join(error.errors)))


def csv_line(cells: Sequence[str]) -> bytes:
    """Return one line."""
    buffer = io.StringIO()
    csv.writer(buffer).writerow([safe(cell) for cell in cells])
    return buffer.getvalue().encode("utf-8", "backslashreplace")


def safe(cell: str) -> str:
    """Return ``cell`` with hidden characters as escapes, and with an apostrophe in front of a possible formula."""
    return _FORMULA.sub("'", visible(cell))
