"""Reads reservations from CSV, one record in memory at a time, whatever the size of the file."""

from __future__ import annotations

import csv
import io
import re
from dataclasses import dataclass
from itertools import chain
from typing import IO, TYPE_CHECKING

from mailbatch.application.acting.columns import COLUMNS, OWN, meant_for_recipients, variable
from mailbatch.application.acting.draft_values import shown
from mailbatch.application.acting.records import (
    END_OF_FILE,
    LONGEST_LINE,
    BadLine,
    Record,
    UnreadableFile,
    misnamed_columns,
    read_record,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

_DELIMITERS = (",", ";", "\t")
_LONGEST_HEADER = 100
"""Lines of the header at most: the name of a column may hold line breaks."""
_UNDECODED = re.compile("[\udc80-\udcff]")


@dataclass(frozen=True, slots=True)
class _Table:
    """How a CSV is laid out. ``columns`` are the names of all columns, ``lines`` those that the names take up.

    ``fields`` are the table's columns by place, ``variables`` the others that have a name.
    """

    lines: int
    delimiter: str
    columns: list[str]
    fields: dict[int, str]
    variables: dict[int, str]


def read_csv(
    file: IO[bytes], context_columns: Collection[str] = (), say: Callable[[str], None] = lambda _: None
) -> Iterator[Record | BadLine]:
    """Read CSV in UTF-8 (with or without a byte order mark), columns as the table's, any others into the context.

    An empty cell of a column of the table's is one that was not given; of another it is an empty text in the context.
    ``context_columns`` names columns that are variables although their names are like one of the table's. ``say`` is
    called with a line for each column whose variable has another name than the column.

    Raises:
        UnreadableFile: if the header line names columns that cannot be, or that are meant for one of the table's.
    """
    lines = io.TextIOWrapper(file, encoding="utf-8-sig", errors="surrogateescape", newline="")
    try:
        yield from _read_table(lines, frozenset(map(_squeezed, context_columns)), say)
    finally:
        # The file is the caller's, to close and to ask how far it is. Who stops early may have closed it before.
        if not file.closed:
            lines.detach()


def _read_table(
    lines: io.TextIOWrapper, own: Collection[str], say: Callable[[str], None]
) -> Iterator[Record | BadLine]:
    # In pieces: what has no line ends at all must not be read whole.
    pieces = _without_end_mark(iter(lambda: lines.readline(LONGEST_LINE), ""))
    # The module's own limit is 128 KB a field, which a body in HTML easily passes. It is one for the whole process.
    csv.field_size_limit(max(csv.field_size_limit(), LONGEST_LINE))
    header = _header(pieces)
    table = _read_header(header, own)
    for place, name in table.variables.items():
        if name != table.columns[place]:
            say(f"the column {shown(table.columns[place])} is the variable {name}")
    reader = csv.reader(chain(header[table.lines :], pieces), delimiter=table.delimiter, strict=True)
    while True:
        line = reader.line_num + table.lines + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield BadLine(line, (_torn(error, line, reader.line_num + table.lines),))
            continue
        # A spreadsheet writes rows of commas where it once had something.
        if any(cell.strip() for cell in cells):
            yield _row(line, table, cells)


def _without_end_mark(pieces: Iterable[str]) -> Iterator[str]:
    """Yield ``pieces``; a Ctrl-Z at the very end is no part of the file."""
    last = ""
    for piece in pieces:
        if last:
            yield last
        last = piece
    mark = END_OF_FILE.decode()
    if rest := last.rstrip(f"\r\n{mark}") if last.rstrip("\r\n").endswith(mark) else last:
        yield rest


def _header(pieces: Iterator[str]) -> list[str]:
    """Return the lines that name the columns: more than one, if a name holds line breaks. Some more may be read."""
    lines = [next(pieces, "")]
    while sum(line.count('"') for line in lines) % 2 and len(lines) < _LONGEST_HEADER:
        piece = next(pieces, "")
        if not piece:
            break
        lines.append(piece)
    return lines


def _read_header(lines: list[str], own: Collection[str]) -> _Table:
    header = lines[0]
    if not header.strip("\r\n \ufeff"):
        raise UnreadableFile("the file is empty, or its first line is, which must name the columns")
    if "\x00" in header or _UNDECODED.search(header):
        raise UnreadableFile("line 1: is not UTF-8; save the file as CSV in UTF-8")
    longest, torn = [""], None
    for delimiter in _DELIMITERS:
        reader = csv.reader(lines, delimiter=delimiter, strict=True)
        try:
            columns = [_squeezed(name) for name in next(reader)]
        except csv.Error as error:
            torn = torn or error
            continue
        if "recipients" in columns:
            return _laid_out(reader.line_num, delimiter, columns, own)
        longest = max(longest, columns, key=len)
    if torn and len(longest) == 1:
        raise UnreadableFile(f"line 1: {_torn(torn, 1, len(lines))}")
    like = [name for name in longest if meant_for_recipients(name)]
    raise UnreadableFile(
        f"line 1: names no column recipients, but {shown(header.strip())}",
        *(f"did you mean recipients where it says {shown(name)}?" for name in like),
        *misnamed_columns(name for name in longest if name not in own and name not in like),
        f"its columns are named as the table's: {', '.join(COLUMNS)}",
    )


def _squeezed(name: str) -> str:
    """Return ``name`` on one line."""
    return " ".join(name.split())


def _laid_out(lines: int, delimiter: str, columns: list[str], own: Collection[str]) -> _Table:
    fields = {place: name for place, name in enumerate(columns) if name in COLUMNS and name not in own}
    others = {place: name for place, name in enumerate(columns) if name and place not in fields}
    variables = {place: variable(name, place + 1) for place, name in others.items()}
    problems = [
        *_twice(columns),
        *(f"names no column {shown(name)}, as --context-column does" for name in own if name not in columns),
        *(
            f"the column {name} is mailbatch's own and cannot be imported; rename it"
            for name in others.values()
            if name in OWN and name not in own
        ),
        *misnamed_columns(name for name in others.values() if name not in own),
    ]
    if "recipients" in own:
        problems.append("the column recipients says to whom the mails go, and is no variable")
    if problems := problems or list(_alike(columns, variables)):
        raise UnreadableFile(*(f"line 1: {problem}" for problem in problems))
    return _Table(lines, delimiter, columns, fields, variables)


def _twice(names: Iterable[str]) -> list[str]:
    named = [name for name in names if name]
    return [f"names the column {shown(name)} twice" for name in dict.fromkeys(named) if named.count(name) > 1]


def _alike(columns: list[str], variables: Mapping[int, str]) -> Iterator[str]:
    """Yield for which columns a template would have one name."""
    for found in dict.fromkeys(variables.values()):
        same = [shown(columns[place]) for place, name in variables.items() if name == found]
        if len(same) > 1:
            yield f"the columns {' and '.join(same)} are all the variable {found}; rename them"


def _row(line: int, table: _Table, cells: list[str]) -> Record | BadLine:
    width = len(table.columns)
    if len(cells) < width or any(cell.strip() for cell in cells[width:]):
        return BadLine(line, (f"has {len(cells)} cells, line 1 names {width} columns",))
    undecoded = [(place, found) for place, cell in enumerate(cells) if (found := _UNDECODED.search(cell))]
    if undecoded:
        named = [(table.columns[place] or f"cell {place + 1}", ord(byte[0]) - 0xDC00) for place, byte in undecoded]
        return BadLine(line, tuple(f"{name}: is not UTF-8 (byte 0x{byte:02X})" for name, byte in named))
    if any(cell.strip() for cell, name in zip(cells, table.columns, strict=False) if not name):
        return BadLine(line, ("has a cell under a column without a name",))
    given = {name: cells[place] for place, name in table.fields.items() if cells[place] != ""}
    return read_record(line, given, {name: cells[place] for place, name in table.variables.items()})


def _torn(error: csv.Error, first: int, last: int) -> str:
    if "unexpected end of data" in str(error):
        return (
            f'a quoted cell that begins here ends nowhere; lines {first} to {last} were not read (look for a stray ")'
        )
    if "field larger" in str(error):
        return f'a cell has more than {LONGEST_LINE // 2**20} MB (look for a stray ")'
    return f"is no CSV ({error}); a quote inside of a quoted cell is written twice"
