"""Read reservations from CSV and JSON Lines, record by record: whatever the size of a file, one record is in memory."""

from __future__ import annotations

import csv
import io
import json
import re
from dataclasses import dataclass
from datetime import datetime
from typing import IO, TYPE_CHECKING, Any, NoReturn
from uuid import UUID

from mailbatch.application.reserve import Draft
from mailbatch.domain.errors import InvalidReservation
from mailbatch.domain.reservation import MAIL_FIELDS, Mail, address_list, time_problems

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

LONGEST_LINE = 64 * 2**20
"""Bytes of one line that are read; a longer one is a file of some other kind."""
COLUMNS = ("id", *MAIL_FIELDS, "scheduled_at", "expires_at", "priority", "idempotency_key", "tag")
_OWN = frozenset(
    {
        *("status", "attempts", "retry_at", "due_at", "last_error", "message_id", "sent_at", "finished_at", "claim_no"),
        *("run_id", "lane", "item_index", "lease_until", "wire_at", "reply_code", "reply_text", "relay", "verdicts"),
        "created_at",
    }
)
_LISTS = frozenset({"recipients", "cc", "bcc", "reply_to"})
_OBJECTS = frozenset({"context", "headers"})
_TIMES = frozenset({"scheduled_at", "expires_at"})
_DELIMITERS = (",", ";", "\t")
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

    def __init__(self, problem: str) -> None:
        super().__init__([problem])


def read_csv(file: IO[bytes]) -> Iterator[Record | BadLine]:
    """Read CSV in UTF-8 (with or without a byte order mark), columns as the table's, any others into the context.

    An empty cell of a column of ours is one that was not given; of another it is an empty text in the context.

    Raises:
        UnreadableFile: if the header line names columns that cannot be.
    """
    lines = io.TextIOWrapper(file, encoding="utf-8-sig", errors="surrogateescape", newline="")
    try:
        yield from _read_table(lines)
    finally:
        # The file is the caller's, to close and to ask how far it is.
        lines.detach()


def read_jsonl(file: IO[bytes]) -> Iterator[Record | BadLine]:
    """Read one JSON object a line, in UTF-8, keys as the table's columns; lists of addresses may be JSON arrays."""
    number = 0
    while raw := file.readline(LONGEST_LINE):
        number += 1
        if len(raw) == LONGEST_LINE and not raw.endswith(b"\n"):
            _skip_line(file)
            yield BadLine(number, (f"the line has more than {LONGEST_LINE // 2**20} MB",))
            continue
        if number == 1:
            raw = raw.removeprefix(b"\xef\xbb\xbf")
        if raw.strip():
            yield _judged(number, raw)


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


def _read_table(lines: io.TextIOWrapper) -> Iterator[Record | BadLine]:
    header = lines.readline(LONGEST_LINE)
    columns, delimiter = _read_header(header)
    # The module's own limit is 128 KB a field, which a body in HTML easily passes. It is one for the whole process.
    csv.field_size_limit(max(csv.field_size_limit(), LONGEST_LINE))
    # In pieces: what has no line ends at all must not be read whole.
    pieces = iter(lambda: lines.readline(LONGEST_LINE), "")
    reader = csv.reader(pieces, delimiter=delimiter, strict=True)
    while True:
        line = reader.line_num + 2
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield BadLine(line, (_torn(error, line, reader.line_num + 1),))
            continue
        if cells:
            yield _row(line, columns, cells)


def _read_header(header: str) -> tuple[list[str], str]:
    if not header.strip("\r\n \ufeff"):
        raise UnreadableFile("the file is empty; its first line must name the columns")
    if "\x00" in header or _UNDECODED.search(header):
        raise UnreadableFile("line 1: is not UTF-8; save the file as CSV in UTF-8")
    for delimiter in _DELIMITERS:
        columns = [name.strip() for name in next(csv.reader([header], delimiter=delimiter), [])]
        if "recipients" in columns:
            _refuse_columns(columns)
            return columns, delimiter
    raise UnreadableFile(
        f"line 1: names no column recipients, but {_shown(header.strip())}; its columns are named as the table's: "
        f"{', '.join(COLUMNS)}"
    )


def _refuse_columns(columns: list[str]) -> None:
    for name in columns:
        if name and columns.count(name) > 1:
            raise UnreadableFile(f"line 1: names the column {_shown(name)} twice")
        if name in _OWN:
            raise UnreadableFile(f"line 1: the column {name} is mailbatch's own and cannot be imported; rename it")


def _row(line: int, columns: list[str], cells: list[str]) -> Record | BadLine:
    if len(cells) != len(columns):
        return BadLine(line, (f"has {len(cells)} cells, line 1 names {len(columns)} columns",))
    named = dict(zip(columns, cells, strict=True))
    undecoded = [(name, found) for name, cell in named.items() if (found := _UNDECODED.search(cell))]
    if undecoded:
        return BadLine(line, tuple(f"{n}: is not UTF-8 (byte 0x{ord(b[0]) - 0xDC00:02X})" for n, b in undecoded))
    if named.pop("", ""):
        return BadLine(line, ("has a cell under a column without a name",))
    given: dict[str, Any] = {name: cell for name, cell in named.items() if name in COLUMNS and cell != ""}
    extra = {name: cell for name, cell in named.items() if name not in COLUMNS}
    return _drafted(line, given, extra)


def _torn(error: csv.Error, first: int, last: int) -> str:
    if "unexpected end of data" in str(error):
        return (
            f'a quoted cell that begins here ends nowhere; lines {first} to {last} were not read (look for a stray ")'
        )
    if "field larger" in str(error):
        return f'a cell has more than {LONGEST_LINE // 2**20} MB (look for a stray ")'
    return f"is no CSV ({error}); a quote inside of a quoted cell is written twice"


# --- JSON Lines --------------------------------------------------------------------------------------------------


def _judged(line: int, raw: bytes) -> Record | BadLine:
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
    reasons = [_not_ours(name) for name in values if name not in COLUMNS]
    return BadLine(line, tuple(reasons)) if reasons else _drafted(line, values, {})


def _not_ours(name: str) -> str:
    if name in _OWN:
        return f"{name}: is mailbatch's own and cannot be imported"
    return f"{_shown(name)}: is no column; what a template needs stands in context"


def _skip_line(file: IO[bytes]) -> None:
    while (rest := file.readline(2**20)) and not rest.endswith(b"\n"):
        pass


# --- both --------------------------------------------------------------------------------------------------------


def _drafted(line: int, given: Mapping[str, Any], extra: Mapping[str, str]) -> Record | BadLine:
    """Bring the values into their types; every one that does not fit is a reason."""
    values: dict[str, Any] = {}
    reasons: list[str] = []
    for name, value in given.items():
        if value is None:
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
