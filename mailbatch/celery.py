"""The Celery app for ``celery -A mailbatch …``."""

from __future__ import annotations

import logging
import sys
from typing import Any

from celery import signals
from celery.utils.text import str_to_list

from mailbatch import config
from mailbatch.batch import appconfig
from mailbatch.batch.app import BatchApp
from mailbatch.bootstrap import read_settings
from mailbatch.domain.errors import SettingsError


def _configured() -> BatchApp:
    """Return the configured app; if settings are wrong, exit with code 2 and one line for each."""
    try:
        read_settings()
        settings = appconfig.load()
    except SettingsError as error:
        # Celery's command line shows a traceback for anything but a SystemExit.
        sys.stderr.write(f"{error}\n")
        sys.exit(2)
    celery = BatchApp("mailbatch")
    celery.config_from_object(settings)
    # Names, not imports: `celery call` and a web application need no worker.
    celery.steps["worker"].update(
        {
            "mailbatch.batch.worker:StartChecks",
            "mailbatch.batch.worker:BeatGuard",
            "mailbatch.batch.stop.worker:StopBoard",
            "mailbatch.batch.heartbeat:WorkerHeartbeat",
            "mailbatch.batch.monitor:MonitorStep",
            "mailbatch.batch.urgent:UrgentStep",
        }
    )
    return celery


def _log_in_one_form(loglevel: int | None = None, logfile: str | None = None, **_: Any) -> None:
    """Give Celery's own lines the form of ours. ``--loglevel`` overrides LOG_LEVEL, except WARNING, its default."""
    from mailbatch.infrastructure.system.logs import configure

    settings = config.load()
    level = settings.log_level if loglevel in {None, logging.WARNING} else loglevel
    configure(
        json=settings.log_format is config.LogFormat.JSON,
        level=level or settings.log_level,
        logfile=logfile,
        addresses=settings.log_addresses,
    )


signals.setup_logging.connect(_log_in_one_form)


def _refuse_unknown_queues(instance: Any, options: dict[str, Any], **_: Any) -> None:
    """Exit with one line if ``-Q`` or ``-X`` of a worker names an unknown queue; Celery would show a traceback."""
    known = instance.app.amqp.queues
    for option in ("queues", "exclude_queues"):
        for name in str_to_list(options.get(option)) or ():
            if name not in known:
                sys.stderr.write(
                    f"-{'Q' if option == 'queues' else 'X'} {name}: there is no such queue, only {', '.join(known)}; "
                    "name it in task_queues in celeryconfig.py\n"
                )
                sys.exit(2)


signals.celeryd_init.connect(_refuse_unknown_queues)


app = _configured()
