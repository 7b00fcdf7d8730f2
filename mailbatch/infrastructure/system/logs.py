"""Gives the lines of every logger in this process one form, as text or as JSON.

A thread that binds structlog's context variables (``run_id``, ``lane``, ``reservation_id``) has them in all its lines.
Mail addresses (by default) and passwords in URLs are hidden; line ends in a message are written as escapes.
"""

from __future__ import annotations

import logging
import sys
from functools import partial
from hashlib import blake2s
from logging.handlers import WatchedFileHandler
from typing import TYPE_CHECKING, Any

import structlog
from structlog.stdlib import ExtraAdder, ProcessorFormatter

from mailbatch.domain.redaction.addresses import AddressDisplay, mask_addresses
from mailbatch.domain.redaction.lines import one_line
from mailbatch.domain.redaction.urls import mask_urls

if TYPE_CHECKING:
    from collections.abc import Callable, MutableMapping

    from structlog.typing import EventDict, Processor, WrappedLogger

CONTEXT = ("run_id", "lane", "reservation_id")
"""Names that ``extra=`` of a standard logger may add. Celery's own extras repeat the arguments of tasks."""

# These name Celery's nodes (celery@host), which look like addresses, and never mails.
_NODE_LOGGERS = ("celery.apps.", "celery.worker.consumer", "celery.worker.control", "celery.worker.heartbeat")

LONGEST = 2000
"""Characters that are written of a message. A relay's texts for many recipients together may have more."""

# Alembic logs at INFO each time we ask for the schema's revision. The others log each URL that they call, and the path
# of a webhook is a secret.
_NOISY = ("alembic", "httpx2", "httpcore2")


def configure(
    *, json: bool, level: str | int, logfile: str | None = None, addresses: str = AddressDisplay.MASKED
) -> None:
    """Send every log line of this process to stderr, or to ``logfile``, in one form. It may be called again."""
    handler = WatchedFileHandler(logfile, encoding="utf-8") if logfile else logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter(json=json, addresses=addresses))
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
        old.close()
    root.addHandler(handler)
    root.setLevel(level)
    for name in _NOISY:
        logging.getLogger(name).setLevel(logging.WARNING)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.stdlib.PositionalArgumentsFormatter(),
            *_shared(),
            ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )


def formatter(*, json: bool, addresses: str = AddressDisplay.MASKED) -> ProcessorFormatter:
    """Return what makes a line of a record of any logger; ``addresses`` is one of ``AddressDisplay``."""
    last: Processor = structlog.processors.JSONRenderer(ensure_ascii=False, default=str) if json else _as_text
    return ProcessorFormatter(
        foreign_pre_chain=[ExtraAdder(allow=CONTEXT), *_shared()],
        processors=[
            ProcessorFormatter.remove_processors_meta,
            structlog.processors.format_exc_info,
            partial(_hide, _HIDING[AddressDisplay(addresses)]),
            last,
        ],
    )


def _shared() -> list[Processor]:
    return [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.StackInfoRenderer(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]


def _hashed(address: str) -> str:
    return "#" + blake2s(address.lower().encode("utf-8", "replace"), digest_size=5).hexdigest()


_HIDING: dict[AddressDisplay, Callable[[str], str]] = {
    AddressDisplay.MASKED: mask_addresses,
    AddressDisplay.HASHED: partial(mask_addresses, instead=_hashed),
    AddressDisplay.PLAIN: str,
}


def _hide(hide: Callable[[str], str], _logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Hide addresses and passwords in every value; keep all but tracebacks short and on one line."""
    nodes = str(event.get("logger", "")).startswith(_NODE_LOGGERS)
    for key, value in event.items():
        if isinstance(value, bool | int | float) or value is None:
            continue
        text = mask_urls(str(value))
        shown = text if nodes else hide(text)
        # Cut last: half an address would not be recognized as one.
        event[key] = shown if key in {"exception", "stack"} else _shortened(one_line(shown))
    return event


def _shortened(text: str) -> str:
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"


def _as_text(_logger: WrappedLogger, _method: str, event: MutableMapping[str, Any]) -> str:
    """Return ``<time> <LEVEL> <logger>: <message> key=value …``, with a traceback below it."""
    rest = dict(event)
    head = f"{rest.pop('timestamp')} {rest.pop('level').upper()} {rest.pop('logger')}: {rest.pop('event')}"
    below = [str(rest.pop(key)) for key in ("stack", "exception") if key in rest]
    return "\n".join([" ".join([head, *(f"{key}={value}" for key, value in rest.items())]), *below])
