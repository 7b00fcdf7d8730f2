"""Which names of a PostgreSQL schema are taken."""

from __future__ import annotations

_LONGEST = 63
_UNSAFE = frozenset("[]%")
"""Signs that do not survive the way through SQLAlchemy and the driver in every statement."""


def what_is_wrong(name: str) -> str | None:
    """Say what is wrong with ``name`` in words that follow the name of its field; None if nothing is."""
    if not name or name != name.strip() or not name.isprintable():
        return "must be the name of a schema, without blanks around it and without control characters"
    if _UNSAFE & set(name):
        return "must not contain [, ] or %"
    if len(name.encode("utf-8", "replace")) > _LONGEST:
        return f"must have at most {_LONGEST} bytes: PostgreSQL would cut off the rest"
    if name.startswith("pg_") or name == "information_schema":
        return "must not be one of PostgreSQL's own schemas"
    return None
