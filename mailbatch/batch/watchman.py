"""Looks after ``send-all`` from worker and beat, for a run that died or never began cannot tell so itself."""

from __future__ import annotations

import logging
import math
import threading
import time
from typing import TYPE_CHECKING, Any

from celery import bootsteps

from mailbatch.application.watch import Level
from mailbatch.bootstrap import Parts, read_settings
from mailbatch.domain.errors import MailbatchError
from mailbatch.domain.run import public

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mailbatch.application.watch import Finding

log = logging.getLogger(__name__)

JOB = "send-all"
EVERY = 30.0
"""Seconds between two looks."""
AGAIN = 3600.0
"""Seconds after which a finding that is still there is logged once more."""


class Watchman:
    """Looks every half minute, and logs each finding once an hour, when it becomes an error, and when it ends."""

    def __init__(
        self, look: Callable[[], Sequence[Finding]], clock: Callable[[], float] = time.monotonic, every: float = EVERY
    ) -> None:
        self._look = look
        self._clock = clock
        self._every = every
        self._over = threading.Event()
        self._told: dict[str, tuple[float, Level]] = {}

    def begin(self) -> None:
        """Look from now on, in a thread of its own."""
        threading.Thread(target=self._keep, name="watchman", daemon=True).start()

    def end(self) -> None:
        """Look no more."""
        self._over.set()

    def look(self) -> None:
        """Look once. A database that cannot be asked is told of by others, who need it more."""
        try:
            found = {finding.name: finding for finding in self._look()}
        except MailbatchError as error:
            log.debug("the watch could not look: %s", error)
            return
        for name in [name for name in self._told if name not in found]:
            del self._told[name]
            log.info("watch: %s is over", name)
        for name, finding in found.items():
            if self._is_news(finding):
                self._told[name] = self._clock(), finding.level
                level = logging.ERROR if finding.level is Level.ERROR else logging.WARNING
                log.log(level, "watch: %s; %s", public(finding.what), finding.advice, extra={"finding": name})

    def _is_news(self, finding: Finding) -> bool:
        when, level = self._told.get(finding.name, (-math.inf, finding.level))
        worse = finding.level is Level.ERROR and level is not Level.ERROR
        return worse or self._clock() - when >= AGAIN

    def _keep(self) -> None:
        while not self._over.wait(self._every):
            try:
                self.look()
            except Exception:
                # Whatever it is: who watches must not be the first to fall.
                log.exception("the watch could not look")


def look_once() -> list[Finding]:
    """What is wrong now; runs that died are closed. Its connections end with it, for processes are forked here."""
    parts = Parts(read_settings())
    try:
        return parts.watch(JOB)(JOB, close=True)
    finally:
        parts.close()


class WorkerWatch(bootsteps.StartStopStep):  # type: ignore[misc]
    """The watchman of a worker."""

    def __init__(self, worker: Any, **options: Any) -> None:
        super().__init__(worker, **options)
        self._watchman = Watchman(look_once)

    def start(self, _worker: Any) -> None:
        """Begin to look."""
        self._watchman.begin()

    def stop(self, _worker: Any) -> None:
        """Look no more."""
        self._watchman.end()


def watch_in_beat(**_: Any) -> None:
    """Begin to look in a beat that stands alone: its workers may all be dead."""
    Watchman(look_once).begin()
