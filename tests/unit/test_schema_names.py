"""Which names our schema in PostgreSQL may have."""

from __future__ import annotations

import pytest

from mailbatch.domain.checks import schema_name_problem


@pytest.mark.parametrize("name", ["mail", "Mail Batch", "ü" * 31 + "x", "pgmail"])
def test_a_name_that_postgresql_keeps_whole_is_taken(name):
    assert schema_name_problem(name) is None


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("", "must be the name of a schema"),
        (" mail", "must be the name of a schema"),
        ("ma\x00il", "must be the name of a schema"),
        ("a%b", "must not contain [, ] or %"),
        ("ü" * 32, "must have at most 63 bytes"),
        ("pg_mail", "must not be one of PostgreSQL's own schemas"),
        ("information_schema", "must not be one of PostgreSQL's own schemas"),
    ],
)
def test_a_name_that_cannot_be_says_why(name, problem):
    assert (schema_name_problem(name) or "").startswith(problem)
