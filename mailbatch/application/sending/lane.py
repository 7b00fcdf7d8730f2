"""One lane of a run while it works: a stream in one direction, from claimed groups to settled outcomes.

The transport pulls. Pulling a message claims the next group when the last one has been handed over, so the next group
is claimed and composed while the last is on the wire; what has been answered is settled with the claim of the next
group at the latest, so at most a group on the wire and a group ahead are unsettled.
"""

from __future__ import annotations

import logging
from collections import deque
from contextlib import closing
from typing import TYPE_CHECKING

from mailbatch.application.ports.sending import Nap
from mailbatch.application.sending.in_flight import InFlight
from mailbatch.application.sending.judge import Judge
from mailbatch.application.sending.pace import LONGEST_NAP
from mailbatch.domain.claimed import Page
from mailbatch.domain.errors import CannotCompose, RunFailed, StoreError
from mailbatch.domain.lifecycle import NO_VERDICT, quarantine_reason, released, uncomposable
from mailbatch.domain.redaction.lines import one_line
from mailbatch.domain.run import Counts, ItemError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from mailbatch.application.ports.runs import Run
    from mailbatch.application.sending.send_due import SendDue
    from mailbatch.domain.circuit import Circuit
    from mailbatch.domain.claimed import Claimed, ClaimedMail, Cursor, Without
    from mailbatch.domain.message import Claim, Message

log = logging.getLogger(__name__)

HEAD_EVERY = 5.0
"""Seconds after which the cursor returns to the head, where urgent mail may have come in."""
LEASE_SHARE = 0.9
"""The share of a lease after which its holder begins nothing more: clocks differ a little."""
BYTE_BUDGET = 4 * 1024 * 1024
"""Bytes of bodies that are loaded at once; a larger mail comes alone."""
PROBES_TO_CHOOSE_FROM = 16
"""Mails that are claimed at most to find one that was not the probe before."""


