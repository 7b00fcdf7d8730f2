"""Deals claimed mails out to the relays of a lane, by the routes and by which relays take mails now."""

from __future__ import annotations

import math
from collections import defaultdict
from typing import TYPE_CHECKING

from mailbatch.application.ports.sending import Nap
from mailbatch.application.sending.message_stream import BYTE_BUDGET, within_budget
from mailbatch.domain.claimed import Page
from mailbatch.domain.routes import first_choices, route_of
from mailbatch.domain.settlement import in_line, released

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterator, Mapping, Sequence
    from uuid import UUID

    from mailbatch.application.ports.sending import Backlog
    from mailbatch.application.ports.system import Clock
    from mailbatch.application.sending.in_flight import InFlight
    from mailbatch.application.sending.in_flight_limit import Urgency
    from mailbatch.application.sending.lane_stop import LaneStop
    from mailbatch.application.sending.routing.routed_relay import RoutedRelay
    from mailbatch.domain.claimed import Claimed, ClaimedMail
    from mailbatch.domain.routes import Route
    from mailbatch.domain.traits import Traits

IDLE = 0.1
"""Seconds after which a stream without mails looks again."""
_LEAST_NAP = 0.02
_LOOK_EVERY = 0.5
"""Seconds between two looks at the head of the backlog while all that is left waits in line."""


