"""Searches for the rows of a ``Selection`` by scans, and makes each scan as large as its time allows."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from mailbatch.infrastructure.db.engine import reading
from mailbatch.infrastructure.db.location import qualified
from mailbatch.infrastructure.db.selecting import RARE, Scan, among, compares
from mailbatch.infrastructure.db.tables import mail_reservations

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.engine import Connection, Engine

    from mailbatch.domain.selection import Selection

AT_ONCE = 0.15
"""Seconds that one scan should take."""
FIRST, LEAST, MOST = 2_000, 500, 50_000
"""Rows that the first scan reads; the least and the most that any other scan reads."""
GROWTH = 5.0
"""A scan reads at most this many times the rows of the scan before, and at least its rows divided by this."""
TRIGRAM = 3
"""For a text of fewer characters, an index of trigrams must be read completely."""
_INDEX_OF_RECIPIENTS = sa.text("""
SELECT EXISTS (SELECT FROM pg_catalog.pg_index i
  JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid JOIN pg_catalog.pg_am m ON m.oid = c.relam
  JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
  WHERE i.indrelid = to_regclass(:table) AND i.indisvalid AND i.indpred IS NULL AND a.attname = 'recipients'
    AND m.amname IN ('gin', 'gist'))
""")


@dataclass(slots=True)
class Scans:
    """Makes one scan after the other, each of about ``AT_ONCE`` seconds. ``within``: seconds for all, or None."""

    engine: Engine
    which: Selection
    within: float | None
    began: float = field(default_factory=time.monotonic)
    _compares: bool | None = None
    _few: str | None = None
    _size: int = field(default_factory=lambda: FIRST)
    _took: float = 0.0

    def next(self, place: tuple[Any, Any] | None, wanted: int) -> Scan | None:
        """Return the scan that continues behind ``place`` to find ``wanted`` rows; None if it would end too late."""
        if self._compares is None:
            self._few = next(filter(self._are_few, ("tag", "to")), None)
            self._compares = compares(self.which, self._few)
        elif self.within is not None and time.monotonic() - self.began + self._took > self.within:
            return None
        return Scan(self.which, self._few, place, self._size if self._compares else wanted)

    def read(self, statement: sa.Select[Any]) -> Sequence[Any]:
        """Execute ``statement`` of a scan; its duration decides the size of the next one."""
        began = time.monotonic()
        with reading(self.engine) as connection:
            rows = connection.execute(statement).mappings().all()
        self._took = time.monotonic() - began
        self._size = round(min(MOST, self._size * min(GROWTH, max(1 / GROWTH, AT_ONCE / max(self._took, 1e-6)))))
        self._size = max(LEAST, self._size)
        return rows

    def _are_few(self, field: str) -> bool:
        """Return whether an index finds at most ``RARE`` rows by this field alone."""
        text = getattr(self.which, field)
        if text is None or self.which.run_id is not None:
            return False
        with reading(self.engine) as connection:
            if field == "to" and not (len(text) >= TRIGRAM and _has_index_of_recipients(connection)):
                return False
            return bool(connection.execute(among(self.which, field)).scalar_one() <= RARE)


def _has_index_of_recipients(connection: Connection) -> bool:
    """Return whether the database has the optional index of recipients that docs/reference/http.md describes."""
    if connection.dialect.name != "postgresql":
        return False
    table = qualified(connection, mail_reservations)
    return bool(connection.execute(_INDEX_OF_RECIPIENTS, {"table": table}).scalar_one())
