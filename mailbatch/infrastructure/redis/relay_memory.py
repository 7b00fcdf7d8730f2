"""Keeps for a day what was learned about the SMTP of a relay."""

from __future__ import annotations

import json
import logging
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from redis import RedisError

from mailbatch.domain.relay_profile import RelayProfile
from mailbatch.infrastructure.redis.client import place_of

if TYPE_CHECKING:
    import redis

_log = logging.getLogger(__name__)

KEPT = 86_400
"""Seconds after which the key expires, and all is tried again."""


class RedisRelayMemory:
    """The port ``RelayMemory`` on Redis: a JSON object under ``key``."""

    def __init__(self, client: redis.Redis, key: str) -> None:
        self._client = client
        self._key = key

    def recall(self) -> RelayProfile | None:
        """Return what is known; see the port."""
        try:
            text: Any = self._client.get(self._key)
        except RedisError as error:
            _log.info("what is known about the relay cannot be read at %s: %s", place_of(self._client), error)
            return None
        return RelayProfile() if text is None else _read(text)

    def note(self, profile: RelayProfile) -> bool:
        """Keep it for a day; see the port."""
        try:
            self._client.set(self._key, json.dumps(asdict(profile)), ex=KEPT)
        except RedisError as error:
            _log.info("what was learned about the relay cannot be kept at %s: %s", place_of(self._client), error)
            return False
        return True


def _read(text: str | bytes) -> RelayProfile:
    """Return the profile in ``text``; that of an unknown relay if it is not what ``note`` wrote."""
    try:
        found = json.loads(text)
    except ValueError:
        return RelayProfile()
    match found:
        case {
            "dialogue": str() | None as dialogue,
            "takes_ahead": bool(takes_ahead),
            "swallows": bool(swallows),
            "mails": int(mails),
            "reason": str() | None as reason,
        }:
            return RelayProfile(
                dialogue=dialogue,
                takes_ahead=takes_ahead,
                swallows=swallows,
                mails=max(0, mails),
                idle=_number(found.get("idle")),
                connections=int(_number(found.get("connections"))),
                reason=reason,
            )
        case _:
            return RelayProfile()


def _number(found: object) -> float:
    """Return a number that an earlier version has not written; 0 if it is none."""
    return found if isinstance(found, int | float) and 0 < found < KEPT else 0
