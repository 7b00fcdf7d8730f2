"""The table that decides what becomes of a reservation: for each event, the states that it changes and how.

Adapters build their statements from this table, fakes follow it, and docs/reference/states.md is generated from it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Self

from mailbatch.domain.outcome import Kind
from mailbatch.domain.reservation import FINISHED, Status
from mailbatch.domain.retry import ALONE_AFTER

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from mailbatch.domain.retry import RetryPolicy


class OnDoubt(StrEnum):
    """The policy for a mail that the relay may or may not have accepted."""

    RESEND = "resend"
    """Send it again with the same Message-ID: at least once."""
    HOLD = "hold"
    """Leave it in doubt for an operator: at most once."""


class Event(StrEnum):
    """What can happen to a reservation. ``text`` describes it to a reader of docs/reference/states.md."""

    text: str

    def __new__(cls, value: str, text: str) -> Self:
        """Make a member from its name and its description."""
        event = str.__new__(cls, value)
        event._value_ = value
        event.text = text
        return event

    CLAIM = "claim", "claimed by a lane when it is due, under a lease"

    # The attempt ended with an outcome.
    ACCEPTED = "accepted", "250 for every recipient"
    DEFERRED = "deferred", "4xx to this mail, or a file of its own cannot be read"
    EXHAUSTED = "exhausted", "4xx, or a file that cannot be read, at its last attempt"
    REJECTED = "rejected", "5xx to this mail"
    UNCOMPOSABLE = "uncomposable", "it cannot be composed"
    NO_VERDICT_RESEND = "no_verdict_resend", "no verdict, policy resend"
    NO_VERDICT_HOLD = "no_verdict_hold", "no verdict, policy hold or its last attempt"
    PUT_BACK = (
        "put_back",
        "the relay's fault, rate or quota, a folder or disk away, or only some recipients deferred",
    )
    RELEASED = "released", "the run was stopped before its turn"
    HELD_BACK = "held_back", "a gate lets it go only after the next tick"
    PACED = "paced", "a gate lets it go later in the run"

    # The lease ended: the sender died, or the database was away for too long.
    CRASHED = "crashed", "its sending process died before the last bytes were sent"
    CRASHED_ALONE = "crashed_alone", "its sending process died before the last bytes were sent, and had claimed only it"
    QUARANTINED = "quarantined", "MAX_ATTEMPTS sending processes in a row died before the last bytes were sent"

    # Its time passed, or an operator acted.
    EXPIRE = "expire", "expires_at or MAX_LATENESS passed"
    CANCEL = "cancel", "cancel"
    REQUEUE = "requeue", "requeue"
    RESTORE = "restore", "restore"
    RESOLVE = "resolve", "resolve --sent"
    DELETE = "delete", "delete or purge"


class Attempts(StrEnum):
    """How an event changes the number of attempts used."""

    KEEP = "no"
    USE = "yes"
    """One more."""
    COUNTED = "counted already"
    """At least one: the attempt was counted when its lease ended, but a requeue may have reset the number since."""
    RESET = "set to 0"


@dataclass(frozen=True, slots=True, kw_only=True)
class Transition:
    """One cell of the table: what an event makes of a reservation.

    ``sets_error``: ``last_error`` becomes what the event says, or empty; otherwise it stays. ``unless_expired``: only
    until ``expires_at`` has passed. ``deletes``: the row is removed; ``status`` was its last.
    """

    status: Status
    attempts: Attempts = Attempts.KEEP
    sets_error: bool = False
    unless_expired: bool = False
    deletes: bool = False

    @property
    def finished(self) -> bool:
        """Whether ``finished_at`` is set."""
        return self.status in FINISHED


_TO_PENDING = Transition(status=Status.PENDING)
_TO_PENDING_AGAIN = Transition(status=Status.PENDING, attempts=Attempts.USE, sets_error=True)
_TO_FAILED = Transition(status=Status.FAILED, attempts=Attempts.USE, sets_error=True)
_ACCEPTED_LATE = Transition(status=Status.SENT, attempts=Attempts.COUNTED, sets_error=True)
_REQUEUED = Transition(status=Status.PENDING, attempts=Attempts.RESET, unless_expired=True)

TABLE: Mapping[Event, Mapping[Status, Transition]] = {
    Event.CLAIM: {Status.PENDING: Transition(status=Status.SENDING, unless_expired=True)},
    Event.ACCEPTED: {
        Status.SENDING: Transition(status=Status.SENT, attempts=Attempts.USE, sets_error=True),
        # The reply came after the lease had ended. The relay did accept the mail: this counts until the next claim.
        Status.PENDING: _ACCEPTED_LATE,
        Status.IN_DOUBT: _ACCEPTED_LATE,
    },
    Event.DEFERRED: {Status.SENDING: _TO_PENDING_AGAIN},
    Event.EXHAUSTED: {Status.SENDING: _TO_FAILED},
    Event.REJECTED: {Status.SENDING: _TO_FAILED},
    Event.UNCOMPOSABLE: {Status.SENDING: _TO_FAILED},
    Event.NO_VERDICT_RESEND: {Status.SENDING: _TO_PENDING_AGAIN},
    Event.NO_VERDICT_HOLD: {Status.SENDING: Transition(status=Status.IN_DOUBT, attempts=Attempts.USE, sets_error=True)},
    Event.PUT_BACK: {Status.SENDING: Transition(status=Status.PENDING, sets_error=True)},
    Event.RELEASED: {Status.SENDING: _TO_PENDING},
    Event.HELD_BACK: {Status.SENDING: _TO_PENDING},
    Event.PACED: {Status.SENDING: _TO_PENDING},
    Event.CRASHED: {Status.SENDING: _TO_PENDING},
    Event.CRASHED_ALONE: {Status.SENDING: Transition(status=Status.PENDING, attempts=Attempts.USE)},
    Event.QUARANTINED: {Status.SENDING: _TO_FAILED},
    Event.EXPIRE: {Status.PENDING: Transition(status=Status.EXPIRED, sets_error=True)},
    Event.CANCEL: {Status.PENDING: Transition(status=Status.CANCELLED)},
    Event.REQUEUE: dict.fromkeys((Status.FAILED, Status.IN_DOUBT, Status.CANCELLED), _REQUEUED),
    Event.RESTORE: {Status.CANCELLED: _REQUEUED},
    Event.RESOLVE: {Status.IN_DOUBT: Transition(status=Status.SENT)},
    Event.DELETE: {status: Transition(status=status, deletes=True) for status in Status if status in FINISHED},
}
"""An event changes nothing in a state that it does not name."""


def sources(event: Event) -> frozenset[Status]:
    """Return the states that ``event`` changes."""
    return frozenset(TABLE[event])


def transition(event: Event) -> Transition:
    """Return what ``event`` does, if that is the same in each state that it changes; else raise ``ValueError``."""
    (only,) = set(TABLE[event].values())
    return only


def blocked_by_expiry(event: Event) -> bool:
    """Whether ``event`` changes nothing once ``expires_at`` has passed."""
    return any(change.unless_expired for change in TABLE[event].values())


REQUEUABLE = sources(Event.REQUEUE)
"""States from which an operator may send a reservation back to pending."""


# --- which event it was -----------------------------------------------------------------------------------------------


def replied(kinds: Collection[Kind], attempts: int, retry: RetryPolicy, on_doubt: OnDoubt) -> Event:
    """Return what the relay's verdicts on the recipients mean for their mail.

    ``kinds``: those of this attempt only; who accepted the mail earlier is not asked again. ``attempts`` includes this
    one.
    """
    if Kind.NO_VERDICT in kinds:
        return no_verdict(attempts, retry, on_doubt)
    if Kind.DEFERRED in kinds:
        # Each such attempt has fewer recipients left: asking again at once comes to an end, and needs no attempt.
        if Kind.ACCEPTED in kinds:
            return Event.PUT_BACK
        return Event.EXHAUSTED if retry.exhausted(attempts) else Event.DEFERRED
    return Event.REJECTED if Kind.REJECTED in kinds else Event.ACCEPTED


def no_verdict(attempts: int, retry: RetryPolicy, on_doubt: OnDoubt) -> Event:
    """Return what a mail without a verdict meets. ``attempts`` includes this one."""
    held = on_doubt is OnDoubt.HOLD or retry.exhausted(attempts)
    return Event.NO_VERDICT_HOLD if held else Event.NO_VERDICT_RESEND


def lease_ended(*, on_wire: bool, deaths: int, attempts: int, retry: RetryPolicy, on_doubt: OnDoubt) -> Event:
    """Return what the end of a lease means for its mail.

    ``on_wire``: its bytes may have gone out. ``deaths``: how many senders in a row died while they held it.
    ``deaths`` and ``attempts`` include this one.
    """
    if on_wire:
        return no_verdict(attempts, retry, on_doubt)
    if deaths >= retry.deaths:
        return Event.QUARANTINED
    return Event.CRASHED_ALONE if deaths > ALONE_AFTER else Event.CRASHED


# --- what last_error says of it ---------------------------------------------------------------------------------------

NO_VERDICT = "no verdict: the sender stopped while the mail may have been on the wire"
EXPIRED = "expires_at has passed"


def lease_error(event: Event, retry: RetryPolicy) -> str:
    """Return what ``event``, the end of a lease, writes where it sets ``last_error``."""
    return quarantine_reason(retry.deaths) if event is Event.QUARANTINED else NO_VERDICT


def late_reason(max_lateness: float) -> str:
    """Return why a mail expires that was due for longer than ``max_lateness`` seconds."""
    return f"due for longer than MAX_LATENESS ({max_lateness:g} s)"


def quarantine_reason(deaths: int) -> str:
    """Return why a mail fails that killed ``deaths`` senders in a row."""
    return f"set aside: {deaths} senders in a row died while they held it, the last of them with nothing else at hand"
