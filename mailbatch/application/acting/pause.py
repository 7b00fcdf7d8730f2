"""Suspend a job, and let it go on. Both survive restarts, and saying it twice does no harm."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mailbatch.domain.run import Pause

if TYPE_CHECKING:
    from mailbatch.application.ports.runs import PauseStore


@dataclass(frozen=True, slots=True)
class PauseJob:
    """Suspend the ticks of a job, or everything that it does."""

    pause_store: PauseStore

    def __call__(self, job: str, *, everything: bool = False) -> Pause:
        """Suspend ``job``: its ticks, or with ``everything`` also the run in progress and calls by hand."""
        pause = Pause.ALL if everything else Pause.TICKS
        self.pause_store.set(job, pause)
        return pause


@dataclass(frozen=True, slots=True)
class ResumeJob:
    """Let a job go on."""

    pause_store: PauseStore

    def __call__(self, job: str) -> Pause:
        """End any pause of ``job``."""
        self.pause_store.set(job, Pause.NONE)
        return Pause.NONE
