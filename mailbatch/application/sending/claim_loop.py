"""The first step of sending: claims groups of due mails."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, replace
from enum import Enum, auto
from typing import TYPE_CHECKING

from mailbatch.application.ports.sending import Nap
from mailbatch.domain.claimed import Page, Without
from mailbatch.domain.errors import StoreError
from mailbatch.domain.settlement import released

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator
    from uuid import UUID

    from mailbatch.application.ports.sending import Backlog
    from mailbatch.application.ports.system import Clock
    from mailbatch.application.sending.crash_bound import CrashBound
    from mailbatch.application.sending.housekeeping import Housekeeping
    from mailbatch.application.sending.in_flight import InFlight
    from mailbatch.application.sending.in_flight_limit import InFlightLimit, Urgency
    from mailbatch.application.sending.lane_lease import LaneLease
    from mailbatch.application.sending.lane_stop import LaneStop
    from mailbatch.application.sending.put_off_mails import PutOffMails
    from mailbatch.application.sending.relay_health.health import RelayHealth
    from mailbatch.application.sending.relay_health.judge import Judge
    from mailbatch.application.sending.relay_health.throttling import Throttling
    from mailbatch.application.sending.routing.judges import Judges
    from mailbatch.domain.claimed import Cursor

log = logging.getLogger(__name__)

HEAD_EVERY = 5.0
"""Seconds after which the cursor returns to the head of the backlog, where mail may have come in."""
URGENT_EVERY = 0.5
"""Seconds after which the lane asks whether urgent mail is due; if so, the cursor returns to the head at once."""
LOOK_AGAIN = 0.02
"""Seconds after which a lane that holds enough mails looks whether it may claim more."""
MAX_PROBE_CANDIDATES = 16
"""At most this many mails are claimed at once, to find one that was not the probe before."""


class Mode(Enum):
    """What one pass through the backlog claims."""

    NORMAL = auto()
    """Everything that is due, in groups."""
    PROBE = auto()
    """One mail, to find out whether a relay that failed takes mail again."""
    ISOLATED = auto()
    """One mail whose sending processes died. Nothing else is on the wire, so if this one dies too, no other mail is
    in doubt."""


@dataclass(slots=True, kw_only=True)
class ClaimLoop:
    """Claims for one lane. ``group_size``: how many mails a claim takes at most, unless the transport can take more.

    ``capacity`` returns how many mails the transport can have in flight, if that changes. A claim then takes as many,
    up to ``page_size``, after ``bound`` covers them. No ``bound``: a claim alone leaves no mail in doubt.

    A claim behind the cursor also writes the settlements that are decided by then, in the same transaction: one commit
    for each group. A claim at the head of the backlog writes them in a transaction of their own before it. An isolated
    claim writes none.

    ``has_isolated``: mails may be due that only ``Mode.ISOLATED`` claims. ``has_overslept``: the pass ended because the
    lease had ended; the next pass begins with a new lease.

    ``urgent``: which mail goes before all that is claimed later; None if none does. ``limit``: how many mails the lane
    holds then.
    """

    backlog: Backlog
    clock: Clock
    run_id: UUID
    lane: int
    group_size: int
    page_size: int
    capacity: Callable[[], int]
    bound: CrashBound | None
    stop: LaneStop
    in_flight: InFlight
    lease: LaneLease
    housekeeping: Housekeeping
    health: RelayHealth
    throttling: Throttling
    judge: Judge | Judges
    put_off: PutOffMails
    urgent: Urgency | None = None
    limit: InFlightLimit | None = None
    has_isolated: bool = field(default=False, init=False)
    has_overslept: bool = field(default=False, init=False)
    _asked_at: float = field(default=0.0, init=False)
    _claimed: int = field(default=0, init=False)

    def groups(self, mode: Mode) -> Iterator[Page | Nap]:
        """Yield claimed groups until the pass is over, and naps to keep the rate that the relay accepts.

        Raises:
            StoreError: the database fails.
            RunFailed: decided settlements cannot be written.
        """
        self.has_overslept = False
        match mode:
            case Mode.NORMAL:
                return self._normal()
            case Mode.PROBE:
                return self._probe()
            case Mode.ISOLATED:
                return self._isolated()

    def _normal(self) -> Iterator[Page | Nap]:
        """Claim behind a cursor. It returns to the head every ``HEAD_EVERY`` seconds, and once more at the end."""
        cursor: Cursor | None = None
        pace, clock = self.throttling.pace, self.clock
        cuts, at_head = 0, clock.monotonic()
        while not self.stop.is_set() and not self._oversleeps():
            if pace.limited:
                yield from self.throttling.naps()
            if (most := self._most()) == 0:
                yield Nap(LOOK_AGAIN)
                continue
            if cursor is not None and self._is_urgent_due(cursor):
                cursor = None
            if clock.monotonic() - at_head > HEAD_EVERY or cuts != pace.cuts:
                cursor = None
            cuts = pace.cuts
            if from_head := cursor is None:
                at_head = clock.monotonic()
                self.in_flight.flush()
                self.housekeeping.before_the_head()
            page = self._claim(cursor, most)
            if page.claimed:
                yield page
            elif from_head:
                self.has_isolated = page.has_isolated
                if not (yield from self._finds_urgent_meanwhile()):
                    return
            cursor = page.cursor

    def _finds_urgent_meanwhile(self) -> Generator[Nap, None, bool]:
        """Nap until the mails that the lane holds have their outcomes. Return True as soon as urgent mail is due."""
        while self.limit is not None and self._held() and not self.stop.is_set() and not self.lease.has_ended():
            yield Nap(LOOK_AGAIN)
            if self._is_urgent_due():
                return True
        return False

    def _probe(self) -> Iterator[Page]:
        """Claim one mail at a time, until one of them could be composed and went to the transport."""
        while not self.stop.is_set() and not self.health.handed_to:
            page = self._choose_probe()
            yield page
            if not page.claimed:
                return

    def _isolated(self) -> Iterator[Page]:
        page = self._hold(lambda: self.backlog.claim_isolated(self.run_id, self.lane))
        self.has_isolated = bool(page.claimed)
        yield page

    def _choose_probe(self) -> Page:
        """Claim a mail that was never the probe, or else the one that was the probe least often. Release the others."""
        suspects = self.health.suspects
        claimed = self._claim(None, min(len(suspects) + 1, MAX_PROBE_CANDIDATES)).claimed
        if not claimed:
            return Page((), None)
        probe = min(claimed, key=lambda one: suspects.get(one.claim.reservation_id, -1))
        for one in claimed:
            if one is not probe:
                self.in_flight.decide(released(one.claim))
        self.in_flight.flush()
        return Page([probe], None)

    def _oversleeps(self) -> bool:
        """Return whether the pass must end because the lease has ended while mails are on the wire.

        A new claim does not prolong the lease while older claims are held (``LaneLease.begin``). So its mails could not
        be sent and would be released, again and again, until the mails on the wire have their outcomes. Instead the
        pass ends, and the next one begins with a new lease.
        """
        if not self.lease.has_ended():
            return False
        self.judge.end()
        self.in_flight.flush()
        self.has_overslept = bool(self.in_flight.mails)
        return self.has_overslept

    # --- urgent mail ---------------------------------------------------------------------------------------------

    def _is_urgent_due(self, cursor: Cursor | None = None) -> bool:
        """Return whether urgent mail is due that goes before what is behind ``cursor``. It asks every half second."""
        now = self.clock.monotonic()
        if self.urgent is None or now - self._asked_at < URGENT_EVERY:
            return False
        self._asked_at = now
        least = self.urgent.priority
        return self.backlog.has_urgent(least if cursor is None else max(least, cursor.priority + 1))

    def _most(self) -> int:
        """Return how many mails to claim now; 0 while the lane holds more than half of its limit."""
        group = self._group()
        if self.limit is None:
            return group
        held = self._held()
        most = self.limit.update(self._claimed - held, held, group, self.clock.monotonic())
        return 0 if 2 * held > most else min(group, most - held)

    def _held(self) -> int:
        """Return how many mails are claimed and have no outcome."""
        return len(self.in_flight.mails) - len(self.in_flight.decided) - self.judge.waiting

    # --- one claim -----------------------------------------------------------------------------------------------

    def _claim(self, cursor: Cursor | None, most: int) -> Page:
        """Claim up to ``most`` mails: fewer if the relay limits the rate, or if replies wait to be judged.

        A mail whose reply waits counts toward ``most``. So a crash leaves no more mails in doubt than the bound.
        """
        limit = self.throttling.pace.share(max(1, most - self.judge.waiting))
        if (group := self._group()) > self.group_size:
            self._cover(limit, 2 * group)
        without = self._without()
        return self._hold(
            lambda: (
                self._settle_and_claim(cursor, limit, *without)
                or self.backlog.claim(self.run_id, self.lane, cursor, limit, *without)
            )
        )

    def _without(self) -> tuple[Without, ...]:
        """Return what must not be claimed: groups that the relay refuses, and mails that this lane has put off."""
        groups, again = self.judge.without, self.put_off.due_again_for
        if again:
            return (replace(groups or Without(), returned_within=again),)
        return () if groups is None else (groups,)

    def _group(self) -> int:
        """Return how many mails to claim at most."""
        return max(self.group_size, min(self.capacity(), self.page_size))

    def _cover(self, limit: int, spare: int) -> None:
        """Let the run's bound cover ``limit`` more mails than those whose settlement is not decided."""
        if self.bound is not None:
            undecided = len(self.in_flight.mails) - len(self.in_flight.decided)
            self.bound.cover(undecided + limit, spare)

    def _settle_and_claim(self, cursor: Cursor | None, limit: int, *without: Without) -> Page | None:
        """Settle and claim in one transaction. Return None if nothing is to be settled, or this fails.

        If it fails, the settlements are written in a transaction of their own.
        """
        if not (decided := self.in_flight.decided):
            return None
        try:
            written, page = self.backlog.settle_and_claim(self.run_id, self.lane, decided, cursor, limit, *without)
        except StoreError as error:
            log.warning("settling and claiming in one transaction failed; settlements are written alone: %s", error)
            self.housekeeping.may_have_orphans = True
            self.in_flight.flush()
            self.housekeeping.release_orphans()
            return None
        self.in_flight.settled(written)
        return page

    def _hold(self, claim: Callable[[], Page]) -> Page:
        """Call ``claim``, begin the lease, and add the claimed mails to those in flight."""
        requested_at = self.clock.monotonic()
        try:
            page = claim()
        except StoreError:
            self.housekeeping.may_have_orphans = True
            raise
        self.lease.begin(requested_at, holds_more=bool(self.in_flight.mails))
        self.in_flight.add(page.claimed)
        self._claimed += len(page.claimed)
        return page
