"""The port ``IdempotencyKeys`` in memory; the contract tests hold it to what the databases do."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from support.fake_tables import FakeTables

from mailbatch.domain.idempotency import RequestState, StoredResponse
from mailbatch.infrastructure.db.idempotency import KEPT, LEFT


@dataclass(frozen=True)
class RequestRow:
    """A request with an idempotency key. ``began``: by the clock of the tables."""

    request: str
    owner: str
    began: float
    response: StoredResponse | None = None


@dataclass
class FakeIdempotencyKeys:
    """The port ``IdempotencyKeys`` over ``tables``."""

    tables: FakeTables = field(default_factory=FakeTables)

    @property
    def rows(self) -> dict[str, RequestRow]:
        return self.tables.requests

    def begin(self, key: str, owner: str, request: str) -> RequestState | StoredResponse:
        known, now = self.rows.get(key), self.tables.clock.now
        if known is None or now - known.began > (LEFT if known.response is None else KEPT):
            self.rows[key] = RequestRow(request, owner, now)
            return RequestState.NEW
        if known.request != request:
            return RequestState.OTHER
        if known.response is None:
            return RequestState.IN_PROGRESS
        return known.response if 200 <= known.response.status < 600 else RequestState.OTHER

    def finish(self, key: str, owner: str, status: int, body: str) -> None:
        if self.is_owned(key, owner):
            self.rows[key] = replace(self.rows[key], response=StoredResponse(status, body))

    def abandon(self, key: str, owner: str) -> None:
        if self.is_owned(key, owner):
            del self.rows[key]

    def is_owned(self, key: str, owner: str) -> bool:
        known = self.rows.get(key)
        return known is not None and known.owner == owner and known.response is None
