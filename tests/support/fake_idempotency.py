"""The port ``IdempotencyKeys`` in memory; the contract tests hold it to what the databases do."""

from __future__ import annotations

from dataclasses import dataclass, field

from mailbatch.domain.idempotency import RequestState, StoredResponse
from mailbatch.infrastructure.db.idempotency import KEPT, LEFT


@dataclass
class _Request:
    request: str
    owner: str
    began: float
    response: StoredResponse | None = None


@dataclass
class FakeIdempotencyKeys:
    """The port ``IdempotencyKeys``."""

    now: float = 0.0
    rows: dict[str, _Request] = field(default_factory=dict)

    def begin(self, key: str, owner: str, request: str) -> RequestState | StoredResponse:
        known = self.rows.get(key)
        if known is None or self.now - known.began > (LEFT if known.response is None else KEPT):
            self.rows[key] = _Request(request, owner, self.now)
            return RequestState.NEW
        if known.request != request:
            return RequestState.OTHER
        if known.response is None:
            return RequestState.IN_PROGRESS
        return known.response if 200 <= known.response.status < 600 else RequestState.OTHER

    def finish(self, key: str, owner: str, status: int, body: str) -> None:
        if self.is_owned(key, owner):
            self.rows[key].response = StoredResponse(status, body)

    def abandon(self, key: str, owner: str) -> None:
        if self.is_owned(key, owner):
            del self.rows[key]

    def is_owned(self, key: str, owner: str) -> bool:
        known = self.rows.get(key)
        return known is not None and known.owner == owner and known.response is None
