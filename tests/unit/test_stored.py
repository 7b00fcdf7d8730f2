"""Whatever a column of SQLite holds, it becomes a value that can be read and asked for again."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

import pytest
from sqlalchemy.dialects import sqlite

from mailbatch.infrastructure.db import stored
from mailbatch.infrastructure.db.types import Timestamp

ID = UUID("01234567-89ab-7def-8123-456789abcdef")
LARGEST = 2**53


@pytest.mark.parametrize(
    ("read", "value", "expected"),
    [
        (stored.text, None, None),
        (stored.text, b"\xc3\xa4\xff", "ä\udcff"),
        (stored.text, 7, "7"),
        (stored.whole, None, None),
        (stored.whole, 1.9, 1),
        (stored.whole, 1e300, LARGEST),
        (stored.whole, -1e300, -LARGEST),
        (stored.whole, float("nan"), 0),
        (stored.whole, "7", 0),
        (stored.number, 2, 2.0),
        (stored.number, float("inf"), None),
        (stored.number, "2", None),
        (stored.guid, None, None),
        (stored.guid, ID, ID),
        (stored.guid, str(ID), ID),
        (stored.guid, "no id", "no id"),
        (stored.guid, 7, "7"),
        (stored.read_json, "1e2", 100),
        (stored.read_json, "1.5e1", 15),
        (stored.read_json, "1e999", "1e999"),
        (stored.read_json, "NaN", "NaN"),
        (stored.read_json, "[", "["),
        (stored.members, [1], {"value": [1]}),
        (stored.lines, "text", ["text"]),
        (stored.lines, [1, "two"], ["1", "two"]),
        (stored.verdicts, [1], None),
        (stored.verdicts, {"a": 1, "b": {"kind": 1}}, {}),
        (stored.verdicts, {"a": {"kind": "x", "code": 999}}, {"a": {"kind": "x", "code": 999, "text": ""}}),
        (stored.verdicts, {"a": {"kind": "x", "code": 1000}}, {"a": {"kind": "x", "code": 0, "text": ""}}),
        (stored.verdicts, {"a": {"kind": "x", "text": [1]}}, {"a": {"kind": "x", "code": 0, "text": "[1]"}}),
    ],
)
def test_what_anybody_left_in_a_column_is_read_as_something(read, value, expected):
    found = read(value)
    assert (found, type(found)) == (expected, type(expected))


@pytest.mark.parametrize("value", ["soon", "2026-12-01", "0001-01-01 00:00:00.000", 7])
def test_a_moment_that_is_stored_in_another_way_is_asked_for_as_it_is_stored(value):
    asked = Timestamp().process_bind_param(stored.moment(value), sqlite.dialect())
    assert asked == value


def test_a_moment_is_stored_in_utc_to_the_millisecond():
    when = datetime(2026, 12, 1, 9, 0, 0, 123999, tzinfo=UTC)
    text = Timestamp().process_bind_param(when, sqlite.dialect())
    assert text == "2026-12-01 09:00:00.123"
    assert stored.moment(text) == when.replace(microsecond=123000)
