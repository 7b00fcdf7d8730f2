"""The parts of one process, and the one set of them that a worker process keeps."""

from __future__ import annotations

import os
from functools import cached_property

from mailbatch.bootstrap.acting import Acting
from mailbatch.bootstrap.connections import Connections
from mailbatch.bootstrap.notifying import Notifying
from mailbatch.bootstrap.operating import Operating
from mailbatch.bootstrap.reserving import Reserving
from mailbatch.bootstrap.sending import Sending
from mailbatch.bootstrap.settings import read_settings


class Parts(Connections):
    """All parts of one process: its connections and stores, and what is built over them.

    Give a function the part that it uses, not this whole.
    """

    @cached_property
    def sending(self) -> Sending:
        """The parts that send mails."""
        return Sending(self)

    @cached_property
    def notifying(self) -> Notifying:
        """The parts that report runs and incidents to people."""
        return Notifying(self, self.sending)

    @property
    def acting(self) -> Acting:
        """The use cases that change reservations, jobs and runs for an operator."""
        return Acting(self)

    @cached_property
    def operating(self) -> Operating:
        """The use cases with which people look."""
        return Operating(self, self.sending)

    @cached_property
    def reserving(self) -> Reserving:
        """The use cases that store new reservations."""
        return Reserving(self, self.sending, lambda: self.operating.subprocess_renderer)

    def close(self) -> None:
        """Close what was opened."""
        if "operating" in self.__dict__:
            self.operating.close()
        super().close()


_of_process: tuple[int, Parts] | None = None


def process_parts() -> Parts:
    """Return the parts of this process. A forked process gets new ones, because connections do not survive a fork."""
    global _of_process  # noqa: PLW0603 - a process has one set of connections, and Celery gives a task no place for it
    if _of_process is None or _of_process[0] != os.getpid():
        _of_process = (os.getpid(), Parts(read_settings()))
    return _of_process[1]
