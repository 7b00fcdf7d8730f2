"""Ports of the operators' interfaces: the audit log and idempotency keys. Each method may raise ``StoreError``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from uuid import UUID

    from mailbatch.domain.idempotency import RequestState, StoredResponse
    from mailbatch.domain.rows import ActionPlace, ActionRow


class AuditLog(Protocol):
    """What operators did, and through which interface. It holds ids and filters, no contents and no addresses."""

    def record(self, actor: str, action: str, target: Mapping[str, Any], affected: int | None, outcome: str) -> None:
        """Write what ``actor`` (``api:operate``, ``console:operate``, ``cli:<user>``) did just now."""

    def begin(self, actor: str, action: str, target: Mapping[str, Any]) -> UUID:
        """Write what ``actor`` is about to do, as ``begun``; return the id of the entry."""

    def end(self, entry_id: UUID, target: Mapping[str, Any], affected: int | None, outcome: str) -> None:
        """Write how it ended."""

    def list(self, limit: int, before: ActionPlace | None = None) -> Sequence[ActionRow]:
        """Return the last entries, newest first; or the last ``before`` a place."""


class IdempotencyKeys(Protocol):
    """Answers to requests that bore an idempotency key, for a day.

    ``owner`` is whoever works on a request, a new one for each: one that was slow, and taken for left, must neither do
    it a second time nor touch what its successor does.
    """

    def begin(self, key: str, owner: str, request: str) -> RequestState | StoredResponse:
        """Begin ``request`` (a digest) under ``key``; one that was begun and left a while ago may begin anew."""

    def finish(self, key: str, owner: str, status: int, body: str) -> None:
        """Store the answer, if the request is still ``owner``'s."""

    def abandon(self, key: str, owner: str) -> None:
        """Forget a request of ``owner``'s that came to nothing."""
