"""Which database an installation works on: what tells it from a copy of it, and from another one of the same name."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from typing import Literal, get_args

Kind = Literal["postgresql", "sqlite"]


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseIdentity:
    """The identity of a database. Nothing of it is stored in the database itself, for a dump would carry it.

    PostgreSQL: ``system`` is the cluster's system identifier, which a standby shares (None where the role may not read
    it), ``number`` the database's OID, ``schema`` where our tables stand (None: not known). SQLite: ``system`` and
    ``number`` are device and inode, and ``name`` is the path, which may differ between containers.
    """

    kind: Kind
    system: int | None
    number: int
    name: str
    schema: str | None = None

    def is_other_than(self, other: DatabaseIdentity) -> bool:
        """Whether these are surely two databases; what one of them does not know counts as equal."""
        return (
            (self.kind, self.number) != (other.kind, other.number)
            or _differ(self.system, other.system)
            or _differ(self.schema, other.schema)
            or (self.kind == "postgresql" and self.name != other.name)
        )

    def encode(self) -> str:
        """One line of ASCII, for a message's header and the lock's value."""
        return json.dumps(asdict(self), separators=(",", ":"))

    def __str__(self) -> str:
        if self.kind == "sqlite":
            return f"{self.name} (SQLite, device {self.system}, inode {self.number})"
        schema = f", schema {self.schema}" if self.schema else ""
        return f"{self.name} (PostgreSQL, system {self.system or 'unknown'}, OID {self.number}{schema})"


def read_identity(text: object) -> DatabaseIdentity | None:
    """What ``encode`` wrote; None for anything else, because anybody may write a header or a key."""
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
