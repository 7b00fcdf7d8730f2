"""Pause a job, and resume it. A pause survives restarts; pausing or resuming twice changes nothing more."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mailbatch.domain.run import Pause

if TYPE_CHECKING:
    from mailbatch.application.acting.audit import Audit
    from mailbatch.application.ports.runs import PauseStore


@dataclass(frozen=True, slots=True)
class PauseJob:
    """Pauses the ticks of a job, or everything that it does, or ends its pause. Each call is recorded."""

    pause_store: PauseStore
    audit: Audit

    def __call__(self, actor: str, job: str, pause: Pause) -> None:
        """Set the pause of ``job``; ``Pause.NONE`` resumes it. Raises ``StoreError``."""
        named = ("resume", {"job": job}) if pause is Pause.NONE else ("pause", {"job": job, "what": pause.value})
        with self.audit.around(actor, *named):
            self.pause_store.set(job, pause)
