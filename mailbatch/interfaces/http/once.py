"""``Idempotency-Key``: a repeated request gets the stored response, and its work is not done again."""

from __future__ import annotations

import logging
from hashlib import sha256
from http import HTTPStatus
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import Depends, Header, Request

from mailbatch.domain.errors import StoreError
from mailbatch.domain.idempotency import RequestState, StoredResponse
from mailbatch.infrastructure.system.clock import new_id
from mailbatch.interfaces.http.problems import Problem
from mailbatch.interfaces.http.request_params import parts_of
from mailbatch.interfaces.http.responses import text_response, to_json

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.responses import Response

    from mailbatch.application.ports.operating import IdempotencyKeys
    from mailbatch.application.ports.stores import Intake

log = logging.getLogger(__name__)

REPLAYED = {"Idempotency-Replayed": "true"}


class Once:
    """One request, with or without a key. Refusals are not stored: the client may try again."""

    def __init__(self, keys: IdempotencyKeys, key: str | None, digest: str) -> None:
        self._keys, self._key, self._digest = keys, key, digest
        self._owner = str(new_id())
        self._sealed = False

    def __call__(self, work: Callable[[], tuple[int, Any]]) -> Response:
        """Call ``work``, which returns a status and a JSON value. Respond with that, or with the stored response."""
        if self._key is None:
            status, value = work()
            return text_response(to_json(value), status)
        if (given := self._begin(self._key)) is not None:
            return text_response(given.body, given.status, REPLAYED)
        try:
            status, value = work()
            text = to_json(value)
            if not self._sealed:
                self._keys.finish(self._key, self._owner, status, text)
        except BaseException:
            self._abandon(self._key)
            raise
        return text_response(text, status)

    def seal(self, intake: Intake, status: int, value: Any) -> None:
        """Store the response in the transaction of the work: both are committed, or none."""
        if self._key is not None:
            intake.remember(self._key, self._owner, status, to_json(value))
            self._sealed = True

    def _begin(self, key: str) -> StoredResponse | None:
        match self._keys.begin(key, self._owner, self._digest):
            case RequestState.IN_PROGRESS:
                said = "a request with this Idempotency-Key is being worked on; ask again"
                raise Problem(HTTPStatus.CONFLICT, said, {"Retry-After": "1"})
            case RequestState.OTHER:
                said = "this Idempotency-Key was used for another request; use a new one for each"
                raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, said)
            case StoredResponse() as given:
                return given
            case _:
                return None

    def _abandon(self, key: str) -> None:
        try:
            self._keys.abandon(key, self._owner)
        except StoreError as error:
            # After a while the request counts as abandoned.
            log.warning("an idempotency key cannot be given back: %s", error)


async def _once(
    request: Request,
    idempotency_key: Annotated[
        str | None,
        Header(
            min_length=1,
            max_length=255,
            pattern="^[!-~]+$",
            description="A repeated request with the same key and body gets the same response; kept for a day.",
        ),
    ] = None,
) -> Once:
    digest = ""
    if idempotency_key is not None:
        target = f"{request.method} {request.url.path}?{request.url.query}\n".encode()
        digest = sha256(target + await request.body()).hexdigest()
    return Once(parts_of(request).stores.idempotency_keys, idempotency_key, digest)


OnceOnly = Annotated[Once, Depends(_once)]
