"""Exports as CSV (RFC 4180) that a spreadsheet may open without harm."""

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
"""Where a cell begins that some spreadsheet would run (OWASP, CSV injection).

In half of Europe a semicolon ends a cell, and in East Asia the wide forms of these signs count as well.
"""


def errors_as_csv(errors: Iterable[ItemError]) -> Iterator[bytes]:
    """A row for each item, written as it is read; its errors in one cell."""
    yield csv_line(("index", "reservation_id", "errors"))
    for error in errors:
        yield csv_line((str(error.index), str(error.reservation_id), " ".join(error.errors)))


def csv_line(cells: Sequence[str]) -> bytes:
    """One line."""
    buffer = io.StringIO()
    csv.writer(buffer).writerow([safe(cell) for cell in cells])
    return buffer.getvalue().encode("utf-8", "backslashreplace")


def safe(cell: str) -> str:
    """``cell``, hidden characters as escapes, with an apostrophe before whatever might be run as a formula."""
    return _FORMULA.sub("'", visible(cell))
