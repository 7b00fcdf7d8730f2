"""The mails that a lane holds: each from its claim until its settlement is written."""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

from mailbatch.domain.errors import RunFailed, StoreError
from mailbatch.domain.redaction.addresses import public
from mailbatch.domain.redaction.lines import one_line
from mailbatch.domain.run import Counts, ItemError
from mailbatch.domain.settlement import Tally, released

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from mailbatch.application.ports.runs import Run
    from mailbatch.application.ports.sending import Backlog
    from mailbatch.application.ports.system import Clock
    from mailbatch.domain.claimed import Claimed
    from mailbatch.domain.message import Claim
    from mailbatch.domain.outcome import Verdict
    from mailbatch.domain.settlement import Settlement

log = logging.getLogger(__name__)
T = TypeVar("T")

SETTLE_EVERY = 1.0
"""Seconds after which a settlement is written if no claim took it along; until then a crash leaves it in doubt."""
SETTLE_PATIENCE = 10.0
"""Seconds for which a settlement that cannot be written is kept and tried again once the run must stop."""


@dataclass(slots=True)
class InFlightMail:
    """What a lane knows of a mail that it holds. ``index``: its item index in the run.

    The mail itself is not kept, because it may be large. ``on_wire``: the relay may take it. ``is_noted``: its row says
    so, or may say so, although nothing of it went out: a crash would leave it in doubt.
    """

    index: int
    attempts: int = 0
    earlier: Mapping[str, Verdict] | None = None
    tag: str | None = None
    template: str | None = None
    on_wire: bool = False
    is_noted: bool = False


class InFlight:
    """The claims of a lane, and the settlements that are decided and not yet written. ``lease`` in seconds."""

    def __init__(self, backlog: Backlog, clock: Clock, lease: float, run: Run, lane: int) -> None:
        self.mails: dict[Claim, InFlightMail] = {}
        self.decided: list[Settlement] = []
        self._decided_since = 0.0
        self._backlog = backlog
        self._clock = clock
        self._lease = lease
        self._run = run
        self._lane = lane

    @property
    def on_wire(self) -> int:
        """How many mails a crash would leave in doubt now."""
        return sum(mail.on_wire or mail.is_noted for mail in self.mails.values())

    def note_intent(self, claims: Iterable[Claim]) -> None:
        """Note that the rows of ``claims`` may say that they are on the wire, although they are not."""
        for claim in claims:
            self.mails[claim].is_noted = True

    def add(self, claimed: Iterable[Claimed]) -> None:
        """Hold mails that were claimed."""
        self.mails |= {c.claim: InFlightMail(c.index) for c in claimed}

    def discard(self, claims: Iterable[Claim]) -> None:
        """Forget mails that another run has claimed meanwhile."""
        for claim in claims:
            self.mails.pop(claim, None)

    def decide(self, settlement: Settlement) -> None:
        """Keep a settlement until the next flush, or the next claim, writes it."""
        if not self.decided:
            self._decided_since = self._clock.monotonic()
        if settlement.tally is not Tally.SENT and settlement.tally is not Tally.RELEASED:
            settlement = replace(settlement, index=self.mails[settlement.claim].index)
        self.decided.append(settlement)

    def flush_if_due(self, *, nothing_follows: bool) -> None:
        """Write the settlements if the first of them has waited for long.

        ``nothing_follows``: no claim will take them along, and the next outcome may be minutes away. Then they are
        written as soon as they are half of what is held, which costs a few commits for all that is on the wire.
        """
        is_half = nothing_follows and 2 * len(self.decided) >= len(self.mails)
        if self.decided and (is_half or self._clock.monotonic() - self._decided_since > SETTLE_EVERY):
            self.flush()

    def flush(self) -> None:
        """Write the settlements now. They are kept until they are written, and nothing new begins before.

        Raises:
            RunFailed: the database does not take them, now or within its patience.
        """
        if not (decided := self.decided):
            return
        try:
            written = self._retry(lambda: self._backlog.settle(self._run.id, self._lane, decided))
        except StoreError as error:
            raise RunFailed(f"{len(decided)} verdicts could not be written. err:{one_line(str(error))}") from error
        self.settled(written)

    def settled(self, written: set[Claim]) -> None:
        """Count and report the settlements that were written, and hold their mails no more.

        ``written``: the claims that still held.
        """
        decided, self.decided = self.decided, []
        sent, counts = 0, Counter[str]()
        for s in decided:
            mail = self.mails.pop(s.claim)
            if s.claim not in written:
                if s.tally is not Tally.RELEASED:  # a release is no verdict: perhaps the answer to its commit was lost
                    text = f"verdict came too late: another run holds the mail ({s.status})"
                    log.warning("%s", text, extra=log_fields(s.claim))
            elif s.tally is Tally.SENT:  # by far the most, so they are not counted by name
                sent += 1
            elif s.tally is not Tally.RELEASED:
                counts[s.tally.value] += 1
                if s.tally is Tally.HELD_BACK:  # no error: the mail waits for its time
                    continue
                self._run.item_error(ItemError(mail.index, s.claim.reservation_id, s.errors))
        self._run.count(Counts(sent=sent, **counts))

    def give_back(self) -> RunFailed | None:
        """Write what is decided, and release every mail that never reached the wire. Return why that failed, if so.

        What the transport still holds, because it was torn down in the middle, stays claimed. Its lease will end, and
        then it is in doubt.
        """
        decided = {s.claim for s in self.decided}
        self.decided += [released(c) for c, mail in self.mails.items() if not mail.on_wire and c not in decided]
        try:
            self.flush()
        except RunFailed as error:
            for s in self.decided:
                text = f"verdict not recorded: {s.status} {public(str(s.reply or ''))}"
                log.error("%s", text, extra=log_fields(s.claim))  # noqa: TRY400 - one line for each mail says it all
            return error
        return None

    def _retry(self, write: Callable[[], T]) -> T:
        """Call ``write`` until the database takes it. Give up after a lease, or soon once the run must stop."""
        clock, pause = self._clock, 0.1
        began = clock.monotonic()
        while True:
            try:
                return write()
            except StoreError as error:
                patience = SETTLE_PATIENCE if self._run.stop.reason() else max(self._lease, SETTLE_PATIENCE)
                if not error.transient or clock.monotonic() - began > patience:
                    raise
                log.warning("verdicts are kept until the database takes them: %s", error)
            clock.sleep(pause)
            pause = min(pause * 2, 2.0)


def log_fields(claim: Claim) -> dict[str, str]:
    """Return the fields by which a log line names a mail."""
    return {"reservation_id": str(claim.reservation_id)}
