"""Starts a run as soon as urgent mail is due: every worker asks the database once a second."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Any

from celery import bootsteps
from celery.result import denied_join_result

from mailbatch import config
from mailbatch.batch import fork_guard
from mailbatch.batch.producer import call_send_all, celery_app
from mailbatch.bootstrap import Parts, read_settings
from mailbatch.domain.redaction.addresses import public
from mailbatch.domain.redaction.lines import one_line
from mailbatch.domain.run import Trigger

if TYPE_CHECKING:
    from collections.abc import Callable
    from uuid import UUID

    from mailbatch.application.ports.runs import Lock
    from mailbatch.application.sending.urgent_mail import UrgentMail

log = logging.getLogger(__name__)

EVERY = 0.9
"""Seconds between two questions. A run begins within a second of the commit."""
CALL_EXPIRES = 30.0
"""Seconds after which a call that no worker took is dropped. Urgent mail that still waits then calls again."""


class UrgentCaller:
    """Calls a run if urgent mail waits and nothing holds it back.

    ``lock`` is held from a call until the mail is claimed, so that of all workers one calls, and calls once. If that
    worker dies, the lock ends by itself.
    """

    def __init__(self, mail: UrgentMail, lock: Lock, call: Callable[[], None]) -> None:
        self._mail = mail
        self._lock = lock
        self._call = call
        self._called_after: UUID | None = None

    def look(self) -> None:
        """Ask once, and call a run if one is needed. Raises what the database, Redis or the broker raise."""
        if not self._mail.waits():
            self._lock.release()
            return
        newest = self._mail.newest_run()
        last = newest.run_id if newest is not None else None
        if self._lock.held() and last == self._called_after:
            return  # no worker has taken the call yet
        if self._mail.may_start(newest) and (self._lock.held() or self._lock.acquire()):
            self._call()
            self._called_after = last
            log.info("urgent mail waits; a run is called")


class UrgentWatch:
    """Calls ``look`` again and again in a thread of its own. An outage is one log line, and one when it is over."""

    def __init__(self, look: Callable[[], None], every: float = EVERY) -> None:
        self._look = look
        self._every = every
        self._stopped = threading.Event()
        self._failing = False

    def start(self) -> None:
        """Look from now on."""
        threading.Thread(target=self._repeat, name="urgent-mail", daemon=True).start()

    def stop(self) -> None:
        """Look no more."""
        self._stopped.set()

    def look(self) -> None:
        """Look once. Nothing is raised."""
        try:
            self._look()
        except Exception as error:  # noqa: BLE001 - whatever it is: it is tried again a second later
            if not self._failing:
                log.warning("urgent mail starts no run for now: %s", public(one_line(str(error))))
            self._failing = True
        else:
            if self._failing:
                log.info("urgent mail starts runs again")
            self._failing = False

    def _repeat(self) -> None:
        while not self._stopped.wait(self._every):
            self.look()


class UrgentStep(bootsteps.StartStopStep):  # type: ignore[misc]
    """Watches for urgent mail in the worker's main process."""

    def __init__(self, worker: Any, **options: Any) -> None:
        super().__init__(worker, **options)
        self._watch = UrgentWatch(_Looking())

    def include_if(self, _worker: Any) -> bool:
        """Only if mail of some priority is urgent."""
        return config.load().urgent_from is not None

    def start(self, _worker: Any) -> None:
        """Start to watch."""
        self._watch.start()

    def stop(self, _worker: Any) -> None:
        """Watch no more."""
        self._watch.stop()

    close = stop


class _Looking:
    """One look of this process. The first look makes the parts that all looks use."""

    def __init__(self) -> None:
        self._parts: Parts | None = None
        self._caller: UrgentCaller | None = None

    def __call__(self) -> None:
        with fork_guard.no_fork():
            if self._parts is None or self._caller is None:
                self._parts = Parts(read_settings())
                self._caller = _caller(self._parts)
            try:
                self._caller.look()
            finally:
                self._parts.let_fork()


def _caller(parts: Parts) -> UrgentCaller:
    app = celery_app(parts.identity)

    def call() -> None:
        # Nobody reads the result; without this a subscription would stay behind.
        with denied_join_result():
            call_send_all(app, Trigger.URGENT, CALL_EXPIRES)

    return UrgentCaller(parts.sending.urgent_mail, parts.lock("send-all:urgent"), call)