class Dealer:
    """``relays`` by name. ``cover`` raises the run's bound so that it covers one more group.

    Mails that are ``urgent`` go before the others that wait for their relay.

    ``failed_at``: at which relays a mail met a fault in this run that was not its own.
    """

    def __init__(
        self,
        relays: Mapping[str, RoutedRelay],
        routes: Sequence[Route],
        read_traits: Callable[[ClaimedMail], Traits],
        backlog: Backlog,
        in_flight: InFlight,
        clock: Clock,
        stop: LaneStop,
        cover: Callable[[], None],
        urgent: Urgency | None = None,
    ) -> None:
        self.failed_at: defaultdict[UUID, set[str]] = defaultdict(set)
        self.has_ended = True
        """Whether nothing more is claimed in this pass."""
        self.must_look = False
        """Whether the pass has ended because the circuit of a relay is to be looked at."""
        self.waits: str | None = None
        """Why mails were put back, if no relay of their route takes mails: the reason of the last one."""
        self._relays = relays
        self._routes = routes
        self._read_traits = read_traits
        self._backlog = backlog
        self._in_flight = in_flight
        self._clock = clock
        self._stop = stop
        self._cover = cover
        self._urgent_from = math.inf if urgent is None else urgent.priority
        self._new_groups: Callable[[], Iterator[Page | Nap]] = lambda: iter(())
        self._groups = self._new_groups()
        self._repeats = False

    def begin(self, new_groups: Callable[[], Iterator[Page | Nap]], *, repeats: bool) -> None:
        """Begin a pass. ``new_groups`` claims from the head of the backlog. ``repeats``: also what comes due later."""
        self._new_groups = new_groups
        self._groups = new_groups()
        self._repeats = repeats
        self.has_ended = self.must_look = False

    def pages_for(self, relay: RoutedRelay) -> Iterator[Page | Nap]:
        """Yield what is claimed for ``relay``, one mail at a time, and naps while nothing is.

        Raises:
            StoreError: the database fails.
            RunFailed: decided settlements cannot be written.
        """
        while not relay.stop.is_set():
            self._deal_out_silent()
            if relay.queue:
                yield Page((relay.next_mail(),), None)
                relay.has_handed()
            elif self.has_ended:
                return
            elif relay.name in self._first_choices():
                yield from self._claim_for(relay)
            else:
                yield Nap(IDLE)

    def _first_choices(self) -> frozenset[str]:
        return first_choices(self._routes, {name for name, one in self._relays.items() if not one.takes_mail()})

    def _claim_for(self, relay: RoutedRelay) -> Iterator[Nap]:
        """Claim a group. If nothing of it is for ``relay``, rest for as long as that took, so that others can send."""
        now = self._clock.monotonic()
        if self._is_time_to_look(now):
            self.has_ended = self.must_look = True
            return
        self._cover()
        group = next(self._groups, None)
        if isinstance(group, Page):
            self.deal(group.claimed, {one.name for one in self._relays.values() if one.is_full()})
            if not self._repeats and any(one.queue for one in self._relays.values()):
                self.has_ended = True
            elif not relay.queue:
                yield Nap(max(_LEAST_NAP, self._clock.monotonic() - now))
        elif group is not None:
            yield group
        elif self._repeats and now < self._lines_end_at() and not self._stop.is_set():
            yield Nap(_LOOK_EVERY)
            self._groups = self._new_groups()
        else:
            self.has_ended = True

    def _is_time_to_look(self, now: float) -> bool:
        """Whether the circuit of a relay that is away is to be looked at: the next pass does so."""
        return any(one.is_away and one.look_at <= now for one in self._relays.values())

    def _lines_end_at(self) -> float:
        return max(one.line.ends_at for one in self._relays.values() if not one.is_away) + _LOOK_EVERY

    # --- one mail ------------------------------------------------------------------------------------------------

    def deal(self, claimed: Sequence[Claimed], full: Container[str] = ()) -> None:
        """Let each mail wait for a relay that takes it. Put back those that no relay takes now.

        The relays ``full`` have enough that waits for them: their mails are put back too, one behind the other.
        """
        for part in within_budget(self._in_order(claimed), BYTE_BUDGET):
            large = [c for c in part if c.mail is None]
            traits = {mail.claim: self._read_traits(mail) for mail in self._backlog.load(large)} if large else {}
            self._in_flight.discard(c.claim for c in large if c.claim not in traits)
            for c in part:
                if c.mail is not None:
                    self._deal_one(c, self._read_traits(c.mail), full)
                elif c.claim in traits:
                    self._deal_one(c, traits[c.claim], full)

    def _in_order(self, claimed: Sequence[Claimed]) -> Sequence[Claimed]:
        """Return mails that were never the probe first, if one of these is to be a probe."""
        probed = [one.health.suspects for one in self._relays.values() if one.is_probed and one.takes_mail()]
        if not any(probed):
            return claimed
        return sorted(claimed, key=lambda c: max(known.get(c.claim.reservation_id, -1) for known in probed))

    def _deal_out_silent(self) -> None:
        for one in self._relays.values():
            if one.queue and one.is_silent:
                self.deal_anew(one)

    def deal_anew(self, relay: RoutedRelay) -> None:
        """Deal out again what waits for a relay that became away."""
        waiting = list(relay.queue)
        relay.queue.clear()
        self.deal(waiting)

    def _deal_one(self, claimed: Claimed, traits: Traits, full: Container[str]) -> None:
        names = route_of(self._routes, traits)
        if self._stop.is_set():
            self._in_flight.decide(released(claimed.claim))
            return
        relay = self._choose(claimed.claim.reservation_id, names)
        if relay is None:
            self._put_back(claimed, self._first_back(names))
        elif relay.name in full:
            wait = relay.line.wait(self._clock.monotonic())
            self._in_flight.decide(in_line(claimed.claim, relay.name, wait))
        else:
            relay.add(claimed, first=traits.priority >= self._urgent_from)

    def _choose(self, mail: UUID, names: Sequence[str]) -> RoutedRelay | None:
        """Return the first relay that takes mails and has not failed with this mail, or else the first that takes."""
        usable = [one for name in names if (one := self._relays[name]).takes_mail()]
        failed_at = self.failed_at.get(mail, ())
        return next((one for one in usable if one.name not in failed_at), usable[0] if usable else None)

    def _first_back(self, names: Sequence[str]) -> RoutedRelay:
        """Return the relay that may take mails again first."""
        return min((self._relays[name] for name in names), key=lambda one: one.look_at if one.is_away else 0.0)

    def _put_back(self, claimed: Claimed, relay: RoutedRelay) -> None:
        """Put a mail back until ``relay`` may take mails again; as it was, if only probes are sent, or none."""
        if not self._repeats or all(one.is_away for one in self._relays.values()):
            self._in_flight.decide(released(claimed.claim))
            return
        if (outage := relay.stop.outage) is not None:
            self.waits = outage.told()
        wait = relay.line.wait(self._clock.monotonic(), relay.look_at if relay.is_away else 0.0)
        self._in_flight.decide(in_line(claimed.claim, relay.name, wait))
