"""Answers to requests that bore an idempotency key: the adapter of the port ``Answers``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from mailbatch.application.operating_ports import Begun, Given
from mailbatch.infrastructure.db.engine import writing
from mailbatch.infrastructure.db.tables import api_answers
from mailbatch.infrastructure.db.types import now

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection, Engine

KEPT = 86_400.0
"""Seconds for which an answer is given again."""
LEFT = 60.0
"""Seconds after which a request without an answer counts as left: whoever did it has died, or was cut off."""

_a = api_answers.c


@dataclass(frozen=True, slots=True)
class SqlAnswers:
    """The port ``Answers`` on PostgreSQL and SQLite."""

    engine: Engine

    def begin(self, key: str, request: str) -> Begun | Given:
        """Begin a request, or find what became of it; see the port."""
        old = sa.or_(_a.created_at < now(-KEPT), sa.and_(_a.status.is_(None), _a.created_at < now(-LEFT)))
        with writing(self.engine) as connection:
            connection.execute(sa.delete(api_answers).where(_a.created_at < now(-LEFT), old))
            insert = _insert(connection).values(key=key, request=request).returning(_a.key)
            if connection.execute(insert).scalar_one_or_none() is not None:
                return Begun.NEW
            row = connection.execute(sa.select(api_answers).where(_a.key == key)).one_or_none()
        if row is None:
            return Begun.IN_PROGRESS
        if row.request != request:
            return Begun.OTHER
        return Begun.IN_PROGRESS if row.status is None else Given(row.status, row.answer)

    def finish(self, key: str, status: int, answer: str) -> None:
        """Store the answer; see the port."""
        with writing(self.engine) as connection:
            connection.execute(finished(key, status, answer))

    def abandon(self, key: str) -> None:
        """Forget a request; see the port."""
        with writing(self.engine) as connection:
            connection.execute(sa.delete(api_answers).where(_a.key == key, _a.status.is_(None)))


def finished(key: str, status: int, answer: str) -> sa.Update:
    """The statement that stores an answer, for whichever transaction."""
    return sa.update(api_answers).where(_a.key == key).values(status=status, answer=answer)


def _insert(connection: Connection) -> postgresql.Insert | sqlite.Insert:
    insert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    return insert(api_answers).on_conflict_do_nothing()
