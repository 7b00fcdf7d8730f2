"""Reads reservations from JSON Lines, one record in memory at a time, whatever the size of the file."""

from __future__ import annotations

import json
from typing import IO, TYPE_CHECKING, Any

from mailbatch.application.acting.columns import COLUMNS, meant, variable
from mailbatch.application.acting.draft_values import not_a_column, refuse_constant
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
    from collections.abc import Collection, Iterable, Iterator


def read_jsonl(file: IO[bytes], context_columns: Collection[str] = ()) -> Iterator[Record | BadLine]:
    """Read one JSON object a line, in UTF-8, keys as the table's columns; lists of addresses may be JSON arrays.

    ``context_columns`` names keys that are variables. A line with another key that is no column is a bad line.

    Raises:
        UnreadableFile: if a key of any line is probably meant for a column. A pipe cannot be read twice: there only
            that line is bad.
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


def _json_lines(file: IO[bytes]) -> Iterator[tuple[int, bytes | None]]:
    """Yield the number and the content of each line that is not empty; None for a line that is too long."""
    number = 0
    while raw := file.readline(LONGEST_LINE):
        number += 1
        if len(raw) == LONGEST_LINE and not raw.endswith(b"\n"):
            _skip_line(file)
            yield number, None
            continue
        if number == 1:
            raw = raw.removeprefix(b"\xef\xbb\xbf")
        # Ctrl-Z is not valid anywhere else in JSON.
        if (line := raw.rstrip().rstrip(END_OF_FILE)).strip():
            yield number, line


def _refuse_meant_keys(lines: Iterable[tuple[int, bytes | None]], own: Collection[str]) -> None:
    """Raise ``UnreadableFile`` if a key is probably meant for a column; each is named once."""
    found: dict[str, int] = {}
    for number, raw in lines:
        values = _loaded(raw or b"")
        for name in values if isinstance(values, dict) else ():
            if name not in COLUMNS and name not in own and meant(name):
                found.setdefault(name, number)
    if found:
        raise UnreadableFile(
            *(f"line {found[name]}: {problem}" for name in found for problem in misnamed_columns([name]))
        )


def _loaded(raw: bytes) -> Any:
    """Return the value of a line, None if it cannot be read: the second pass reports that."""
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
        values = json.loads(text, parse_constant=refuse_constant)
    except (ValueError, RecursionError) as error:
        return BadLine(line, (f"is no JSON ({error})",))
    if not isinstance(values, dict):
        return BadLine(line, ('is no JSON object; write {"recipients": …} on one line',))
    if values and all(value is None or (isinstance(value, str) and not value.strip()) for value in values.values()):
        return None  # an empty row of a spreadsheet that another program converted to JSON
    extra = {variable(name, 0): values[name] for name in values if name in own}
    given = {name: value for name, value in values.items() if name not in own}
    reasons = [not_a_column(name) for name in given if name not in COLUMNS]
    return BadLine(line, tuple(reasons)) if reasons else read_record(line, given, extra)


def _skip_line(file: IO[bytes]) -> None:
    while (rest := file.readline(2**20)) and not rest.endswith(b"\n"):
        pass
