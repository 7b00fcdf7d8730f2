"""What a lane puts in order before it claims: orphans, expired mails, leases that have ended."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from mailbatch.domain.errors import StoreError
from mailbatch.domain.lifecycle import NO_VERDICT, quarantine_reason
from mailbatch.domain.run import Counts, ItemError

if TYPE_CHECKING:
    from mailbatch.application.ports.runs import Run
    from mailbatch.application.ports.sending import Backlog
    from mailbatch.application.sending.in_flight import InFlight
    from mailbatch.domain.claimed import DoubtsResolved
    from mailbatch.domain.lifecycle import OnDoubt
    from mailbatch.domain.retry import RetryPolicy

log = logging.getLogger(__name__)


class Housekeeping:
    """Puts the backlog in order for one lane. ``page_size``: how many mails a statement touches at most."""

    def __init__(
        self,
        backlog: Backlog,
        run: Run,
        lane: int,
        in_flight: InFlight,
        *,
        retry: RetryPolicy,
        on_doubt: OnDoubt,
        page_size: int,
    ) -> None:
        self.may_have_orphans = False
        """A claim failed. The database may have committed it all the same."""
        self._backlog = backlog
        self._run = run
        self._lane = lane
        self._in_flight = in_flight
        self._retry = retry
        self._on_doubt = on_doubt
        self._page_size = page_size

    def before_the_head(self) -> None:
        """Put everything in order before the lane claims at the head of the backlog.

        Lane 0 alone does what concerns all lanes.
        """
        self.release_orphans()
        if not self._lane:
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
            count = self._backlog.release_orphans(self._run.id, self._lane, self._in_flight.mails.keys())
        except StoreError as error:
            log.warning("orphaned claims cannot be looked for now: %s", error)
            return
        if count:
            log.warning("%d orphaned claims are released: they were committed, but no answer came", count)

    def _expire(self) -> None:
        while expired := self._backlog.expire(self._page_size):
            self._run.count(Counts(expired=expired))
            if expired < self._page_size:
                return

    def _resolve_ended_leases(self) -> None:
        while True:
            resolved = self._backlog.resolve_doubts(self._run.id, self._on_doubt, self._page_size)
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
            if count < self._page_size:
                return

    def _report(self, resolved: DoubtsResolved) -> None:
        self._run.count(Counts(failed=len(resolved.quarantined), in_doubt=resolved.resent + resolved.held))
        for index, reservation_id in resolved.doubtful:
            self._run.item_error(ItemError(index, reservation_id, (NO_VERDICT,)))
        for index, reservation_id in resolved.quarantined:
            self._run.item_error(ItemError(index, reservation_id, (quarantine_reason(self._retry.deaths),)))
