"""Looks after ``send-all`` from worker, beat and ``serve``: a run that died or never began cannot tell so itself."""

from __future__ import annotations

import logging
import math
import threading
import time
from typing import TYPE_CHECKING, Any

from celery import bootsteps

from mailbatch.bootstrap import Parts, read_settings
from mailbatch.domain.errors import MailbatchError
from mailbatch.domain.finding import Level
from mailbatch.domain.redaction.addresses import public

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mailbatch.domain.finding import Finding

log = logging.getLogger(__name__)

JOB = "send-all"
EVERY = 30.0
"""Seconds between two looks."""
AGAIN = 3600.0
"""Seconds after which a finding that is still there is logged once more."""


class Watchman:
    """Looks every half minute, and logs each finding once an hour, when it becomes an error, and when it ends.

    ``tell`` is called with what each look has found.
    """

    def __init__(
        self,
        look: Callable[[], Sequence[Finding]],
        clock: Callable[[], float] = time.monotonic,
        every: float = EVERY,
        tell: Callable[[Sequence[Finding]], None] = lambda _found: None,
    ) -> None:
        self._look = look
        self._tell = tell
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
            findings = self._look()
        except MailbatchError as error:
            log.debug("the watch could not look: %s", error)
            return
        self._tell(findings)
        found = {finding.name: finding for finding in findings}
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


class Teller:
    """Tells incidents where people want to be told, in a thread of its own: a relay that hangs holds up no look.

    While one is being told, what other looks find waits for the next look.
    """

    def __init__(self, parts: Callable[[], Parts] = lambda: Parts(read_settings())) -> None:
        self._parts = parts
        self._thread: threading.Thread | None = None
        self._failing = False

    def __call__(self, findings: Sequence[Finding]) -> None:
        """Tell those of ``findings`` that nobody was told of; returns at once."""
        parts = self._parts()
        wanted = parts.settings.webhook_url or parts.settings.report_to
        if wanted and not (self._thread and self._thread.is_alive()):
            self._thread = threading.Thread(target=self._work, args=(parts, findings), name="teller", daemon=True)
            self._thread.start()

    def wait(self, seconds: float) -> None:
        """Wait for so long at most until all is told."""
        if self._thread is not None:
            self._thread.join(seconds)

    def _work(self, parts: Parts, findings: Sequence[Finding]) -> None:
        # Its connections end with it, for processes are forked here.
        try:
            parts.notifying.tell_incidents(findings)
            self._failing = False
        except MailbatchError as error:
            if not self._failing:
                log.warning("incidents cannot be told: %s", error)
            self._failing = True
        except Exception:
            log.exception("incidents cannot be told")
        finally:
            parts.close()


def look_once() -> list[Finding]:
    """What is wrong now; runs that died are closed. Its connections end with it, for processes are forked here."""
    parts = Parts(read_settings())
    try:
        return parts.operating.watch(JOB)(JOB, close=True)
    finally:
        parts.close()


class WorkerWatch(bootsteps.StartStopStep):  # type: ignore[misc]
    """The watchman of a worker."""

    def __init__(self, worker: Any, **options: Any) -> None:
        super().__init__(worker, **options)
        self._watchman = Watchman(look_once, tell=Teller())

    def start(self, _worker: Any) -> None:
        """Begin to look."""
        self._watchman.begin()

    def stop(self, _worker: Any) -> None:
        """Look no more."""
        self._watchman.end()


def watch_in_beat(**_: Any) -> None:
    """Begin to look in a beat that stands alone: its workers may all be dead."""
    Watchman(look_once, tell=Teller()).begin()
