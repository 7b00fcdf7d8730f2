"""Checks of what callers give: texts, lines, points in time, JSON, and the name of a schema.

A check yields one line for each problem, beginning with the name of the field.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from mailbatch.domain.limits import EARLIEST, LATEST

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import datetime

# Every character that some mail software takes for a line end: those of str.splitlines(), and NUL.
_BREAKS = re.compile("[\r\n\x00\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029]")
_LONGEST_SCHEMA = 63
"""Bytes; PostgreSQL cuts off the rest (NAMEDATALEN)."""
_UNSAFE_IN_SCHEMA = frozenset("[]%")
"""Characters that SQLAlchemy or the driver change in some statements."""


def text_problems(name: str, text: str | None) -> Iterator[str]:
    """Yield why ``text`` cannot be stored or encoded: NUL and lone surrogates."""
    if text is None:
        return
    if "\x00" in text:
        yield f"{name}: has a NUL character"
    if not text.isascii() and _has_surrogates(text):
        yield f"{name}: has a lone surrogate (text that is no Unicode)"


def line_problems(name: str, text: str | None, *, longest: int | None = None) -> Iterator[str]:
    """Yield why ``text`` cannot be one line of a header, or is longer than ``longest`` characters."""
    if text is None:
        return
    if not text.isprintable():  # A quick test that nearly every text passes.
        yield from text_problems(name, text)
        if found := _BREAKS.search(text.replace("\x00", "")):
            yield f"{name}: has a line break (U+{ord(found[0]):04X}); it must be one line"
    if longest is not None and len(text) > longest:
        yield f"{name}: has {len(text)} characters; at most {longest} are allowed"


def context_problems(context: Mapping[str, Any] | None) -> Iterator[str]:
    """Yield why ``context`` cannot be stored as a JSON object."""
    if context is None:
        return
    try:
        text = json.dumps(context, allow_nan=False, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError) as error:
        yield f"context: cannot be written as JSON ({error})"
        return
    yield from text_problems("context", text.replace("\\u0000", "\x00"))


def time_problems(name: str, when: datetime | None) -> Iterator[str]:
    """Yield why ``when`` cannot be stored: it has no time zone, or databases disagree about its year."""
    if when is None:
        return
    if when.tzinfo is None or when.utcoffset() is None:
        yield f"{name}: {when.isoformat()} has no time zone; write {when.isoformat()}Z or +09:00"
    elif not EARLIEST <= when < LATEST:
        yield f"{name}: {when.isoformat()} is outside 1970–9999"


def schema_name_problem(name: str) -> str | None:
    """Return why ``name`` cannot name our schema in PostgreSQL, to follow the name of its field; None if it can."""
    if not name or name != name.strip() or not name.isprintable():
        return "must be the name of a schema, without blanks around it and without control characters"
    if _UNSAFE_IN_SCHEMA & set(name):
        return "must not contain [, ] or %"
    if len(name.encode("utf-8", "replace")) > _LONGEST_SCHEMA:
        return f"must have at most {_LONGEST_SCHEMA} bytes: PostgreSQL would cut off the rest"
    if name.startswith("pg_") or name == "information_schema":
        return "must not be one of PostgreSQL's own schemas"
    return None


def _has_surrogates(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False
