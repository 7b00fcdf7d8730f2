"""Read reservations from CSV and JSON Lines, record by record: whatever the size of a file, one record is in memory."""

from __future__ import annotations

import csv
import io
import json
import re
from dataclasses import dataclass
from datetime import datetime
from itertools import chain
from typing import IO, TYPE_CHECKING, Any, NoReturn
from uuid import UUID

from mailbatch.application.acting.columns import COLUMNS, OWN, meant, meant_for_recipients, variable
from mailbatch.application.acting.reserve import Draft
from mailbatch.domain.address_list import address_list
from mailbatch.domain.errors import InvalidReservation
from mailbatch.domain.reservation import MAIL_FIELDS, Mail, time_problems

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

LONGEST_LINE = 64 * 2**20
"""Bytes of one line that are read; a longer one is a file of some other kind."""
_LISTS = frozenset({"recipients", "cc", "bcc", "reply_to"})
_OBJECTS = frozenset({"context", "headers"})
_TIMES = frozenset({"scheduled_at", "expires_at"})
_NOT_TEXTS = _OBJECTS | _TIMES | {"id", "priority"}
_DELIMITERS = (",", ";", "\t")
_LONGEST_HEADER = 100
"""Lines of the names of columns, at most: a name may hold line breaks."""
_END_OF_FILE = b"\x1a"
"""Ctrl-Z, by which DOS ended its files; some programs write it still."""
_UNDECODED = re.compile("[\udc80-\udcff]")
_INTEGER = re.compile(r"[+-]?[0-9]{1,12}")
_LONGEST_SHOWN = 60


@dataclass(frozen=True, slots=True)
class Record:
    """What one record of a file asks for. ``line`` counts from 1, and is that on which the record begins."""

    line: int
    draft: Draft


@dataclass(frozen=True, slots=True)
class BadLine:
    """A record that cannot be reserved, and why; each reason is one line."""

    line: int
    reasons: tuple[str, ...]


class UnreadableFile(InvalidReservation):
    """A file of which no line can be read: its columns, or its encoding, are not what they must be."""

    def __init__(self, *problems: str) -> None:
        super().__init__(list(problems))


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


def read_jsonl(file: IO[bytes], context_columns: Collection[str] = ()) -> Iterator[Record | BadLine]:
    """Read one JSON object a line, in UTF-8, keys as the table's columns; lists of addresses may be JSON arrays.

    ``context_columns`` names keys that are variables. What is no key of the table's is refused with its line.

    Raises:
        UnreadableFile: if a key of any line is meant for one of the table's. A pipe cannot be read twice: there it is
            refused with its line.
    """
    own = frozenset(context_columns)
    if file.seekable():
        start = file.tell()
        _refuse_meant_keys(_json_lines(file), own)
        file.seek(start)
    for number, raw in _json_lines(file):
        if raw is None:
            yield BadLine(number, (f"the line has more than {LONGEST_LINE // 2**20} MB",))
        elif judged := _judged(number, raw, own):
            yield judged


def read_time(name: str, text: str) -> datetime:
    """Read a point in time in ISO 8601 that names its offset from UTC.

    Raises:
        InvalidReservation: saying how to write it.
    """
    try:
        when = datetime.fromisoformat(text.strip())
    except ValueError:
        raise InvalidReservation(
            [f"{name}: {_shown(text)} is no time in ISO 8601 up to the year 9999; write 2026-12-24T09:00:00+09:00"]
        ) from None
    if problems := list(time_problems(name, when)):
        raise InvalidReservation(problems)
    return when


