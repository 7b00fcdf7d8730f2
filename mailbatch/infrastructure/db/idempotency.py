"""The responses to requests with an idempotency key: the adapter of the port ``IdempotencyKeys``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import sqlalchemy as sa

from mailbatch.domain.idempotency import RequestState, StoredResponse
from mailbatch.infrastructure.db.engine import writing
from mailbatch.infrastructure.db.tables import api_answers
from mailbatch.infrastructure.db.types import now, upsert

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection, Engine

KEPT = 86_400.0
"""Seconds for which a response is kept."""
LEFT = 90.0
"""Seconds after which a request without an answer counts as left: whoever did it has died, or was cut off.

Longer than any may wait for its answer; one that is slower yet finds out that it is not its own any more.
"""

_STATUSES = range(200, 600)
_a = api_answers.c


@dataclass(frozen=True, slots=True)
class SqlIdempotencyKeys:
    """The port ``IdempotencyKeys`` on PostgreSQL and SQLite.

    While a request is worked on, the column ``answer`` holds its owner.
    """

    engine: Engine

    def begin(self, key: str, owner: str, request: str) -> RequestState | StoredResponse:
        """Begin a request, or find what became of it; see the port."""
        old = sa.or_(_a.created_at < now(-KEPT), sa.and_(_a.status.is_(None), _a.created_at < now(-LEFT)))
        with writing(self.engine) as connection:
            connection.execute(sa.delete(api_answers).where(_a.created_at < now(-LEFT), old))
            insert = upsert(connection, api_answers).values(key=key, request=request, answer=owner)
            if connection.execute(insert.on_conflict_do_nothing().returning(_a.key)).scalar_one_or_none() is not None:
                return RequestState.NEW
            row = connection.execute(sa.select(api_answers).where(_a.key == key)).one_or_none()
        if row is None:
            return RequestState.IN_PROGRESS
        if row.request != request:
            return RequestState.OTHER
        if row.status is None:
            return RequestState.IN_PROGRESS
        # A row that another program wrote may hold no HTTP status.
        return (
            StoredResponse(row.status, row.answer)
            if row.status in _STATUSES and row.answer is not None
            else RequestState.OTHER
        )

    def finish(self, key: str, owner: str, status: int, body: str) -> None:
        """Store the answer; see the port."""
        with writing(self.engine) as connection:
            finish(connection, key, owner, status, body)

    def abandon(self, key: str, owner: str) -> None:
        """Forget a request; see the port."""
        with writing(self.engine) as connection:
            connection.execute(sa.delete(api_answers).where(*_owned(key, owner)))


def finish(connection: Connection, key: str, owner: str, status: int, body: str) -> bool:
    """Store an answer in the transaction of ``connection``; whether the request was still ``owner``'s."""
    statement = sa.update(api_answers).where(*_owned(key, owner)).values(status=status, answer=body)
    return connection.execute(statement).rowcount == 1


def _owned(key: str, owner: str) -> tuple[sa.ColumnElement[bool], ...]:
    return _a.key == key, _a.status.is_(None), _a.answer == owner