class Lane:
    """The state of a lane while it works: what it holds, and how far its lease reaches.

    ``probed``: the circuit of a relay that is to be tried with one mail only.
    """

    def __init__(self, use: SendDue, run: Run, lane: int, *, probed: Circuit | None = None) -> None:
        self.use = use
        self.run = run
        self.lane = lane
        self.probed = probed
        self.group_size = use.group_size
        self.strict = use.strict
        self.alone = False
        self.left = False
        self.held = InFlight(use.backlog, use.clock, use.lease, run, lane)
        self.lease_ends = float("inf")
        self.overslept = False
        self.drained = False
        self.judge = Judge(use, run, self.held, probed)
        self.pace = self.judge.pace
        self.broken: RunFailed | None = None
        self.may_have_orphans = False

    # --- the stream ---

    def work(self) -> None:
        """Send until nothing is due or the run must stop; raises ``RunFailed`` as ``SendDue`` says."""
        self.run.every(self.use.lease / 3, self.renew)
        if self.use.slots is not None:
            self.run.every(self.use.slots.renew_every, self.use.slots.renew)
        if self.use.watchdog is not None:
            self.use.watchdog.begin()
            self.run.every(self.use.watchdog.renew_every, self.use.watchdog.renew)
        try:
            while not self.must_stop() and self._pass() and not self.probed:
                pass
            self._one_by_one()
        except RunFailed as error:
            self.broken = self.broken or error
        finally:
            if self.use.watchdog is not None:
                self.use.watchdog.end()
            self.judge.end()
            unwritten = self.held.give_back()
            self.broken = self.broken or unwritten
            if unwritten is None:
                self.release_orphans()
        if self.broken is not None:
            raise self.broken
        if (outage := self.judge.outage) is not None:
            if self.use.guard is not None:
                self.use.guard.failed(outage, self.judge.heard, self.judge.paid, probed=self.probed is not None)
            raise RunFailed(outage.told())

    def _pass(self) -> bool:
        """Go through the backlog once; answer whether there is reason for another pass: mails that were given back."""
        self.overslept = self.drained = False
        self.judge.begin_pass()
        commit_intent = self.commit_intent if self.strict else None
        with closing(self.use.transport.send(self.messages(), self.may_send, commit_intent)) as outcomes:
            for outcome in outcomes:
                if outcome is None:
                    self.judge.look_at_the_time()
                    self.held.flush()
                    continue
                self.judge.take(outcome)
                self.held.flush_what_waits(nothing_follows=self.drained)
        self.judge.end_of_pass()
        self.held.flush()
        return self.judge.again or self.overslept

    def _one_by_one(self) -> None:
        """Send mails with which senders died, each with nothing beside it that could die with it, after all others.

        The intent to send them is committed late: so it is known whether one kills before it is on the wire.
        """
        self.alone = self.strict = True
        while self.left and not self.lane and not self.probed and not self.must_stop():
            if self._pass():
                return

    def messages(self) -> Iterator[Message | Nap]:
        """Pages, bodies, messages; each step only when the wire asks for it. Pauses, where the relay is slow.

        A fault of the database ends the stream instead of breaking through the transport: what is on the wire is to
        come back as outcomes first.
        """
        try:
            for page in self.pages():
                yield from (page,) if isinstance(page, Nap) else self.messages_of(page)
        except StoreError as error:
            self.broken = RunFailed(f"failed to find reservation mail list. err:{one_line(str(error))}")
        except RunFailed as error:
            self.broken = error
        finally:
            self.drained = True

    def messages_of(self, page: Page) -> Iterator[Message | Nap]:
        """The messages of a claimed group. If the relay is too slow for it, what is left of it is given back."""
        cuts = self.pace.cuts
        for mail in self.mails(page.claimed):
            if self.pace.limited and self.pace.cuts == cuts:
                yield from self.naps()
            if self.must_stop():
                return
            if self.pace.cuts != cuts or self.judge.is_put_back(mail):
                self.held.answer(released(mail.claim))
                continue
            message = self.composed(mail)
            del mail  # a fat one is not kept here while it is on the wire
            if message is not None:
                yield message

    def mails(self, claimed: Sequence[Claimed]) -> Iterator[ClaimedMail]:
        """The mails of a group, in order: those that came with their claims, and fat ones loaded by parts."""
        for part in within_budget(claimed, BYTE_BUDGET):
            fat = [c for c in part if c.mail is None]
            loaded = {mail.claim: mail for mail in self.use.backlog.load(fat)} if fat else {}
            mails = deque(mail for c in part if (mail := c.mail or loaded.pop(c.claim, None)) is not None)
            taken = {mail.claim for mail in mails}
            self.held.discard(c.claim for c in part if c.claim not in taken)
            while mails:
                yield mails.popleft()

    def naps(self) -> Iterator[Nap]:
        """Nap until the relay's rate allows another mail, in short naps, so that a stop is heard."""
        while (wait := self.pace.wait(self.use.clock.monotonic())) > 0 and not self.must_stop():
            yield Nap(min(wait, LONGEST_NAP))

    def pages(self) -> Iterator[Page | Nap]:
        """Claimed groups, by a cursor that returns to the head every few seconds and once at the end."""
        if self.alone:
            page = self.claim(None)
            self.left = bool(page.claimed)
            yield page
            return
        if self.probed is not None:
            yield from self.pages_of_the_probe(self.probed)
            return
        cursor: Cursor | None = None
        cuts = 0
        at_head = self.use.clock.monotonic()
        while not self.must_stop() and not self._has_overslept():
            if self.pace.limited:
                yield from self.naps()
            if cursor is not None and (self.use.clock.monotonic() - at_head > HEAD_EVERY or cuts != self.pace.cuts):
                cursor = None
            cuts = self.pace.cuts
            if from_head := cursor is None:
                at_head = self.use.clock.monotonic()
                self.held.flush()
                self.release_orphans()
                self.tidy()
            page = self.claim(cursor)
            if page.claimed:
                yield page
            elif from_head:
                self.left = page.left
                return
            cursor = page.cursor

    def pages_of_the_probe(self, circuit: Circuit) -> Iterator[Page]:
        """One mail at a time, until one could be composed and was handed over."""
        while not self.must_stop() and not self.judge.handed_to:
            page = self.page_of_the_probe(circuit)
            yield page
            if not page.claimed:
                return

    def page_of_the_probe(self, circuit: Circuit) -> Page:
        """Claim the mail that is to find out how the relay is: one that was not the probe before, if there is one."""
        suspects = circuit.suspects
        self.group_size = min(len(suspects) + 1, PROBES_TO_CHOOSE_FROM)
        claimed = self.claim(None).claimed
        if not claimed:
            return Page((), None)
        probe = min(claimed, key=lambda one: suspects.get(one.claim.reservation_id, -1))
        for one in claimed:
            if one is not probe:
                self.held.answer(released(one.claim))
        self.held.flush()
        return Page([probe], None)

    def _has_overslept(self) -> bool:
        """Whether the lease has ended while mails are on the wire: until they are answered all others would come back.

        The stream ends then, and the next pass begins with a lease of its own.
        """
        if self.use.clock.monotonic() < self.lease_ends:
            return False
        self.judge.end()
        self.held.flush()
        self.overslept = bool(self.held.tickets)
        return self.overslept

    def claim(self, cursor: Cursor | None) -> Page:
        """Take the next group; what was answered is settled in the same transaction."""
        asked = self.use.clock.monotonic()
        try:
            page = self._turned_over(cursor) or self._claimed(cursor)
        except StoreError:
            self.may_have_orphans = True
            raise
        ends = asked + self.use.lease * LEASE_SHARE
        self.lease_ends = min(self.lease_ends, ends) if self.held.tickets else ends
        self.held.add(page.claimed)
        return page

    def _claimed(self, cursor: Cursor | None) -> Page:
        backlog = self.use.backlog
        if self.alone:
            return backlog.claim_isolated(self.run.id, self.lane)
        return backlog.claim(self.run.id, self.lane, cursor, self._most(), *self._without())

    def _most(self) -> int:
        """How many mails to claim: less what waits to be judged, so that a crash leaves no more than the bound."""
        return self.pace.share(max(1, self.group_size - self.judge.waiting))

    def _without(self) -> tuple[Without, ...]:
        return () if self.judge.without is None else (self.judge.without,)

    def _turned_over(self, cursor: Cursor | None) -> Page | None:
        if not (answers := self.held.answers):
            return None
        try:
            written, page = self.use.backlog.settle_and_claim(
                self.run.id, self.lane, answers, cursor, self._most(), *self._without()
            )
        except StoreError as error:
            log.warning("verdicts go before the next group: %s", error)
            self.may_have_orphans = True
            self.held.flush()
            self.release_orphans()
            return None
        self.held.settled(written)
        return page

    def release_orphans(self) -> None:
        """Release what a claim took that was done although its answer was lost; the lease would be renewed for ever.

        Asked again at each return to the head: a commit may be on its way for as long as the connection dies.
        """
        if not self.may_have_orphans:
            return
        try:
            strays = self.use.backlog.release_orphans(self.run.id, self.lane, self.held.tickets.keys())
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
            self.run.count(Counts(failed=len(doubts.quarantined), in_doubt=doubts.resent + doubts.held))
            for index, reservation_id in doubts.doubtful:
                self.run.item_error(ItemError(index, reservation_id, (NO_VERDICT,)))
            for index, reservation_id in doubts.quarantined:
                self.run.item_error(ItemError(index, reservation_id, (quarantine_reason(self.use.retry.deaths),)))
            judged = doubts.released + doubts.resent + doubts.held + len(doubts.quarantined)
            if judged:
                log.warning(
                    "leases of a sender that died were resolved: %d had nothing on the wire, %d in doubt are sent "
                    "again, %d in doubt are held, %d killed each sender and have failed",
                    doubts.released,
                    doubts.resent,
                    doubts.held,
                    len(doubts.quarantined),
                )
            if judged < size:
                return

    def composed(self, mail: ClaimedMail) -> Message | None:
        """Make the message of a mail; one that cannot be made is answered here."""
        ticket = self.held.tickets[mail.claim]
        ticket.attempts, ticket.earlier = mail.attempts, mail.earlier
        ticket.tag, ticket.template = mail.tag, mail.mail.template
        try:
            message = self.use.compose(mail)
        except CannotCompose as error:
            self.held.answer(uncomposable(mail.claim, error.errors, mail.earlier))
            return None
        ticket.on_wire = not self.strict
        self.judge.handed_to = ticket.index
        if self.pace.limited:
            self.pace.handed(self.use.clock.monotonic())
        return message

    # --- may it go on? ---

    def must_stop(self) -> bool:
        """Whether anything says that nothing more is to be begun."""
        return self.judge.outage is not None or self.broken is not None or self.run.stop.reason() is not None

    def may_send(self) -> bool:
        """The last question before a mail's first byte, asked in the thread that writes it.

        The lease is measured on this machine's own clock: a holder that was frozen past it sends nothing more,
        even before it could learn that it has been replaced.
        """
        return not self.must_stop() and self.use.clock.monotonic() < self.lease_ends

    def commit_intent(self, claims: Sequence[Claim]) -> set[Claim]:
        """Say which mails' last bytes may go out, and commit before that they will.

        What is cut off before this was not sent; what is cut off after it is in doubt. A doubt about the commit itself
        is not: without an answer nothing goes out.
        """
        try:
            self.held.flush()  # what is not settled is in doubt too
            granted = self.use.backlog.commit_intent(self.run.id, claims) if self.may_send() else set()
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
