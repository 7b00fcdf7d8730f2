"""What a lane puts in order before it claims: orphans, opened gates, expired mails, leases that have ended."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mailbatch.domain.errors import StoreError
from mailbatch.domain.lifecycle import NO_VERDICT, quarantine_reason
from mailbatch.domain.run import Counts, ItemError

if TYPE_CHECKING:
    from mailbatch.application.ports.runs import Run
    from mailbatch.application.ports.sending import Backlog
    from mailbatch.application.sending.gates.gates import Gates
    from mailbatch.application.sending.in_flight import InFlight
    from mailbatch.domain.claimed import DoubtsResolved
    from mailbatch.domain.lifecycle import OnDoubt
    from mailbatch.domain.retry import RetryPolicy

log = logging.getLogger(__name__)


@dataclass(slots=True, kw_only=True)
class Housekeeping:
    """Puts the backlog in order for one lane. ``page_size``: how many mails a statement touches at most.

    ``may_have_orphans``: a claim failed, but the database may have committed it all the same.
    """

    backlog: Backlog
    run: Run
    lane: int
    in_flight: InFlight
    retry: RetryPolicy
    on_doubt: OnDoubt
    page_size: int
    gates: Gates | None
    may_have_orphans: bool = field(default=False, init=False)

    def before_the_head(self) -> None:
        """Put everything in order before the lane claims at the head of the backlog.

        Lane 0 alone does what concerns all lanes.
        """
        self.release_orphans()
        if not self.lane:
            self._reopen()
            self._expire()
            self._resolve_ended_leases()

    def release_orphans(self) -> None:
        """Release claims that the database committed although the lane never got their answer.

        Without this the lane would renew their lease for ever. It is repeated at each return to the head: a commit may
        be under way for as long as its connection takes to die.
        """
        if not self.may_have_orphans:
            return
        try:
            count = self.backlog.release_orphans(self.run.id, self.lane, self.in_flight.mails.keys())
        except StoreError as error:
            log.warning("orphaned claims cannot be looked for now: %s", error)
            return
        if count:
            log.warning("%d orphaned claims are released: they were committed, but no answer came", count)

    def _reopen(self) -> None:
        """Make mails due again whose gate was opened. Who opened it may not have come to the end."""
        while self.gates is not None and self.gates.reopen(self.page_size) >= self.page_size:
            pass

    def _expire(self) -> None:
        while expired := self.backlog.expire(self.page_size):
            self.run.count(Counts(expired=expired))
            if expired < self.page_size:
                return

    def _resolve_ended_leases(self) -> None:
        while True:
            resolved = self.backlog.resolve_doubts(self.run.id, self.on_doubt, self.page_size)
            self._report(resolved)
            count = resolved.released + resolved.resent + resolved.held + len(resolved.quarantined)
            if count:
                log.warning(
                    "leases of senders that died were resolved: %d had nothing on the wire, %d in doubt are sent "
                    "again, %d in doubt are held, %d have failed because they killed each sender",
                    resolved.released,
                    resolved.resent,
                    resolved.held,
                    len(resolved.quarantined),
                )
            if count < self.page_size:
                return

    def _report(self, resolved: DoubtsResolved) -> None:
        self.run.count(Counts(failed=len(resolved.quarantined), in_doubt=resolved.resent + resolved.held))
        for index, reservation_id in resolved.doubtful:
            self.run.item_error(ItemError(index, reservation_id, (NO_VERDICT,)))
        for index, reservation_id in resolved.quarantined:
            self.run.item_error(ItemError(index, reservation_id, (quarantine_reason(self.retry.deaths),)))
