"""What a lane holds: claims, each from the moment it is made until its verdict is written."""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

from mailbatch.domain.errors import RunFailed, StoreError
from mailbatch.domain.lifecycle import Tally, released
from mailbatch.domain.redaction.addresses import public
from mailbatch.domain.redaction.lines import one_line
from mailbatch.domain.run import Counts, ItemError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from mailbatch.application.ports.runs import Run
    from mailbatch.application.ports.sending import Backlog
    from mailbatch.application.ports.system import Clock
    from mailbatch.domain.claimed import Claimed
    from mailbatch.domain.lifecycle import Settlement
    from mailbatch.domain.message import Claim
    from mailbatch.domain.outcome import Verdict

log = logging.getLogger(__name__)
T = TypeVar("T")

SETTLE_EVERY = 1.0
"""Seconds after which an answer is written if no claim took it along; until then a crash leaves it in doubt."""
SETTLE_PATIENCE = 10.0
"""Seconds for which a verdict that cannot be written is kept and tried again once the run must stop."""
_TOLD = frozenset({Tally.FAILED, Tally.DEFERRED, Tally.IN_DOUBT})


@dataclass(slots=True)
class InFlightMail:
    """What a lane knows of a claim that it holds."""

    index: int
    attempts: int = 0
    earlier: Mapping[str, Verdict] | None = None
    tag: str | None = None
    template: str | None = None
    on_wire: bool = False


class InFlight:
    """The claims of a lane, and the answers to them that are not written yet. ``lease`` in seconds."""

    def __init__(self, backlog: Backlog, clock: Clock, lease: float, run: Run, lane: int) -> None:
        self.tickets: dict[Claim, InFlightMail] = {}
        self.answers: list[Settlement] = []
        self._since = 0.0
        self._backlog = backlog
        self._clock = clock
        self._lease = lease
        self._run = run
        self._lane = lane

    def add(self, claimed: Iterable[Claimed]) -> None:
        """Hold what was claimed."""
        self.tickets |= {c.claim: InFlightMail(c.index) for c in claimed}

    def discard(self, claims: Iterable[Claim]) -> None:
        """Hold no more what another run has taken meanwhile."""
        for claim in claims:
            self.tickets.pop(claim, None)

    def answer(self, settlement: Settlement) -> None:
        """Keep what is to be written of a claim."""
        if not self.answers:
            self._since = self._clock.monotonic()
        if settlement.tally in _TOLD:
            settlement = replace(settlement, index=self.tickets[settlement.claim].index)
        self.answers.append(settlement)

    def flush_what_waits(self, *, nothing_follows: bool) -> None:
        """Write the answers if the first of them has waited for long.

        With ``nothing_follows`` no claim will take them along, and the next answer may be minutes away: they are
        written once they are half of what is held, which costs a few commits for all that is on the wire.
        """
        is_half = nothing_follows and 2 * len(self.answers) >= len(self.tickets)
        if self.answers and (is_half or self._clock.monotonic() - self._since > SETTLE_EVERY):
            self.flush()

    def flush(self) -> None:
        """Write what has been answered. It is kept until it is written: nothing new is taken before.

        Raises:
            RunFailed: the database does not take it, now or within its patience.
        """
        if not self.answers:
            return
        answers = self.answers
        try:
            written = self._insist(lambda: self._backlog.settle(self._run.id, self._lane, answers))
        except StoreError as error:
            raise RunFailed(f"{len(answers)} verdicts could not be written. err:{one_line(str(error))}") from error
        self.settled(written)

    def settled(self, written: set[Claim]) -> None:
        """Count and report what has been written, and hold it no more."""
        answers, self.answers = self.answers, []
        tallies = Counter(s.tally for s in answers if s.claim in written)
        self._run.count(Counts(**{tally.value: n for tally, n in tallies.items() if tally is not Tally.RELEASED}))
        for s in answers:
            ticket = self.tickets.pop(s.claim)
            if s.claim in written:
                if s.tally in _TOLD:
                    self._run.item_error(ItemError(ticket.index, s.claim.reservation_id, s.errors))
            elif s.tally is not Tally.RELEASED:  # no verdict; it may stand there after a commit without answer
                log.warning("verdict came too late: another run holds the mail (%s)", s.status, extra=named(s.claim))

    def give_back(self) -> RunFailed | None:
        """Settle what was answered, and put what never reached the wire back to pending at once.

        What the transport still holds (it was torn down in the middle) stays claimed: its lease will end, and then it
        is judged as in doubt. Answers why it could not be written.
        """
        answered = {s.claim for s in self.answers}
        self.answers += [released(c) for c, t in self.tickets.items() if not t.on_wire and c not in answered]
        try:
            self.flush()
        except RunFailed as error:
            for s in self.answers:
                log.error("verdict not recorded: %s %s", s.status, public(str(s.reply or "")), extra=named(s.claim))  # noqa: TRY400
            return error
        return None

    def _insist(self, deed: Callable[[], T]) -> T:
        """Try ``deed`` until the database takes it; give up after a lease, or soon once the run must stop."""
        clock, pause = self._clock, 0.1
        began = clock.monotonic()
        while True:
            try:
                return deed()
            except StoreError as error:
                patience = SETTLE_PATIENCE if self._run.stop.reason() else max(self._lease, SETTLE_PATIENCE)
                if not error.transient or clock.monotonic() - began > patience:
                    raise
                log.warning("verdicts are kept until the database takes them: %s", error)
            clock.sleep(pause)
            pause = min(pause * 2, 2.0)


def named(claim: Claim) -> dict[str, str]:
    """The fields by which a log line names a mail."""
    return {"reservation_id": str(claim.reservation_id)}
