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
    """The layout of a CSV file. ``columns``: the names of all columns; ``lines``: how many lines the names take.

    ``fields``: the table's columns by place; ``variables``: the variable names of the other columns, by place.
    """

    lines: int
    delimiter: str
    columns: list[str]
    fields: dict[int, str]
    variables: dict[int, str]


def read_csv(
    file: IO[bytes], context_columns: Collection[str] = (), say: Callable[[str], None] = lambda _: None
) -> Iterator[Record | BadLine]:
    """Read CSV in UTF-8, with or without a byte order mark. Columns that are not the table's go into the context.

    An empty cell of a table's column means that nothing is given; in another column it is an empty text.
    ``context_columns`` names columns that are variables although they resemble one of the table's. ``say`` is called
    with a line for each column whose variable has another name than the column.

    Raises:
        UnreadableFile: if the header has impossible columns, or columns that are probably meant for one of the table's.
    """
    lines = io.TextIOWrapper(file, encoding="utf-8-sig", errors="surrogateescape", newline="")
    try:
        yield from _read_table(lines, frozenset(map(_squeezed, context_columns)), say)
    finally:
        # The caller closes the file, and asks for its position. It may have closed it early.
        if not file.closed:
            lines.detach()


def _read_table(
    lines: io.TextIOWrapper, own: Collection[str], say: Callable[[str], None]
) -> Iterator[Record | BadLine]:
    # In pieces: a file without line ends must not be read as a whole.
    pieces = _without_end_mark(iter(lambda: lines.readline(LONGEST_LINE), ""))
    # The limit of the csv module is 128 KB a field, too little for HTML bodies. It is global in the process.
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
        # A spreadsheet writes rows of commas for deleted rows.
        if any(cell.strip() for cell in cells):
            yield _row(line, table, cells)


def _without_end_mark(pieces: Iterable[str]) -> Iterator[str]:
    """Yield ``pieces`` without a Ctrl-Z at the very end."""
    last = ""
    for piece in pieces:
        if last:
            yield last
        last = piece
    mark = END_OF_FILE.decode()
    if rest := last.rstrip(f"\r\n{mark}") if last.rstrip("\r\n").endswith(mark) else last:
        yield rest


def _header(pieces: Iterator[str]) -> list[str]:
    """Return the lines of the header: several, if a name contains line breaks. There may be more lines than needed."""
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
    """Yield a problem for columns that would have the same variable."""
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
        return f'a quoted cell that begins here has no end; lines {first} to {last} were not read (look for a stray ")'
    if "field larger" in str(error):
        return f'a cell has more than {LONGEST_LINE // 2**20} MB (look for a stray ")'
    return f"is no CSV ({error}); a quote inside of a quoted cell is written twice"
