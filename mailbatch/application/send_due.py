"""Send what is due: claim, compose, transmit, settle; a stream in one direction.

The transport pulls. Pulling a message claims the next group when the last one has been handed over, so the next group
is claimed and composed while the last is on the wire; what has been answered is settled before anything new is
claimed, so at most a group on the wire and a group ahead are unsettled.
"""

from __future__ import annotations

import logging
from collections import Counter, deque
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from mailbatch.domain.deferral import hinted, unwell
from mailbatch.domain.errors import CannotCompose, RunFailed, StoreError
from mailbatch.domain.outcome import Answered, Kind, RelayFault, Reply, Verdict
from mailbatch.domain.run import Counts, ItemError, Trigger, one_line, public
from mailbatch.domain.settlement import NO_VERDICT, Tally, released, set_aside_for, settle, uncomposable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from mailbatch.application.leave_alone import RelayGuard
    from mailbatch.application.ports import (
        Backlog,
        Claimed,
        ClaimedMail,
        Clock,
        Composer,
        Cursor,
        Page,
        Run,
        Slots,
        Transport,
    )
    from mailbatch.domain.message import Claim, Message
    from mailbatch.domain.outcome import Outcome
    from mailbatch.domain.retry import RetryPolicy
    from mailbatch.domain.settlement import OnDoubt, Settlement

log = logging.getLogger(__name__)
T = TypeVar("T")

