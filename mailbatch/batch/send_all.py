"""``send-all``: the batch that sends what is due."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mailbatch.batch.job import Job, make_job

if TYPE_CHECKING:
    from mailbatch.application.ports import Run
    from mailbatch.application.send_due import SendDue
    from mailbatch.bootstrap import Parts

NAME = "send-all"


class SendMailBatch:
    """The work of a run of ``send-all``: this process is its lane 0."""

    def __init__(self, send_due: SendDue) -> None:
        self._send_due = send_due

    def __call__(self, run: Run) -> None:
        """Send what is due; see ``SendDue``."""
        self._send_due(run, lane=0)


def send_all(parts: Parts, *, lock: bool = True) -> Job:
    """The job ``send-all``. Without ``lock`` it needs no Redis; the claims of the rows keep it correct."""
    return make_job(
        parts,
        NAME,
        SendMailBatch(parts.send_due),
        lock=lock,
        remaining=parts.backlog.remaining,
        timeout=parts.settings.run_timeout,
        bound=parts.bound,
    )
