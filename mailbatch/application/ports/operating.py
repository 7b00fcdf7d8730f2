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
    """The responses to requests with an idempotency key, kept for a day.

    ``owner`` names the caller that works on a request; each request has its own. A slow caller whose request was begun
    anew must neither answer it nor forget it.
    """

    def begin(self, key: str, owner: str, request: str) -> RequestState | StoredResponse:
        """Begin ``request`` (a digest) under ``key``, or return what is known of it.

        A request without a response may begin anew after a while.
        """

    def finish(self, key: str, owner: str, status: int, body: str) -> None:
        """Store the response, if the request is still ``owner``'s."""

    def abandon(self, key: str, owner: str) -> None:
        """Forget a request of ``owner``'s that has no response."""
