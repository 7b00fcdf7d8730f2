"""Identifies the database of an installation, so that a copy, or another of the same name, is recognized."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from typing import Literal, get_args

Kind = Literal["postgresql", "sqlite"]


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseIdentity:
    """The identity of a database. It is not stored in the database itself, because a dump would copy it.

    PostgreSQL: ``system`` is the cluster's system identifier, which a standby shares (None if the role may not read
    it); ``number`` is the database's OID; ``schema`` is the schema of our tables (None: unknown). SQLite: ``system``
    and ``number`` are device and inode; ``name`` is the path, which may differ between containers.
    """

    kind: Kind
    system: int | None
    number: int
    name: str
    schema: str | None = None

    def is_other_than(self, other: DatabaseIdentity) -> bool:
        """Return whether these are surely two databases. A value that one of them does not know counts as equal."""
        return (
            (self.kind, self.number) != (other.kind, other.number)
            or _differ(self.system, other.system)
            or _differ(self.schema, other.schema)
            or (self.kind == "postgresql" and self.name != other.name)
        )

    def encode(self) -> str:
        """Return one line of ASCII, for a message's header and for the value of the lock."""
        return json.dumps(asdict(self), separators=(",", ":"))

    def __str__(self) -> str:
        if self.kind == "sqlite":
            return f"{self.name} (SQLite, device {self.system}, inode {self.number})"
        schema = f", schema {self.schema}" if self.schema else ""
        return f"{self.name} (PostgreSQL, system {self.system or 'unknown'}, OID {self.number}{schema})"


def read_identity(text: object) -> DatabaseIdentity | None:
    """Read what ``encode`` wrote; return None for anything else, because other programs may write headers and keys."""
    if not isinstance(text, str):
        return None
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, dict) or set(found) != {field.name for field in fields(DatabaseIdentity)}:
        return None
    well_formed = (
        found["kind"] in get_args(Kind)
        and isinstance(found["system"], int | None)
        and isinstance(found["number"], int)
        and isinstance(found["name"], str)
        and isinstance(found["schema"], str | None)
    )
    return DatabaseIdentity(**found) if well_formed else None


def _differ(one: object, other: object) -> bool:
    return one is not None and other is not None and one != other