HEAD_EVERY = 5.0
"""Seconds after which the cursor returns to the head, where urgent mail may have come in."""
FAULTS_OF_ONE_MAIL = 3
"""A mail in whose dialogue the relay broke this often in one run is put off: it may be what breaks it."""
LEASE_SHARE = 0.9
"""The share of a lease after which its holder begins nothing more: clocks differ a little."""
BYTE_BUDGET = 4 * 1024 * 1024
"""Bytes of bodies that are loaded at once; a larger mail comes alone."""
SETTLE_EVERY = 1.0
"""Seconds after which an answer is written if no claim took it along; until then a crash leaves it in doubt."""
SETTLE_PATIENCE = 10.0
"""Seconds for which a verdict that cannot be written is kept and tried again once the run must stop."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SendDue:
    """One lane's work in a run.

    ``lease`` in seconds. ``strict``: the intent to send is committed just before the end of each body, and not with the
    claim. ``relay_faults`` in a row end the run, fewer once they last for ``relay_patience`` seconds.
    """

    backlog: Backlog
    compose: Composer
    transport: Transport
    clock: Clock
    jitter: Callable[[], float]
    retry: RetryPolicy
    on_doubt: OnDoubt
    group_size: int
    page_size: int
    lease: float
    strict: bool = False
    relay_faults: int = 16
    relay_patience: float = 5.0
    guard: RelayGuard | None = None
    slots: Slots | None = None

    def __call__(self, run: Run, lane: int = 0) -> None:
        """Send until nothing is due or the run must stop.

        Raises:
            RunFailed: the backlog cannot be read, or the relay stays away; what was answered is settled all the same.
        """
        _Lane(self, run, lane).work()

    def probe(self, run: Run) -> None:
        """Send one mail ahead of all others if the relay failed before, so that not all of them find out.

        Raises:
            RunFailed: the relay is to be left alone for now, or it has failed again.
        """
        by_hand = run.trigger is not Trigger.BEAT
        if self.guard is None or self.guard.may_begin(by_hand=by_hand):
            return
        lane = _Lane(self, run, 0, probing=True)
        lane.work()
        if lane.answered:
            self.guard.probed()


@dataclass(slots=True)
class _Ticket:
    """What a lane knows of a claim that it holds."""

    index: int
    attempts: int = 0
    earlier: Mapping[str, Verdict] | None = None
    on_wire: bool = False


class _Lane:
    """The state of a lane while it works: what it holds, and how far its lease reaches."""

    def __init__(self, use: SendDue, run: Run, lane: int, *, probing: bool = False) -> None:
        self.use = use
        self.run = run
        self.lane = lane
        self.probing = probing
        self.group_size = 1 if probing else use.group_size
        self.answered = False
        self.strict = use.strict
        self.alone = False
        self.left = False
        self.held: dict[Claim, _Ticket] = {}
        self.answers: list[Settlement] = []
        self.unsettled_since = 0.0
        self.lease_ends = float("inf")
        self.faults: Counter[object] = Counter()
        self.faults_in_row = 0
        self.faulty_since = 0.0
        self.relay_gone: str | None = None
        self.broken: RunFailed | None = None

    # --- the stream ---

    def work(self) -> None:
        self.run.every(self.use.lease / 3, self.renew)
        if self.use.slots is not None:
            self.run.every(self.use.slots.renew_every, self.use.slots.renew)
        try:
            while not self.must_stop() and self._pass() and not self.probing:
                pass
            self._one_by_one()
        except RunFailed as error:
            self.broken = self.broken or error
        finally:
            self._give_back()
        if self.broken is not None:
            raise self.broken
        if self.relay_gone is not None:
            if self.use.guard is not None:
                self.use.guard.failed(self.relay_gone, hinted(Reply(0, self.relay_gone)))
            raise RunFailed(f"the relay is away: {self.relay_gone}")

    def _pass(self) -> bool:
        """Go through the backlog once; answer whether mails that a relay fault gave back deserve another pass."""
        faults: list[RelayFault] = []
        answered = 0
        last_look = self.last_look if self.strict else None
        with closing(self.use.transport.send(self.messages(), self.may_send, last_look)) as outcomes:
            for outcome in outcomes:
                answered += isinstance(outcome, Answered)
                faults += [outcome] if isinstance(outcome, RelayFault) else []
                self.take(outcome)
        self.flush()
        if faults and not answered and not all(fault.in_dialogue for fault in faults):
            self.relay_gone = self.relay_gone or _said(faults[-1])
        return bool(faults)

    def _one_by_one(self) -> None:
        """Send mails with which senders died, each with nothing beside it that could die with it, after all others.

        The intent to send them is committed late: so it is known whether one kills before it is on the wire.
        """
        self.alone = self.strict = True
        while self.left and not self.lane and not self.probing and not self.must_stop():
            if self._pass():
                return

    def messages(self) -> Iterator[Message]:
        """Pages, bodies, messages; each step only when the wire asks for it.

        A fault of the database ends the stream instead of breaking through the transport: what is on the wire is to
        come back as outcomes first.
        """
        try:
            for page in self.pages():
                for mail in self.mails(page.claimed):
                    if self.must_stop():
                        return
                    message = self.composed(mail)
                    del mail  # a fat one is not kept here while it is on the wire
                    if message is not None:
                        yield message
                        if self.probing:
                            return
        except StoreError as error:
            self.broken = RunFailed(f"failed to find reservation mail list. err:{one_line(str(error))}")
        except RunFailed as error:
            self.broken = error

    def mails(self, claimed: Sequence[Claimed]) -> Iterator[ClaimedMail]:
        """The mails of a group, in order: those that came with their claims, and fat ones loaded by parts."""
        for part in within_budget(claimed, BYTE_BUDGET):
            fat = [c for c in part if c.mail is None]
            loaded = {mail.claim: mail for mail in self.use.backlog.load(fat)} if fat else {}
            mails = deque(mail for c in part if (mail := c.mail or loaded.pop(c.claim, None)) is not None)
            while mails:
                yield mails.popleft()

    def pages(self) -> Iterator[Page]:
        """Claimed groups, by a cursor that returns to the head every few seconds and once at the end."""
        if self.alone:
            page = self.claim(None)
            self.left = bool(page.claimed)
            yield page
            return
        cursor: Cursor | None = None
        at_head = self.use.clock.monotonic()
        while not self.must_stop():
            if cursor is not None and self.use.clock.monotonic() - at_head > HEAD_EVERY:
                cursor = None
            if from_head := cursor is None:
                at_head = self.use.clock.monotonic()
                self.flush()
                self.tidy()
            page = self.claim(cursor)
            if page.claimed:
                yield page
            elif from_head:
                self.left = page.left
                return
            cursor = page.cursor

    def claim(self, cursor: Cursor | None) -> Page:
        """Take the next group; what was answered is settled in the same transaction."""
        asked = self.use.clock.monotonic()
        page = self._turned_over(cursor) or self._claimed(cursor)
        ends = asked + self.use.lease * LEASE_SHARE
        self.lease_ends = min(self.lease_ends, ends) if self.held else ends
        self.held |= {c.claim: _Ticket(c.index) for c in page.claimed}
        return page

    def _claimed(self, cursor: Cursor | None) -> Page:
        backlog = self.use.backlog
        if self.alone:
            return backlog.claim_alone(self.run.id, self.lane)
        return backlog.claim(self.run.id, self.lane, cursor, self.group_size)

    def _turned_over(self, cursor: Cursor | None) -> Page | None:
        if not self.answers:
            return None
        answers = self.answers
        try:
            written, page = self.use.backlog.turn_over(self.run.id, self.lane, answers, cursor, self.group_size)
        except StoreError as error:
            log.warning("verdicts go before the next group: %s", error)
            self.flush()
            return None
        self._settled(written)
        return page

    def tidy(self) -> None:
        """Judge leases that have ended and reservations whose time has passed, before anything is claimed.

        One lane is enough for it.
        """
        if self.lane:
            return
        size = self.use.page_size
        while expired := self.use.backlog.expire(size):
            self.run.count(Counts(expired=expired))
            if expired < size:
                break
        while True:
            doubts = self.use.backlog.resolve_doubts(self.run.id, self.use.on_doubt, size)
            self.run.count(Counts(failed=len(doubts.set_aside), in_doubt=doubts.resent + doubts.held))
            for index, reservation_id in doubts.doubtful:
                self.run.item_error(ItemError(index, reservation_id, (NO_VERDICT,)))
            for index, reservation_id in doubts.set_aside:
                self.run.item_error(ItemError(index, reservation_id, (set_aside_for(self.use.retry.deaths),)))
            judged = doubts.released + doubts.resent + doubts.held + len(doubts.set_aside)
            if judged:
                log.warning(
                    "leases of a sender that died were resolved: %d had nothing on the wire, %d in doubt are sent "
                    "again, %d in doubt are held, %d killed each sender and have failed",
                    doubts.released,
                    doubts.resent,
                    doubts.held,
                    len(doubts.set_aside),
                )
            if judged < size:
                return

    def composed(self, mail: ClaimedMail) -> Message | None:
        ticket = self.held[mail.claim]
        ticket.attempts, ticket.earlier = mail.attempts, mail.earlier
        try:
            message = self.use.compose(mail)
        except CannotCompose as error:
            self.answer(uncomposable(mail.claim, error.errors))
            return None
        ticket.on_wire = not self.strict
        return message

    # --- may it go on? ---

    def must_stop(self) -> bool:
        return self.relay_gone is not None or self.broken is not None or self.run.stop.reason() is not None

    def may_send(self) -> bool:
        """The last question before a mail's first byte, asked in the thread that writes it.

        The lease is measured on this machine's own clock: a holder that was frozen past it sends nothing more,
        even before it could learn that it has been replaced.
        """
        return not self.must_stop() and self.use.clock.monotonic() < self.lease_ends

    def last_look(self, claims: Sequence[Claim]) -> set[Claim]:
        """Say which mails' last bytes may go out, and commit before that they will.

        What is cut off before this was not sent; what is cut off after it is in doubt. A doubt about the commit itself
        is not: without an answer nothing goes out.
        """
        try:
            self.flush()  # what is not settled is in doubt too
            granted = self.use.backlog.intend(self.run.id, claims) if self.may_send() else set()
        except RunFailed as error:
            self.broken = error
            return set()
        except StoreError as error:
            log.warning("%d mails are withdrawn, for the intent to send them was not written: %s", len(claims), error)
            return set()
        if not self.may_send():  # the commit took longer than the lease
            return set()
        for claim in granted:
            self.held[claim].on_wire = True
        return granted

    def renew(self) -> None:
        asked = self.use.clock.monotonic()
        self.use.backlog.renew(self.run.id, self.lane)
        if asked < self.lease_ends:
            self.lease_ends = asked + self.use.lease * LEASE_SHARE

    # --- what came of it ---

    def take(self, outcome: Outcome) -> None:
        ticket = self.held[outcome.claim]
        ticket.on_wire = False
        self.answer(
            settle(
                self._blame(outcome) if isinstance(outcome, RelayFault) else outcome,
                attempts=ticket.attempts,
                earlier=ticket.earlier or {},
                retry=self.use.retry,
                on_doubt=self.use.on_doubt,
                jitter=self.use.jitter(),
            )
        )
        if isinstance(outcome, Answered):
            self._hear(outcome)
        if self.use.clock.monotonic() - self.unsettled_since > SETTLE_EVERY:
            self.flush()

    def answer(self, settlement: Settlement) -> None:
        if not self.answers:
            self.unsettled_since = self.use.clock.monotonic()
        self.answers.append(settlement)

    def _blame(self, fault: RelayFault) -> Outcome:
        """A relay fault costs its mail nothing, until the mail itself looks like the cause."""
        log.info("given back: %s", public(fault.reason), extra=_id(fault.claim))
        if self._stays_away() or fault.hopeless:
            self.relay_gone = _said(fault)
        if not fault.in_dialogue:
            return fault
        self.answered = True  # It let us in, and answered this mail's MAIL.
        self.faults[fault.claim.reservation_id] += 1
        if self.faults[fault.claim.reservation_id] < FAULTS_OF_ONE_MAIL:
            return fault
        reply = Reply(421, f"the relay broke {FAULTS_OF_ONE_MAIL} times in this mail's dialogue: {fault.reason}")
        return Answered(fault.claim, fault.relay, {"": Verdict(Kind.DEFERRED, reply)})

    def _hear(self, answered: Answered) -> None:
        """An answer ends the faults in a row, unless the relay gave a reason of its own for not taking anything."""
        reply = unwell(answered)
        if reply is None:
            self.answered = True
            self.faults_in_row = 0
        elif self._stays_away() or self.probing:
            self.relay_gone = f"{answered.relay}: {one_line(str(reply))}"

    def _stays_away(self) -> bool:
        """Count one fault more; whether there have been enough in a row, or for long enough."""
        at = self.use.clock.monotonic()
        self.faulty_since = at if not self.faults_in_row else self.faulty_since
        self.faults_in_row += 1
        return self.faults_in_row >= self.use.relay_faults or at - self.faulty_since >= self.use.relay_patience

    def flush(self) -> None:
        """Write what has been answered. It is kept until it is written: nothing new is taken before."""
        if not self.answers:
            return
        answers = self.answers
        try:
            written = self._insist(lambda: self.use.backlog.settle(self.run.id, self.lane, answers))
        except StoreError as error:
            raise RunFailed(f"{len(answers)} verdicts could not be written. err:{one_line(str(error))}") from error
        self._settled(written)

    def _settled(self, written: set[Claim]) -> None:
        """Count and report what has been written."""
        answers, self.answers = self.answers, []
        tallies = Counter(s.tally for s in answers if s.claim in written)
        self.run.count(Counts(**{tally.value: n for tally, n in tallies.items() if tally is not Tally.RELEASED}))
        for s in answers:
            ticket = self.held.pop(s.claim)
            if s.claim in written:
                self._report(s, ticket.index)
            else:
                log.warning("verdict came too late: another run holds the mail (%s)", s.status, extra=_id(s.claim))

    def _report(self, s: Settlement, index: int) -> None:
        if s.tally in {Tally.FAILED, Tally.DEFERRED, Tally.IN_DOUBT}:
            self.run.item_error(ItemError(index, s.claim.reservation_id, s.errors))

    def _insist(self, deed: Callable[[], T]) -> T:
        """Try ``deed`` until the database takes it; give up after a lease, or soon once the run must stop."""
        clock, pause = self.use.clock, 0.1
        began = clock.monotonic()
        while True:
            try:
                return deed()
            except StoreError as error:
                patience = SETTLE_PATIENCE if self.run.stop.reason() else max(self.use.lease, SETTLE_PATIENCE)
                if not error.transient or clock.monotonic() - began > patience:
                    raise
                log.warning("verdicts are kept until the database takes them: %s", error)
            clock.sleep(pause)
            pause = min(pause * 2, 2.0)

    def _give_back(self) -> None:
        """Settle what was answered, and put what never reached the wire back to pending at once.

        What the transport still holds (it was torn down in the middle) stays claimed: its lease will end, and then it
        is judged as in doubt.
        """
        answered = {s.claim for s in self.answers}
        self.answers += [released(c) for c, t in self.held.items() if not t.on_wire and c not in answered]
        try:
            self.flush()
        except RunFailed as error:
            self.broken = self.broken or error
            for s in self.answers:
                log.error("verdict not recorded: %s %s", s.status, public(str(s.reply or "")), extra=_id(s.claim))  # noqa: TRY400


def within_budget(claimed: Iterable[Claimed], budget: int) -> Iterator[Sequence[Claimed]]:
    """Cut a group into parts whose sizes add up to at most ``budget`` bytes; a larger mail comes alone."""
    part: list[Claimed] = []
    size = 0
    for one in claimed:
        if part and size + one.size > budget:
            yield part
            part, size = [], 0
        part.append(one)
        size += one.size
    if part:
        yield part


def _said(fault: RelayFault) -> str:
    return f"{fault.relay}: {one_line(fault.reason)}"


def _id(claim: Claim) -> dict[str, str]:
    return {"reservation_id": str(claim.reservation_id)}
