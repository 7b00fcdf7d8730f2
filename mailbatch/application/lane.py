"""One lane of a run while it works: a stream in one direction, from claimed groups to settled outcomes.

The transport pulls. Pulling a message claims the next group when the last one has been handed over, so the next group
is claimed and composed while the last is on the wire; what has been answered is settled with the claim of the next
group at the latest, so at most a group on the wire and a group ahead are unsettled.
"""

from __future__ import annotations

import logging
from collections import Counter, deque
from contextlib import closing
from typing import TYPE_CHECKING

from mailbatch.application.holding import Held, named
from mailbatch.application.strikes import Strikes
from mailbatch.domain.errors import CannotCompose, RunFailed, StoreError
from mailbatch.domain.outcome import Answered, Kind, RelayFault, Reply, Verdict
from mailbatch.domain.reply_kinds import hinted, unwell
from mailbatch.domain.run import Counts, ItemError, one_line, public
from mailbatch.domain.settlement import NO_VERDICT, set_aside_for, settle, uncomposable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from mailbatch.application.ports import Claimed, ClaimedMail, Cursor, Page, Run
    from mailbatch.application.send_due import SendDue
    from mailbatch.domain.message import Claim, Message
    from mailbatch.domain.outcome import Outcome

log = logging.getLogger(__name__)

HEAD_EVERY = 5.0
"""Seconds after which the cursor returns to the head, where urgent mail may have come in."""
FAULTS_OF_ONE_MAIL = 3
"""A mail in whose dialogue the relay broke this often in one run is put off: it may be what breaks it."""
LEASE_SHARE = 0.9
"""The share of a lease after which its holder begins nothing more: clocks differ a little."""
BYTE_BUDGET = 4 * 1024 * 1024
"""Bytes of bodies that are loaded at once; a larger mail comes alone."""


