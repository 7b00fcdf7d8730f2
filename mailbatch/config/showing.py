"""Shows settings to people: each with its source, secrets masked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pydantic import SecretStr

from mailbatch.config.settings import PREFIX, Settings
from mailbatch.domain.redaction.lines import one_line
from mailbatch.domain.redaction.urls import HIDDEN, mask_url, origin

_URLS = frozenset({"database_url", "redis_url", "broker_url", "result_backend", "smtp_url"})
_SECRETS = frozenset(name for name, field in Settings.model_fields.items() if "SecretStr" in str(field.annotation))


@dataclass(frozen=True, slots=True)
class ShownSetting:
    """A setting as anybody may see it: secrets are masked. ``source``: environment or default."""

    name: str
    value: str | None
    source: str


def shown(settings: Settings) -> list[ShownSetting]:
    """Return every setting, in the order in which the reference describes them."""
    return [
        ShownSetting(
            name=f"{PREFIX}{name.upper()}",
            value=masked(name, getattr(settings, name)),
            source="environment" if name in settings.model_fields_set else "default",
        )
        for name in Settings.model_fields
    ]


def masked(name: str, value: Any) -> str | None:
    """Return ``value`` of the setting ``name`` as anybody may see it; None for None."""
    if value is None:
        return None
    if name in _SECRETS or isinstance(value, SecretStr):
        return HIDDEN
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}"
    text = str(value)
    if name == "webhook_url":
        # The path of such a URL is often the secret.
        return f"{place}/{HIDDEN}" if (place := origin(text)) else HIDDEN
    # Somebody may have put a URL into a setting that is none.
    return mask_url(text) if name in _URLS or "://" in text else one_line(text)