def read_object(name: str, text: str) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        InvalidReservation: if it is none.
    """
    try:
        value = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise InvalidReservation([f"{name}: {_shown(text)} is no JSON object ({error})"]) from None
    if not isinstance(value, dict):
        raise InvalidReservation([f'{name}: {_shown(text)} is no JSON object; write {{"name": "value"}}'])
    return value


def read_draft(values: Any) -> Draft:
    """Read what one JSON object asks for, as a line of JSON Lines is read.

    Raises:
        InvalidReservation: with one line for each thing that is wrong.
    """
    if not isinstance(values, dict):
        raise InvalidReservation(['is no JSON object; write {"recipients": …}'])
    if reasons := [_not_ours(name) for name in values if name not in COLUMNS]:
        raise InvalidReservation(reasons)
    read = _drafted(1, values, {})
    if isinstance(read, BadLine):
        raise InvalidReservation(list(read.reasons))
    return read.draft


# --- CSV ---------------------------------------------------------------------------------------------------------


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
            say(f"the column {_shown(table.columns[place])} is the variable {name}")
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
    mark = _END_OF_FILE.decode()
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
        f"line 1: names no column recipients, but {_shown(header.strip())}",
        *(f"did you mean recipients where it says {_shown(name)}?" for name in like),
        *_meant_columns(name for name in longest if name not in own and name not in like),
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
        *(f"names no column {_shown(name)}, as --context-column does" for name in own if name not in columns),
        *(
            f"the column {name} is mailbatch's own and cannot be imported; rename it"
            for name in others.values()
            if name in OWN and name not in own
        ),
        *_meant_columns(name for name in others.values() if name not in own),
    ]
    if "recipients" in own:
        problems.append("the column recipients says to whom the mails go, and is no variable")
    if problems := problems or list(_alike(columns, variables)):
        raise UnreadableFile(*(f"line 1: {problem}" for problem in problems))
    return _Table(lines, delimiter, columns, fields, variables)


def _twice(names: Iterable[str]) -> list[str]:
    named = [name for name in names if name]
    return [f"names the column {_shown(name)} twice" for name in dict.fromkeys(named) if named.count(name) > 1]


def _alike(columns: list[str], variables: Mapping[int, str]) -> Iterator[str]:
    """Yield for which columns a template would have one name."""
    for found in dict.fromkeys(variables.values()):
        same = [_shown(columns[place]) for place, name in variables.items() if name == found]
        if len(same) > 1:
            yield f"the columns {' and '.join(same)} are all the variable {found}; rename them"


def _meant_columns(names: Iterable[str]) -> Iterator[str]:
    for name in names:
        if column := meant(name):
            yield (
                f"{_shown(name)} is no column; did you mean {column}? Rename it, or say that it is a variable: "
                f"--context-column {_shown(name)}"
            )


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
    return _drafted(line, given, {name: cells[place] for place, name in table.variables.items()})


def _torn(error: csv.Error, first: int, last: int) -> str:
    if "unexpected end of data" in str(error):
        return (
            f'a quoted cell that begins here ends nowhere; lines {first} to {last} were not read (look for a stray ")'
        )
    if "field larger" in str(error):
        return f'a cell has more than {LONGEST_LINE // 2**20} MB (look for a stray ")'
    return f"is no CSV ({error}); a quote inside of a quoted cell is written twice"


# --- JSON Lines --------------------------------------------------------------------------------------------------


def _json_lines(file: IO[bytes]) -> Iterator[tuple[int, bytes | None]]:
    """Yield the lines that are not empty, with their numbers; None for one that is too long."""
    number = 0
    while raw := file.readline(LONGEST_LINE):
        number += 1
        if len(raw) == LONGEST_LINE and not raw.endswith(b"\n"):
            _skip_line(file)
            yield number, None
            continue
        if number == 1:
            raw = raw.removeprefix(b"\xef\xbb\xbf")
        # In JSON it stands nowhere else.
        if (line := raw.rstrip().rstrip(_END_OF_FILE)).strip():
            yield number, line


def _refuse_meant_keys(lines: Iterable[tuple[int, bytes | None]], own: Collection[str]) -> None:
    """Raise ``UnreadableFile`` if a key is meant for one of the table's; each is named once."""
    found: dict[str, int] = {}
    for number, raw in lines:
        values = _loaded(raw or b"")
        for name in values if isinstance(values, dict) else ():
            if name not in COLUMNS and name not in own and meant(name):
                found.setdefault(name, number)
    if found:
        raise UnreadableFile(
            *(f"line {found[name]}: {problem}" for name in found for problem in _meant_columns([name]))
        )