class Lane:
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
        self.held = Held(use.backlog, use.clock, use.lease, run, lane)
        self.lease_ends = float("inf")
        self.overslept = False
        self.drained = False
        self.faults: Counter[object] = Counter()
        self.strikes = Strikes(
            use.clock, most=use.relay_faults, patience=use.relay_patience, most_doubts=2 * use.group_size
        )
        self.relay_gone: str | None = None
        self.broken: RunFailed | None = None
        self.may_have_strays = False

    # --- the stream ---

    def work(self) -> None:
        """Send until nothing is due or the run must stop; raises ``RunFailed`` as ``SendDue`` says."""
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
            unwritten = self.held.give_back()
            self.broken = self.broken or unwritten
            if unwritten is None:
                self.give_up_strays()
        if self.broken is not None:
            raise self.broken
        if self.relay_gone is not None:
            if self.use.guard is not None:
                self.use.guard.failed(self.relay_gone, hinted(Reply(0, self.relay_gone)))
            raise RunFailed(f"the relay is away: {self.relay_gone}")

    def _pass(self) -> bool:
        """Go through the backlog once; answer whether there is reason for another pass: mails that were given back."""
        self.overslept = self.drained = False
        faults: list[RelayFault] = []
        answered = 0
        last_look = self.last_look if self.strict else None
        with closing(self.use.transport.send(self.messages(), self.may_send, last_look)) as outcomes:
            for outcome in outcomes:
                answered += isinstance(outcome, Answered)
                faults += [outcome] if isinstance(outcome, RelayFault) else []
                self.take(outcome)
        self.held.flush()
        if faults and not answered and not all(fault.in_dialogue for fault in faults):
            self.relay_gone = self.relay_gone or _said(faults[-1])
        return bool(faults) or self.overslept

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
        finally:
            self.drained = True

    def mails(self, claimed: Sequence[Claimed]) -> Iterator[ClaimedMail]:
        """The mails of a group, in order: those that came with their claims, and fat ones loaded by parts."""
        for part in within_budget(claimed, BYTE_BUDGET):
            fat = [c for c in part if c.mail is None]
            loaded = {mail.claim: mail for mail in self.use.backlog.load(fat)} if fat else {}
            mails = deque(mail for c in part if (mail := c.mail or loaded.pop(c.claim, None)) is not None)
            taken = {mail.claim for mail in mails}
            self.held.let_go(c.claim for c in part if c.claim not in taken)
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
        while not self.must_stop() and not self._has_overslept():
            if cursor is not None and self.use.clock.monotonic() - at_head > HEAD_EVERY:
                cursor = None
            if from_head := cursor is None:
                at_head = self.use.clock.monotonic()
                self.held.flush()
                self.give_up_strays()
                self.tidy()
            page = self.claim(cursor)
            if page.claimed:
                yield page
            elif from_head:
                self.left = page.left
                return
            cursor = page.cursor

    def _has_overslept(self) -> bool:
        """Whether the lease has ended while mails are on the wire: until they are answered all others would come back.

        The stream ends then, and the next pass begins with a lease of its own.
        """
        if self.use.clock.monotonic() < self.lease_ends:
            return False
        self.held.flush()
        self.overslept = bool(self.held.tickets)
        return self.overslept

    def claim(self, cursor: Cursor | None) -> Page:
        """Take the next group; what was answered is settled in the same transaction."""
        asked = self.use.clock.monotonic()
        try:
            page = self._turned_over(cursor) or self._claimed(cursor)
        except StoreError:
            self.may_have_strays = True
            raise
        ends = asked + self.use.lease * LEASE_SHARE
        self.lease_ends = min(self.lease_ends, ends) if self.held.tickets else ends
        self.held.take_in(page.claimed)
        return page

    def _claimed(self, cursor: Cursor | None) -> Page:
        backlog = self.use.backlog
        if self.alone:
            return backlog.claim_alone(self.run.id, self.lane)
        return backlog.claim(self.run.id, self.lane, cursor, self.group_size)

    def _turned_over(self, cursor: Cursor | None) -> Page | None:
        if not (answers := self.held.answers):
            return None
        try:
            written, page = self.use.backlog.turn_over(self.run.id, self.lane, answers, cursor, self.group_size)
        except StoreError as error:
            log.warning("verdicts go before the next group: %s", error)
            self.may_have_strays = True
            self.held.flush()
            self.give_up_strays()
            return None
        self.held.settled(written)
        return page

    def give_up_strays(self) -> None:
        """Release what a claim took that was done although its answer was lost; the lease would be renewed for ever.

        Asked again at each return to the head: a commit may be on its way for as long as the connection dies.
        """
        if not self.may_have_strays:
            return
        try:
            strays = self.use.backlog.give_up_strays(self.run.id, self.lane, self.held.tickets.keys())
        except StoreError as error:
            log.warning("claims without an answer are not looked for now: %s", error)
            return
        if strays:
            log.warning("%d mails were claimed though no answer came, and are given back", strays)

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
        """Make the message of a mail; one that cannot be made is answered here."""
        ticket = self.held.tickets[mail.claim]
        ticket.attempts, ticket.earlier = mail.attempts, mail.earlier
        try:
            message = self.use.compose(mail)
        except CannotCompose as error:
            self.held.answer(uncomposable(mail.claim, error.errors, mail.earlier))
            return None
        ticket.on_wire = not self.strict
        return message

    # --- may it go on? ---

    def must_stop(self) -> bool:
        """Whether anything says that nothing more is to be begun."""
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
            self.held.flush()  # what is not settled is in doubt too
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
            self.held.tickets[claim].on_wire = True
        return granted

    def renew(self) -> None:
        """Prolong the leases of this lane; one that has ended stays so."""
        asked = self.use.clock.monotonic()
        self.use.backlog.renew(self.run.id, self.lane)
        if asked < self.lease_ends:
            self.lease_ends = asked + self.use.lease * LEASE_SHARE

    # --- what came of it ---

    def take(self, outcome: Outcome) -> None:
        """Judge an outcome, and keep the verdict until it is written."""
        ticket = self.held.tickets[outcome.claim]
        ticket.on_wire = False
        self.held.answer(
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
        self.held.flush_what_waits(nothing_follows=self.drained)

    def _blame(self, fault: RelayFault) -> Outcome:
        """A relay fault costs its mail nothing, until the mail itself looks like the cause."""
        log.info("given back: %s", public(fault.reason), extra=named(fault.claim))
        if self.strikes.fault(fault.claim.reservation_id if fault.in_dialogue else None) or fault.hopeless:
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
        """An answer ends the faults in a row, unless the relay took nothing for reasons of its own, or fell silent."""
        if (silence := answered.silence) is not None:
            if self.strikes.doubt() or self.probing:
                self.relay_gone = f"{answered.relay}: {one_line(str(silence))}"
        elif (reply := unwell(answered)) is not None:
            if self.strikes.fault() or self.probing:
                self.relay_gone = f"{answered.relay}: {one_line(str(reply))}"
        else:
            self.answered = True
            self.strikes.answered()


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
