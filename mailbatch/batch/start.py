"""The checks and log lines of a worker or beat at its start."""

from __future__ import annotations

import logging
import sys
import threading
from contextlib import closing
from typing import TYPE_CHECKING, Any

from mailbatch import config
from mailbatch.batch.appconfig import other_prefix
from mailbatch.bootstrap.connections import Connections
from mailbatch.domain.errors import NotMigrated, StoreError
from mailbatch.infrastructure.db.engine import connect
from mailbatch.infrastructure.db.location import place

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

log = logging.getLogger(__name__)

FIRST_WAIT = 1.0
LONGEST_WAIT = 30.0


def back_off(longest: float = LONGEST_WAIT) -> Iterator[float]:
    """Seconds to wait before each new try: 1, 2, 4 … ``longest``."""
    wait = FIRST_WAIT
    while True:
        yield min(wait, longest)
        wait = min(wait * 2, longest)


def announce(settings: config.Settings, celery: Mapping[str, Any]) -> None:
    """Log where the database is, unknown settings, and a key prefix in Celery's settings that differs from ours.

    Ends the process if the database's driver is missing.
    """
    try:
        engine = connect(settings.database_url, settings.database_schema)
    except StoreError as error:
        # A driver is missing, so waiting does not help.
        log.critical("%s", error)
        sys.exit(1)
    log.info("database: %s", place(engine))
    engine.dispose()
    for line in config.unknown_variables():
        log.warning("%s", line)
    if other := other_prefix(celery):
        log.warning("celeryconfig.py: %s", other)


def check_database(settings: config.Settings) -> bool:
    """Return whether the database is available and suits this version; log one line if it is unavailable.

    Ends the process with exit code 1 and one line if waiting does not help: the tables are of another version, the
    encoding is not UTF-8, or the database refuses this role.
    """
    try:
        _check(settings)
    except NotMigrated as error:
        log.critical("%s", error)
        sys.exit(1)
    except StoreError as error:
        if not error.transient:
            log.critical("%s", error)
            sys.exit(1)
        log.error("%s; trying again, runs fail until it answers", error)  # noqa: TRY400 - one line says it all
        return False
    return True


def watch_until_reachable(settings: config.Settings) -> None:
    """Check the database again and again in a thread, until it is available and migrated."""
    threading.Thread(target=_watch, args=(settings,), name="database-watch", daemon=True).start()


def _watch(settings: config.Settings) -> None:
    waiting = threading.Event()
    for wait in back_off():
        waiting.wait(wait)
        try:
            _check(settings)
        except (NotMigrated, StoreError) as error:
            log.error("%s; trying again", error)  # noqa: TRY400
        else:
            log.info("the database answers")
            return


def _check(settings: config.Settings) -> None:
    with closing(Connections(settings)) as connections:
        connections.ensure_migrated()
