"""Makes the use cases that change reservations, jobs and runs for an operator, and what records them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mailbatch.application.acting.act import ActOnReservations
    from mailbatch.application.acting.audit import Audit
    from mailbatch.application.acting.block import BlockTag
    from mailbatch.application.acting.pause import PauseJob
    from mailbatch.application.acting.purge import Purge
    from mailbatch.application.acting.stop_run import StopRun
    from mailbatch.bootstrap.connections import Connections


class Acting:
    """The acts of operators, for one process."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    @property
    def audit(self) -> Audit:
        """Records what operators do."""
        from mailbatch.application.acting.audit import Audit

        return Audit(self._connections.stores.audit_log, self._connections.clock)

    @property
    def act(self) -> ActOnReservations:
        """Cancels, requeues, restores, resolves and deletes reservations."""
        from mailbatch.application.acting.act import ActOnReservations

        stores = self._connections.stores
        return ActOnReservations(
            reservations=stores.reservations,
            interventions=stores.interventions,
            reports=stores.reports,
            audit=self.audit,
        )

    @property
    def pause_job(self) -> PauseJob:
        """Pauses and resumes jobs."""
        from mailbatch.application.acting.pause import PauseJob

        return PauseJob(self._connections.stores.pauses, self.audit)

    @property
    def block_tag(self) -> BlockTag:
        """Blocks tags, and lifts blocks."""
        from mailbatch.application.acting.block import BlockTag

        return BlockTag(self._connections.stores.blocks, self.audit, self._connections.clock)

    @property
    def stop_run(self) -> StopRun:
        """Tells a run to stop."""
        from mailbatch.application.acting.stop_run import StopRun

        return StopRun(self._connections.stores.runs, self._connections.stores.reports, self.audit)

    @property
    def purge(self) -> Purge:
        """Deletes old finished reservations, the reports of old runs, and files that nobody needs."""
        from mailbatch.application.acting.purge import Purge

        stores = self._connections.stores
        return Purge(interventions=stores.interventions, files=stores.files)
