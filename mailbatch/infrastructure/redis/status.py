"""Keeps the progress of a running job where every process can read it."""

from __future__ import annotations

import json
import logging
import threading
import time
from typing import TYPE_CHECKING, Any
from uuid import UUID

from redis import RedisError

from mailbatch.domain.run import REPORTED
from mailbatch.infrastructure.redis.client import place_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import redis

    from mailbatch.infrastructure.redis.keys import Keys

_log = logging.getLogger(__name__)

_LONGEST = 200
"""Characters that are shown of a text."""
_LARGEST = 2**53
"""Every reader of JSON reads whole numbers below this alike (RFC 8259, section 6)."""
TTL = 3600
"""Seconds after which progress expires: a dead run disappears, and the end of a run can still be read for a while."""
QUIET = 10.0
"""Seconds for which nothing is sent after Redis did not answer: each try may cost the job a socket timeout."""


class RedisStatusBoard:
    """The port ``StatusBoard`` on Redis.

    The last progress of a job (``"state": "finished"``) stays until it expires. An outage logs one warning, not one
    for each progress; a change of ``state`` is tried once even during an outage.
    """

    def __init__(self, client: redis.Redis, keys: Keys, *, now: Callable[[], float] = time.monotonic) -> None:
        self._client = client
        self._keys = keys
        self._now = now
        self._guard = threading.Lock()
        self._away_since: float | None = None
        self._quiet_until = 0.0
        self._state: Any = None
        self._unreadable = False

    def put(self, job: str, progress: Mapping[str, Any]) -> None:
        """Show ``progress``; a value that JSON does not know is written as text. Never raises."""
        if self._is_quiet(progress.get("state")):
            return
        try:
            text = json.dumps(progress, default=str)
            self._client.set(self._keys.status(job), text, ex=TTL)
        except (RedisError, TypeError, ValueError) as error:
            self._failed(job, progress.get("state"), error)
        else:
            self._succeeded(progress.get("state"))

    def get(self, job: str) -> dict[str, Any] | None:
        """Return the progress of ``job``; None if none can be read, or (with one warning) if Redis is away."""
        try:
            text: Any = self._client.get(self._keys.status(job))
        except RedisError as error:
            if not self._unreadable:
                _log.warning("cannot read the progress of %s at %s: %s", job, place_of(self._client), error)
            self._unreadable = True
            return None
        self._unreadable = False
        return None if text is None else _read(text)

    def _is_quiet(self, state: Any) -> bool:
        with self._guard:
            return self._away_since is not None and self._now() < self._quiet_until and state == self._state

    def _failed(self, job: str, state: Any, error: Exception) -> None:
        with self._guard:
            self._state = state
            first = self._away_since is None
            if first:
                self._away_since = self._now()
            self._quiet_until = self._now() + QUIET
        if first:
            _log.warning("cannot show the progress of %s at %s: %s", job, place_of(self._client), error)

    def _succeeded(self, state: Any) -> None:
        with self._guard:
            away, self._away_since, self._state = self._away_since, None, state
        if away is not None:
            _log.info("progress is shown again after %.0f s", self._now() - away)


def _read(text: str) -> dict[str, Any] | None:
    """Return the progress in ``text``, without values that no reader can show; None if ``text`` is not a JSON object.

    Other programs may write the key. A count that is not a number, or a run that is not an id, is left out; all other
    names are allowed.
    """
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, dict):
        return None
    shown = {_text(name): _text(value) if isinstance(value, str) else value for name, value in found.items()}
    return {name: value for name, value in shown.items() if _fits(name, value)}


def _fits(name: str, value: object) -> bool:
    match name:
        case "run_id":
            return isinstance(value, str) and _is_id(value)
        case "state" | "outcome" | "trigger":
            return isinstance(value, str)
        case "elapsed":
            return _is_number(value)
        case _ if name in REPORTED:
            return _is_number(value) and isinstance(value, int)
        case _:
            return isinstance(value, str | bool) or value is None or _is_number(value)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < _LARGEST


def _is_id(text: str) -> bool:
    try:
        return str(UUID(text)) == text
    except ValueError:
        return False


def _text(value: str) -> str:
    """Return ``value`` as it can be shown: JSON may contain half a character (RFC 8259, section 8.2)."""
    return value.encode("utf-8", "replace").decode()[:_LONGEST]
