"""Judges faults of the relay: connections that cannot be opened, or that break."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from mailbatch.domain.circuit import Outage
from mailbatch.domain.outcome import Kind, RelayFault, Replied, Reply, Verdict
from mailbatch.domain.redaction.lines import one_line
from mailbatch.domain.reply_kinds import hinted, kind_of

if TYPE_CHECKING:
    from uuid import UUID

    from mailbatch.application.sending.relay_health.health import RelayHealth
    from mailbatch.domain.outcome import Outcome

FAULTS_OF_ONE_MAIL = 3
"""A mail is deferred if the relay failed this often in its dialogue in one run: the mail may be the cause."""


class Faults:
    """Counts the faults of a relay in a lane.

    ``has_next``: other relays take its mails while it is away. So one connection that cannot be opened is enough.
    """

    def __init__(self, health: RelayHealth, *, has_next: bool = False) -> None:
        self._health = health
        self._has_next = has_next
        self._in_dialogue_of: Counter[UUID] = Counter()
        self._last: RelayFault | None = None
        self._all_in_dialogues = True

    def begin_pass(self) -> None:
        """A pass through the backlog begins."""
        self._last, self._all_in_dialogues = None, True

    def take(self, fault: RelayFault) -> Outcome:
        """Count a fault. Return the outcome for its mail: a deferral if the mail itself looks like the cause."""
        mail = fault.claim.reservation_id
        self._last, self._all_in_dialogues = fault, self._all_in_dialogues and fault.in_dialogue
        is_away = self._health.failures.fault(mail if fault.in_dialogue else None)
        if is_away or fault.hopeless or (self._has_next and not fault.in_dialogue):
            self._health.failed(outage_of(fault))
        self._in_dialogue_of[mail] += fault.in_dialogue
        if fault.in_dialogue and self._in_dialogue_of[mail] >= FAULTS_OF_ONE_MAIL:
            text = f"the relay broke {FAULTS_OF_ONE_MAIL} times in this mail's dialogue: {fault.reason}"
            return deferred(fault, Reply(421, text))
        return fault

    def end_pass(self, *, has_reply: bool) -> None:
        """Count the relay as away if this pass had a fault outside of a mail's dialogue, and no reply to any mail."""
        if self._last is not None and not has_reply and not self._all_in_dialogues:
            self._health.failed(outage_of(self._last))


def deferred(outcome: Replied | RelayFault, reply: Reply) -> Replied:
    """Return the outcome of the same mail as if the relay had deferred it with ``reply``."""
    return Replied(outcome.claim, outcome.relay, {"": Verdict(Kind.DEFERRED, reply)})


def outage_of(fault: RelayFault) -> Outage:
    """Return the outage that a fault shows: the relay cannot be reached, or refuses us before any mail."""
    reason = one_line(fault.reason)
    if fault.reply is None or not kind_of(fault.reply).holds:
        return Outage(relay=fault.relay, reason=reason, asked=hinted(Reply(0, fault.reason)))
    found = Outage.of_reply(fault.relay, fault.reply)
    return Outage(relay=fault.relay, reason=reason, concern=found.concern, asked=found.asked, least=found.least)
