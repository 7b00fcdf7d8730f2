"""Monitors ``send-all`` from worker, beat and ``serve``: a run that died or never began cannot report that itself."""

from __future__ import annotations

import logging
import math
import threading
import time
from typing import TYPE_CHECKING, Any

from celery import bootsteps

from mailbatch.bootstrap import Parts, read_settings
from mailbatch.bootstrap.settings import channel_names
from mailbatch.domain.errors import MailbatchError
from mailbatch.domain.finding import Level
from mailbatch.domain.job_name import SEND_ALL
from mailbatch.domain.redaction.addresses import public

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mailbatch.domain.finding import Finding

log = logging.getLogger(__name__)

EVERY = 30.0
"""Seconds between two checks."""
AGAIN = 3600.0
"""Seconds after which a finding that is still there is logged once more."""


class JobMonitor:
    """Checks a job every half minute. Logs a finding once an hour, when it becomes an error, and when it is over.

    ``notify`` gets the findings of each check.
    """

    def __init__(
        self,
        check: Callable[[], Sequence[Finding]],
        clock: Callable[[], float] = time.monotonic,
        every: float = EVERY,
        notify: Callable[[Sequence[Finding]], None] = lambda _findings: None,
    ) -> None:
        self._check = check
        self._notify = notify
        self._clock = clock
        self._every = every
        self._stopped = threading.Event()
        self._logged: dict[str, tuple[float, Level]] = {}

    def start(self) -> None:
        """Check from now on, in a thread of its own."""
        threading.Thread(target=self._repeat, name="job-monitor", daemon=True).start()

    def stop(self) -> None:
        """Check no more."""
        self._stopped.set()

    def check(self) -> None:
        """Check once. If the database is unavailable, nothing is found: other parts report that."""
        try:
            findings = self._check()
        except MailbatchError as error:
            log.debug("the monitor could not check: %s", error)
            return
        self._notify(findings)
        found = {finding.name: finding for finding in findings}
        for name in [name for name in self._logged if name not in found]:
            del self._logged[name]
            log.info("watch: %s is over", name)
        for name, finding in found.items():
            if self._is_news(finding):
                self._logged[name] = self._clock(), finding.level
                level = logging.ERROR if finding.level is Level.ERROR else logging.WARNING
                log.log(level, "watch: %s; %s", public(finding.what), finding.advice, extra={"finding": name})

    def _is_news(self, finding: Finding) -> bool:
        when, level = self._logged.get(finding.name, (-math.inf, finding.level))
        worse = finding.level is Level.ERROR and level is not Level.ERROR
        return worse or self._clock() - when >= AGAIN

    def _repeat(self) -> None:
        while not self._stopped.wait(self._every):
            try:
                self.check()
            except Exception:
                # Whatever it is, the monitor goes on.
                log.exception("the monitor could not check")


class IncidentNotifier:
    """Notifies of incidents by the configured channels, in a thread, so that a slow channel delays no check.

    While a notification is sent, new findings wait for the next check.
    """

    def __init__(self, parts: Callable[[], Parts] = lambda: Parts(read_settings())) -> None:
        self._parts = parts
        self._thread: threading.Thread | None = None
        self._failing = False

    def __call__(self, findings: Sequence[Finding]) -> None:
        """Notify of the new ones among ``findings``; returns at once."""
        parts = self._parts()
        if channel_names(parts.settings) and not (self._thread and self._thread.is_alive()):
            self._thread = threading.Thread(
                target=self._work, args=(parts, findings), name="incident-notifier", daemon=True
            )
            self._thread.start()

    def wait(self, seconds: float) -> None:
        """Wait until the notification is sent, at most ``seconds``."""
        if self._thread is not None:
            self._thread.join(seconds)

    def _work(self, parts: Parts, findings: Sequence[Finding]) -> None:
        # The parts are closed at the end, because this process is forked and a child must not inherit connections.
        try:
            parts.notifying.notify_of_incidents(findings)
            self._failing = False
        except MailbatchError as error:
            if not self._failing:
                log.warning("no notification of incidents can be sent: %s", error)
            self._failing = True
        except Exception:
            log.exception("no notification of incidents can be sent")
        finally:
            parts.close()


def check_once() -> Sequence[Finding]:
    """Return what is wrong now, and close runs that died. Leaves no connection open, because processes fork here."""
    parts = Parts(read_settings())
    try:
        return parts.operating.watch(SEND_ALL)(SEND_ALL, close=True)
    finally:
        parts.close()


class MonitorStep(bootsteps.StartStopStep):  # type: ignore[misc]
    """Runs a monitor in the worker's main process."""

    def __init__(self, worker: Any, **options: Any) -> None:
        super().__init__(worker, **options)
        self._monitor = JobMonitor(check_once, notify=IncidentNotifier())

    def start(self, _worker: Any) -> None:
        """Start the monitor."""
        self._monitor.start()

    def stop(self, _worker: Any) -> None:
        """Stop the monitor."""
        self._monitor.stop()


def monitor_in_beat(**_: Any) -> None:
    """Start a monitor in a beat that has a process of its own: all workers may be dead."""
    JobMonitor(check_once, notify=IncidentNotifier()).start()
