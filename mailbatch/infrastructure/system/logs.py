"""How log lines look: one form for every logger of the process, ours and others', as text or as JSON.

What is bound to structlog's context variables (``run_id``, ``lane``, ``reservation_id``) stands in every line of the
thread that bound it. Mail addresses and passwords in URLs are hidden, line breaks in a message are written as escapes.
"""

from __future__ import annotations

import logging
import re
import sys
from logging.handlers import WatchedFileHandler
from typing import TYPE_CHECKING, Any

import structlog
from structlog.stdlib import ExtraAdder, ProcessorFormatter

from mailbatch.domain.run import mask_addresses, one_line

if TYPE_CHECKING:
    from collections.abc import MutableMapping

    from structlog.typing import EventDict, Processor, WrappedLogger

CONTEXT = ("run_id", "lane", "reservation_id")
"""What ``extra=`` of the standard library's loggers may add; Celery's own extras repeat the arguments of tasks."""

_URL_PASSWORD = re.compile(r"(?<=://)([^:/?#\s@]*):\S*@")
# These speak of Celery's nodes (celery@host), which look like addresses, and never of mails.
_NODE_LOGGERS = ("celery.apps.", "celery.worker.consumer", "celery.worker.control", "celery.worker.heartbeat")

# They tell of themselves at INFO each time they are asked for the schema's revision.
_TALKERS = ("alembic",)


def configure(*, json: bool, level: str | int, logfile: str | None = None) -> None:
    """Send every log line of this process to stderr, or to ``logfile``, in one form. May be called again."""
    handler = WatchedFileHandler(logfile, encoding="utf-8") if logfile else logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter(json=json))
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
        old.close()
    root.addHandler(handler)
    root.setLevel(level)
    for talker in _TALKERS:
        logging.getLogger(talker).setLevel(logging.WARNING)
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


def formatter(*, json: bool) -> ProcessorFormatter:
    """What makes a line of a record, whoever logged it."""
    last: Processor = structlog.processors.JSONRenderer(ensure_ascii=False, default=str) if json else _as_text
    return ProcessorFormatter(
        foreign_pre_chain=[ExtraAdder(allow=CONTEXT), *_shared()],
        processors=[
            ProcessorFormatter.remove_processors_meta,
            structlog.processors.format_exc_info,
            _hide,
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


def _hide(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Hide addresses and passwords in every value; keep what is no traceback on one line."""
    nodes = str(event.get("logger", "")).startswith(_NODE_LOGGERS)
    for key, value in event.items():
        if isinstance(value, bool | int | float) or value is None:
            continue
        text = _URL_PASSWORD.sub(r"\1:***@", str(value))
        if key not in {"exception", "stack"}:
            text = one_line(text)
        event[key] = text if nodes else mask_addresses(text)
    return event


def _as_text(_logger: WrappedLogger, _method: str, event: MutableMapping[str, Any]) -> str:
    """``<time> <LEVEL> <logger>: <message> key=value …``, a traceback below it."""
    rest = dict(event)
    head = f"{rest.pop('timestamp')} {rest.pop('level').upper()} {rest.pop('logger')}: {rest.pop('event')}"
    below = [str(rest.pop(key)) for key in ("stack", "exception") if key in rest]
    return "\n".join([" ".join([head, *(f"{key}={value}" for key, value in rest.items())]), *below])
