"""The settings of this process, each read by the adapter that uses it."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING

from mailbatch import config
from mailbatch.domain.errors import SettingsError
from mailbatch.domain.schedule import read_schedule

if TYPE_CHECKING:
    from collections.abc import Callable


def read_settings() -> config.Settings:
    """Read the settings from the environment and check them. Nothing is opened.

    Raises:
        SettingsError: with one line for each setting that is wrong.
    """
    settings = config.load(_readers())
    if wrong := _incomplete(settings):
        raise SettingsError("\n".join(wrong))
    read_relays(settings)
    return settings


def read_relays(settings: config.Settings) -> config.RelaysFile:
    """Read the relays' file. Without one nothing is in it.

    Raises:
        SettingsError: with one line for each thing that is wrong in it.
    """
    if settings.relays is None:
        return config.RelaysFile()
    from mailbatch.bootstrap.transports import read_named_relay
    from mailbatch.config.relays_reading import read_relays_file

    return read_relays_file(settings.relays, read_named_relay)


def _readers() -> dict[str, Callable[[str], object]]:
    """Return how the text of a setting is read, for each that an adapter reads."""
    from mailbatch.bootstrap.transports import read_relay
    from mailbatch.infrastructure.cron import ensure_fires
    from mailbatch.infrastructure.db.urls import read_database_url
    from mailbatch.infrastructure.mime.addresses import read_addresses, read_return_path
    from mailbatch.infrastructure.redis.urls import read_redis_url
    from mailbatch.infrastructure.smtp.ehlo_name import read_ehlo_name

    return {
        "database_url": read_database_url,
        "redis_url": read_redis_url,
        "broker_url": read_redis_url,
        "result_backend": read_redis_url,
        "smtp_url": read_relay,
        "ehlo_name": read_ehlo_name,
        "schedule": lambda text: ensure_fires(read_schedule(text, "UTC")),
        "sender": read_addresses,
        "redirect_all_to": read_addresses,
        "report_to": read_addresses,
        "return_path": read_return_path,
    }


def _incomplete(settings: config.Settings) -> list[str]:
    """Name each setting that needs something which is missing."""
    wrong = []
    if settings.webhook_url and not (find_spec("httpx2") and find_spec("standardwebhooks")):
        wrong.append(f"{config.PREFIX}WEBHOOK_URL: needs the extra `webhook`: pip install 'mailbatch[webhook]'")
    if settings.report_to and not settings.sender:
        wrong.append(f"{config.PREFIX}REPORT_TO: needs {config.PREFIX}SENDER, from whom the reports come")
    return wrong


def channel_names(settings: config.Settings) -> tuple[str, ...]:
    """Return the names of the channels that are set. Rows of the outbox name them."""
    set_by = {"webhook": settings.webhook_url, "mail": settings.report_to}
    return tuple(name for name, value in set_by.items() if value)
