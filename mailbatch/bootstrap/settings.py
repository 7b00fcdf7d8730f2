"""The settings of this process, checked by the parts that will use them as well."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING

from mailbatch import config
from mailbatch.domain.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Callable


def read_settings() -> config.Settings:
    """Read the settings from the environment and check them. Nothing is opened.

    Raises:
        SettingsError: with one line for each setting that is wrong.
    """
    settings = config.load()
    wrong = [*_unreadable(settings), *_incomplete(settings)]
    if wrong:
        raise SettingsError("\n".join(wrong))
    return settings


def _unreadable(settings: config.Settings) -> list[str]:
    """Name each setting that the part which uses it cannot read."""
    wrong = []
    for name, read in _readers().items():
        value = getattr(settings, name)
        try:
            _ = value and read(value)
        except ValueError as error:
            wrong.append(f"{config.PREFIX}{name.upper()}={config.masked(name, value)}: {error}")
    return wrong


def _readers() -> dict[str, Callable[[str], object]]:
    from mailbatch.infrastructure.db.urls import read_parameters
    from mailbatch.infrastructure.mime.addresses import read_addresses
    from mailbatch.infrastructure.smtp.ehlo_name import read_ehlo_name
    from mailbatch.infrastructure.smtp.relay import parse_smtp_url

    return {
        "database_url": read_parameters,
        "smtp_url": parse_smtp_url,
        "ehlo_name": read_ehlo_name,
        "sender": read_addresses,
        "redirect_all_to": read_addresses,
        "report_to": read_addresses,
    }


def _incomplete(settings: config.Settings) -> list[str]:
    """Name each setting that needs something which is missing."""
    wrong = []
    if settings.webhook_url and not (find_spec("httpx2") and find_spec("standardwebhooks")):
        wrong.append(f"{config.PREFIX}WEBHOOK_URL: needs the extra `webhook`: pip install 'mailbatch[webhook]'")
    if settings.report_to and not settings.sender:
        wrong.append(f"{config.PREFIX}REPORT_TO: needs {config.PREFIX}SENDER, from whom the reports come")
    return wrong
