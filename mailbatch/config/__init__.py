"""Settings: read once from the environment, checked once, frozen. docs/reference/settings.md describes each."""

from __future__ import annotations

from mailbatch.config.reading import load, unknown_variables
from mailbatch.config.relays_file import RelaysFile
from mailbatch.config.settings import PREFIX, LogFormat, Settings, short_tokens
from mailbatch.config.showing import ShownSetting, masked, shown

__all__ = [
    "PREFIX",
    "LogFormat",
    "RelaysFile",
    "Settings",
    "ShownSetting",
    "load",
    "masked",
    "short_tokens",
    "shown",
    "unknown_variables",
]
