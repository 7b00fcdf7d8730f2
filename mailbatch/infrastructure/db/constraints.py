"""Checks and partial indexes of tables, as each database writes them, and DDL that SQLAlchemy has no object for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy import CheckConstraint, event

if TYPE_CHECKING:
    from enum import StrEnum

UUID_FORM = "-".join("[0-9a-f]" * digits for digits in (8, 4, 4, 4, 12))
"""The pattern of a stored UUID, for GLOB."""


def one_of(column: str, values: type[StrEnum]) -> CheckConstraint:
    """Return the CHECK that ``column`` has one of ``values``."""
    return CheckConstraint(is_one_of(column, values), name=column)


def is_one_of(column: str, values: type[StrEnum]) -> str:
    """Return the condition of ``one_of``."""
    return f"{column} IN ({', '.join(repr(v.value) for v in values)})"


def sane_time(column: str) -> list[CheckConstraint]:
    """Return the CHECKs that refuse infinity and the years before 1970 and after 9999.

    On SQLite they also refuse every form but the stored one, because there text is compared as time.
    """
    # coalesce: for a text that is not a time strftime returns NULL, and a CHECK accepts NULL.
    # '+0 days': without a modifier SQLite returns 30 February unchanged, and Python cannot read it.
    form = f"coalesce({column} = strftime('%Y-%m-%d %H:%M:%f', {column}, '+0 days'), {column} IS NULL)"
    return [
        CheckConstraint(
            f"{column} >= '1970-01-01 00:00:00+00' AND {column} < '10000-01-01 00:00:00+00'", name=f"{column}_year"
        ).ddl_if(dialect="postgresql"),
        CheckConstraint(f"{column} >= '1970-01-01' AND {form}", name=f"{column}_form").ddl_if(dialect="sqlite"),
    ]


def is_json(column: str, kind: str) -> list[CheckConstraint]:
    """Return the CHECKs that ``column`` is NULL, JSON null, or JSON of this kind: ``object`` or ``array``."""
    on_postgresql = CheckConstraint(f"jsonb_typeof({column}) IN ('{kind}', 'null')", name=column)
    return [is_json_on_sqlite(column, kind), on_postgresql.ddl_if(dialect="postgresql")]


def is_json_on_sqlite(column: str, kind: str) -> CheckConstraint:
    """Return the CHECK of ``is_json`` for SQLite. On PostgreSQL a later revision adds it with ``not_valid``."""
    condition = f"{column} IS NULL OR (json_valid({column}) AND json_type({column}) IN ('{kind}', 'null'))"
    return CheckConstraint(condition, name=column).ddl_if(dialect="sqlite")


def not_valid(name: str, condition: str) -> str:
    """Return the DDL of a CHECK as a revision adds it: PostgreSQL does not read the table."""
    return f"ALTER TABLE %(fullname)s ADD CONSTRAINT ck_%(table)s_{name} CHECK ({condition}) NOT VALID"


def afterwards(table: sa.Table, dialect: str, *statements: str) -> None:
    """Execute ``statements`` after CREATE TABLE, if the database is a ``dialect``."""
    for statement in statements:
        event.listen(table, "after_create", sa.DDL(statement).execute_if(dialect=dialect))  # type: ignore[no-untyped-call]


def where(condition: str) -> dict[str, Any]:
    """Return the arguments that make an ``Index`` partial on both databases."""
    return {"postgresql_where": sa.text(condition), "sqlite_where": sa.text(condition)}
