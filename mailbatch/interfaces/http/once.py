"""``Idempotency-Key``: the same request asked again gets the answer that was given, and nothing is done twice."""

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
from mailbatch.interfaces.http.responses import text_answer, to_json

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.responses import Response

    from mailbatch.application.ports.operating import IdempotencyKeys
    from mailbatch.application.ports.stores import Intake

log = logging.getLogger(__name__)

REPLAYED = {"Idempotency-Replayed": "true"}


class Once:
    """One request, which may bear a key. Only what was done is remembered: a refusal may be asked for again."""

    def __init__(self, answers: IdempotencyKeys, key: str | None, digest: str) -> None:
        self._answers, self._key, self._digest = answers, key, digest
        self._owner = str(new_id())
        self._sealed = False

    def __call__(self, deed: Callable[[], tuple[int, Any]]) -> Response:
        """Answer what ``deed`` gives: a status and what becomes JSON. Or what it gave before."""
        if self._key is None:
            status, value = deed()
            return text_answer(to_json(value), status)
        if (given := self._begin(self._key)) is not None:
            return text_answer(given.answer, given.status, REPLAYED)
        try:
            status, value = deed()
            text = to_json(value)
            if not self._sealed:
                self._answers.finish(self._key, self._owner, status, text)
        except BaseException:
            self._abandon(self._key)
            raise
        return text_answer(text, status)

    def seal(self, intake: Intake, status: int, value: Any) -> None:
        """Remember the answer in the transaction of what was done, so that neither is ever there without the other."""
        if self._key is not None:
            intake.remember(self._key, self._owner, status, to_json(value))
            self._sealed = True

    def _begin(self, key: str) -> StoredResponse | None:
        match self._answers.begin(key, self._owner, self._digest):
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
            self._answers.abandon(key, self._owner)
        except StoreError as error:
            # It is taken for left after a while.
            log.warning("an idempotency key cannot be given back: %s", error)


async def _once(
    request: Request,
    idempotency_key: Annotated[
        str | None,
        Header(
            min_length=1,
            max_length=255,
            pattern="^[!-~]+$",
            description="Asked again with the same key and body, nothing is done twice; kept for a day.",
        ),
    ] = None,
) -> Once:
    digest = ""
    if idempotency_key is not None:
        target = f"{request.method} {request.url.path}?{request.url.query}\n".encode()
        digest = sha256(target + await request.body()).hexdigest()
    return Once(parts_of(request).stores.idempotency_keys, idempotency_key, digest)


OnceOnly = Annotated[Once, Depends(_once)]