def _loaded(raw: bytes) -> Any:
    """Return what a line holds, None if that cannot be read: which is said when its turn comes."""
    try:
        return json.loads(raw.decode("utf-8"))
    except (ValueError, RecursionError):
        return None


def _judged(line: int, raw: bytes, own: Collection[str]) -> Record | BadLine | None:
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        return BadLine(line, (f"is not UTF-8 (byte 0x{raw[error.start]:02X} at position {error.start + 1})",))
    try:
        values = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        return BadLine(line, (f"is no JSON ({error})",))
    if not isinstance(values, dict):
        return BadLine(line, ('is no JSON object; write {"recipients": …} on one line',))
    if values and all(value is None or (isinstance(value, str) and not value.strip()) for value in values.values()):
        return None  # what a row of commas becomes where a program turns it into JSON
    extra = {variable(name, 0): values[name] for name in values if name in own}
    given = {name: value for name, value in values.items() if name not in own}
    reasons = [_not_ours(name) for name in given if name not in COLUMNS]
    return BadLine(line, tuple(reasons)) if reasons else _drafted(line, given, extra)


def _not_ours(name: str) -> str:
    if name in OWN:
        return f"{name}: is mailbatch's own and cannot be imported"
    if column := meant(name):
        return f"{_shown(name)}: is no column; did you mean {column}? What a template needs stands in context"
    return f"{_shown(name)}: is no column; what a template needs stands in context"


def _skip_line(file: IO[bytes]) -> None:
    while (rest := file.readline(2**20)) and not rest.endswith(b"\n"):
        pass


# --- both --------------------------------------------------------------------------------------------------------


def _drafted(line: int, given: Mapping[str, Any], extra: Mapping[str, Any]) -> Record | BadLine:
    """Bring the values into their types; every one that does not fit is a reason."""
    values: dict[str, Any] = {}
    reasons: list[str] = []
    for name, value in given.items():
        # An empty text means that nothing is given; where a text may be empty, the reservation's check decides.
        if value is None or (value == "" and name in _NOT_TEXTS):
            continue
        try:
            values[name] = _typed(name, value)
        except InvalidReservation as error:
            reasons += error.problems
    if reasons:
        return BadLine(line, tuple(reasons))
    if extra:
        values["context"] = {**extra, **values.get("context", {})}
    mail = Mail(**{"recipients": "", **{name: values.pop(name) for name in MAIL_FIELDS if name in values}})
    return Record(line, Draft(mail=mail, **values))


def _typed(name: str, value: Any) -> Any:
    if name in _LISTS and isinstance(value, list) and all(isinstance(item, str) for item in value):
        return address_list(name, value)
    if name in _OBJECTS and isinstance(value, dict):
        return value
    if name == "priority" and isinstance(value, int) and not isinstance(value, bool):
        return value
    if not isinstance(value, str):
        raise InvalidReservation([f"{name}: {_shown(json.dumps(value))} is not {_expected(name)}"])
    return _from_text(name, value)


def _from_text(name: str, text: str) -> Any:
    if name in _OBJECTS:
        return read_object(name, text)
    if name in _TIMES:
        return read_time(name, text)
    if name == "priority":
        if not _INTEGER.fullmatch(text.strip()):
            raise InvalidReservation([f"priority: {_shown(text)} is no integer"])
        return int(text)
    if name == "id":
        try:
            return UUID(text.strip())
        except ValueError:
            raise InvalidReservation([f"id: {_shown(text)} is no UUID"]) from None
    return text


def _expected(name: str) -> str:
    if name in _OBJECTS:
        return "a JSON object"
    return "an integer" if name == "priority" else "text"


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def _shown(text: str) -> str:
    shown = ascii(text[:_LONGEST_SHOWN]) if not text[:_LONGEST_SHOWN].isprintable() else f"'{text[:_LONGEST_SHOWN]}'"
    return f"{shown}…" if len(text) > _LONGEST_SHOWN else shown
