"""Watch a job from outside of its runs: find what went wrong although no run is left to report it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from mailbatch.application.looking.findings import find
from mailbatch.application.looking.job_snapshot import JobSnapshot
from mailbatch.domain.circuit import CircuitState
from mailbatch.domain.errors import LockUnavailable
from mailbatch.domain.health import unanswered

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mailbatch.application.ports.reports import HealthQuery
    from mailbatch.application.ports.runs import LockObserver, PauseStore, Runs
    from mailbatch.application.ports.sending import Circuits
    from mailbatch.domain.circuit import Circuit
    from mailbatch.domain.finding import Finding
    from mailbatch.domain.health import Patience
    from mailbatch.domain.lock import Holder


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """Look at a job, and find what is wrong with it. The caller is not the job's run, and may outlive it.

    ``lock_observer``: None if nobody takes a lock. ``remaining`` counts the mails that a run which died has not sent.
    ``sends``: the job sends mail. For another job the backlog and the relay do not matter.
    """

    health_query: HealthQuery
    runs: Runs
    pause_store: PauseStore
    lock_observer: LockObserver | None
    circuits: Circuits
    relay: str
    patience: Callable[[], Patience]
    remaining: Callable[[], int] = lambda: 0
    sends: bool = True
    other_relays: Sequence[str] = ()

    def __call__(self, job: str, *, close: bool = False) -> Sequence[Finding]:
        """Return what is wrong with ``job``, the worst first; see ``look``."""
        return self.look(job, close=close).findings

    def unanswered(self, job: str) -> float | None:
        """Return the seconds for which the relay has answered no mail of ``job``. Raises ``StoreError``."""
        return unanswered(self.health_query.health(job, 0.0), self.patience())

    def look(self, job: str, *, close: bool = False, lock: bool = True) -> JobSnapshot:
        """Return what goes on with ``job``.

        ``close``: close runs that died, as failed. ``lock``: ask Redis who holds the lock. If Redis does not answer,
        that is a finding, and there is none about the lock.

        Raises:
            StoreError: if the database does not answer.
        """
        patience = self.patience()
        # Before the database is asked, because a run takes the lock first and then writes its row.
        holder, redis_error = self._holder() if lock else (None, None)
        health = self.health_query.health(job, ended_for=2 * patience.lease)
        dead_for_sure = patience.dead_after + patience.lock_ttl
        if close and health.silent is not None and health.silent > dead_for_sure:
            # Not earlier: the database may have been away. After this time the lock of the run is gone as well.
            self.runs.close_dead(job, dead_for_sure, self.remaining)
        circuit, *others = self._circuits()
        snapshot = JobSnapshot(
            job=job,
            health=health,
            patience=patience,
            pause=self.pause_store.paused(job),
            circuit=circuit,
            other_circuits=others,
            holder=holder,
            redis_error=redis_error,
            lock_key=self.lock_observer.key if self.lock_observer is not None else "",
            sends=self.sends,
        )
        return replace(snapshot, findings=find(snapshot))

    def _circuits(self) -> list[Circuit]:
        """Return the circuits of all relays; those that are not closed first."""
        found = [self.circuits.look(name) for name in (self.relay, *self.other_relays)]
        return sorted(found, key=lambda circuit: circuit.state is CircuitState.CLOSED)

    def _holder(self) -> tuple[Holder | None, str | None]:
        """Return who holds the lock; or why Redis did not answer."""
        try:
            return (self.lock_observer.holder() if self.lock_observer is not None else None), None
        except LockUnavailable as error:
            return None, str(error)
