"""The board on which a running job shows its progress."""

from __future__ import annotations

import json
import logging
import threading
import time
from typing import TYPE_CHECKING, Any

from redis import RedisError

from mailbatch.infrastructure.redis.client import place_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import redis

    from mailbatch.infrastructure.redis.keys import Keys

_log = logging.getLogger(__name__)

TTL = 3600
"""Seconds for which a progress is shown that nobody has renewed: a dead run disappears, an ended one can be read."""
QUIET = 10.0
"""Seconds for which a board that could not be reached is left alone: each try may cost the job a socket timeout."""


class RedisStatusBoard:
    """The port ``StatusBoard`` on Redis.

    What a job shows last (``"state": "finished"``) stands until its time to live is over. During an outage one warning
    is logged, not one for each progress; a change of ``state`` is tried once even then.
    """

    def __init__(self, client: redis.Redis, keys: Keys, *, now: Callable[[], float] = time.monotonic) -> None:
        self._client = client
        self._keys = keys
        self._now = now
        self._guard = threading.Lock()
        self._away_since: float | None = None
        self._quiet_until = 0.0
        self._state: Any = None

    def put(self, job: str, progress: Mapping[str, Any]) -> None:
        """Show ``progress`` (what JSON does not know is shown as its text); never raises."""
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
        """What ``job`` shows, or None: nothing, nothing that can be read, or (with a warning) no Redis to ask."""
        try:
            text: Any = self._client.get(self._keys.status(job))
            shown = None if text is None else json.loads(text)
        except (RedisError, ValueError) as error:
            _log.warning("cannot read the progress of %s at %s: %s", job, place_of(self._client), error)
            return None
        return shown if isinstance(shown, dict) else None

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
