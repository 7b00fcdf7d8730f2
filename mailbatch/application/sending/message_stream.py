"""The second step of sending: makes messages of claimed groups."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mailbatch.application.ports.sending import Nap
from mailbatch.domain.errors import CannotCompose, ContentUnavailable, ResourceAway, RunFailed, StoreError
from mailbatch.domain.redaction.lines import one_line
from mailbatch.domain.settlement import released, uncomposable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from mailbatch.application.ports.sending import Backlog, Composer
    from mailbatch.application.sending.gates.gates import Gates
    from mailbatch.application.sending.in_flight import InFlight
    from mailbatch.application.sending.lane_stop import LaneStop
    from mailbatch.application.sending.put_off_mails import PutOffMails
    from mailbatch.application.sending.relay_health.allowance import Allowance
    from mailbatch.application.sending.relay_health.own_verdict import OwnVerdict
    from mailbatch.application.sending.relay_health.permanent_refusals import PermanentRefusals
    from mailbatch.application.sending.relay_health.throttling import Throttling
    from mailbatch.domain.claimed import Claimed, ClaimedMail, Page
    from mailbatch.domain.message import Claim, Message

BYTE_BUDGET = 4 * 1024 * 1024
"""Bytes of bodies that are loaded at once; a larger mail is loaded alone."""


@dataclass(slots=True, kw_only=True)
class MessageStream:
    """Loads and composes the mails of one lane, each only when the transport asks for it.

    ``has_ended``: no message follows in this pass.
    """

    backlog: Backlog
    compose: Composer
    stop: LaneStop
    in_flight: InFlight
    throttling: Throttling
    allowance: Allowance | None
    refusals: PermanentRefusals
    gates: Gates | None
    own: OwnVerdict
    put_off: PutOffMails
    has_ended: bool = field(default=False, init=False)

    def messages(self, groups: Iterable[Page | Nap], *, late_intent: bool) -> Iterator[Message | Nap]:
        """Yield the messages of ``groups``, and the naps between them.

        ``late_intent``: a message is on the wire from when the intent to send it is committed, not from its yield.

        A failure of the database ends the stream and goes to ``LaneStop``. It is not raised here, because what is on
        the wire must come back as outcomes first.
        """
        self.has_ended = False
        try:
            for group in groups:
                if isinstance(group, Nap):
                    yield group
                else:
                    yield from self._messages_of(group, on_wire=not late_intent)
        except StoreError as error:
            failure = RunFailed(f"failed to find reservation mail list. err:{one_line(str(error))}")
            self.stop.database_failed(failure)
        except RunFailed as error:
            self.stop.database_failed(error)
        finally:
            self.has_ended = True

    def _messages_of(self, group: Page, *, on_wire: bool) -> Iterator[Message | Nap]:
        """Yield the messages of one group. If the relay turns out too slow for it, the rest of it is released."""
        pace = self.throttling.pace
        cuts = pace.cuts
        for mail in self._mails(group.claimed):
            if pace.limited and pace.cuts == cuts:
                yield from self.throttling.naps()
            if self.allowance is not None and not self.stop.is_set():
                yield from self.allowance.naps(mail)
            if self.stop.is_set():
                return
            if pace.cuts != cuts or self.refusals.puts_back(mail):
                self.in_flight.decide(released(mail.claim))
                continue
            message = self._composed(mail, on_wire=on_wire)
            del mail  # a large one is not kept here while it is on the wire
            if message is not None:
                yield message

    def _mails(self, claimed: Sequence[Claimed]) -> Iterator[ClaimedMail]:
        """Yield the mails of a group in order: small ones came with their claims, large ones are loaded in parts."""
        for part in within_budget(claimed, BYTE_BUDGET):
            large = [c for c in part if c.mail is None]
            loaded = {mail.claim: mail for mail in self.backlog.load(large)} if large else {}
            self.in_flight.discard(c.claim for c in large if c.claim not in loaded)
            there = [c for c in part if c.mail is not None or c.claim in loaded]
            for c in there if self.gates is None else self._let_through(self.gates, there, loaded):
                yield c.mail or loaded.pop(c.claim)  # no name holds a large one while it is on the wire

    def _let_through(
        self, gates: Gates, part: Sequence[Claimed], loaded: dict[Claim, ClaimedMail]
    ) -> Iterator[Claimed]:
        """Yield those of ``part`` that may go. What a gate holds back is put back with its reason."""
        asked_at, held = gates.clock.monotonic(), gates.ask([c.mail or loaded[c.claim] for c in part])
        for position, c in enumerate(part):
            if gates.is_old(asked_at):  # the mail before has waited for the relay
                asked_at = gates.clock.monotonic()
                held = gates.ask([one.mail or loaded[one.claim] for one in part[position:]])
            if c.claim in held:
                self.in_flight.decide(held[c.claim])
                loaded.pop(c.claim, None)
            else:
                yield c

    def _composed(self, mail: ClaimedMail, *, on_wire: bool) -> Message | None:
        """Compose a mail. One that cannot be composed has failed or waits, and the next one follows."""
        held = self.in_flight.mails[mail.claim]
        held.attempts, held.earlier = mail.attempts, mail.earlier
        held.tag, held.template = mail.tag, mail.mail.template
        try:
            message = self.compose(mail)
        except ResourceAway as error:
            self.in_flight.decide(self.put_off.settle(mail.claim, error.errors, mail.earlier))
            return None
        except ContentUnavailable as error:
            self.in_flight.decide(self.own.defer_unavailable(mail.claim, error.errors, held))
            return None
        except CannotCompose as error:
            self.in_flight.decide(uncomposable(mail.claim, error.errors, mail.earlier))
            return None
        held.on_wire = on_wire
        self.throttling.handed_over(held.index)
        return message


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
