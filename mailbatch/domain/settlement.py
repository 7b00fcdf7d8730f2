"""What is written for a claim when its attempt has ended: the event, and what the relay said."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING

from mailbatch.domain.lifecycle import TABLE, Attempts, Event, replied
from mailbatch.domain.outcome import ContentFault, Kind, NotSent, RelayFault, Replied
from mailbatch.domain.reservation import Status

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from mailbatch.domain.gate import NotBefore
    from mailbatch.domain.lifecycle import OnDoubt
    from mailbatch.domain.message import Claim
    from mailbatch.domain.outcome import Outcome, Reply, Verdict
    from mailbatch.domain.retry import RetryPolicy


AWAY_FOR = 240.0
"""Seconds for which a mail waits for a folder that is away: until the next tick of the default schedule.

It is longer than most runs, because a run would claim and put back the same mails again and again.
"""


class Tally(StrEnum):
    """The column of the run's report in which a mail is counted."""

    SENT = "sent"
    FAILED = "failed"
    DEFERRED = "deferred"
    IN_DOUBT = "in_doubt"
    HELD_BACK = "held_back"
    RELEASED = "released"
    """In no column: the mail was given back, and is part of ``remaining``."""


_TALLIES = {
    Event.ACCEPTED: Tally.SENT,
    Event.DEFERRED: Tally.DEFERRED,
    Event.EXHAUSTED: Tally.FAILED,
    Event.REJECTED: Tally.FAILED,
    Event.UNCOMPOSABLE: Tally.FAILED,
    Event.NO_VERDICT_RESEND: Tally.IN_DOUBT,
    Event.NO_VERDICT_HOLD: Tally.IN_DOUBT,
    Event.PUT_BACK: Tally.RELEASED,
    Event.RELEASED: Tally.RELEASED,
    Event.HELD_BACK: Tally.HELD_BACK,
    Event.PACED: Tally.RELEASED,
}
_STATUSES = {event: TABLE[event][Status.SENDING].status for event in _TALLIES}
_ATTEMPTED = {event for event in _TALLIES if TABLE[event][Status.SENDING].attempts is Attempts.USE}


@dataclass(frozen=True, slots=True, kw_only=True)
class Settlement:
    """What is written for one claim.

    ``retry_in``: seconds from now until the mail is due again. ``waits_for``: why a gate holds the mail back; without
    ``retry_in`` it stays so until the gate opens. ``verdicts``: by recipient, kept only where they differ;
    None keeps the stored ones unless an attempt was used. ``index``: the item index of its error in the run's report.
    """

    claim: Claim
    event: Event
    retry_in: float | None = None
    waits_for: str | None = None
    reply: Reply | None = None
    relay: str | None = None
    errors: tuple[str, ...] = ()
    verdicts: Mapping[str, Verdict] | None = None
    index: int | None = None

    @property
    def status(self) -> Status:
        """The state in which the mail is when this is written."""
        return _STATUSES[self.event]

    @property
    def tally(self) -> Tally:
        """How the run counts it."""
        return _TALLIES[self.event]

    @property
    def attempted(self) -> bool:
        """Whether an attempt was used."""
        return self.event in _ATTEMPTED


def settle(
    outcome: Outcome,
    *,
    attempts: int,
    earlier: Mapping[str, Verdict],
    retry: RetryPolicy,
    on_doubt: OnDoubt,
    jitter: float,
) -> Settlement:
    """Return the settlement for ``outcome``. Its mail had used ``attempts`` attempts before.

    ``earlier`` holds the verdicts of recipients that accepted it in an earlier attempt. ``jitter`` is in [0, 1).
    """
    match outcome:
        case Replied(claim, relay, verdicts):
            event = replied({v.kind for v in verdicts.values()}, attempts + 1, retry, on_doubt)
            together = {**earlier, **verdicts} if earlier else verdicts
            if event is Event.ACCEPTED:
                reply = next(iter(together.values())).reply
                return Settlement(claim=claim, event=event, reply=reply, relay=relay)
            if event is Event.PUT_BACK:
                return replace(put_back(claim, relay, _first_deferral(verdicts)), verdicts=together)
            wait = _wait(event, together, attempts + 1, retry, jitter)
            return _not_accepted(event, claim, relay, together, attempts + 1, wait)
        case RelayFault(claim, relay, reason):
            return Settlement(claim=claim, event=Event.PUT_BACK, relay=relay, errors=(reason,))
        case ContentFault(claim, _, reason):
            return put_off(claim, [reason], earlier)
        case NotSent(claim):
            return released(claim)


def put_back(claim: Claim, relay: str, reply: Reply) -> Settlement:
    """Return the settlement that makes a mail pending again because of ``reply``, and costs it no attempt.

    The relay's ``reply`` was not meant for this mail.
    """
    return Settlement(claim=claim, event=Event.PUT_BACK, relay=relay, errors=(str(reply),))


def released(claim: Claim) -> Settlement:
    """Return the settlement that makes a mail pending again as if it was not claimed: no byte of it was sent."""
    return Settlement(claim=claim, event=Event.RELEASED)


def held_back(claim: Claim, answer: NotBefore, now: datetime, *, soon: bool = False) -> Settlement:
    """Return the settlement that makes a mail pending until a gate lets it go. It costs no attempt.

    ``soon``: the same run sends it, so it is not counted as held back.
    """
    seconds = None if answer.at is None else max(0.0, (answer.at - now).total_seconds())
    event = Event.PACED if soon else Event.HELD_BACK
    return Settlement(claim=claim, event=event, retry_in=seconds, waits_for=answer.reason)


def in_line(claim: Claim, relay: str, seconds: float) -> Settlement:
    """Return the settlement of a mail whose ``relay`` cannot take it now. It is due again after so many ``seconds``."""
    return Settlement(
        claim=claim, event=Event.PACED, retry_in=seconds, waits_for=f"the relay {relay} takes no more now"
    )


def uncomposable(claim: Claim, errors: Sequence[str], earlier: Mapping[str, Verdict]) -> Settlement:
    """Return the settlement of a mail that cannot be composed: it fails, with every reason found.

    The verdicts of recipients that accepted it ``earlier`` are kept: a requeue must not send it to them again.
    """
    return Settlement(claim=claim, event=Event.UNCOMPOSABLE, errors=tuple(errors), verdicts=earlier or None)


def unavailable(
    claim: Claim,
    errors: Sequence[str],
    earlier: Mapping[str, Verdict],
    *,
    attempts: int,
    retry: RetryPolicy,
    jitter: float,
) -> Settlement:
    """Return the settlement of a mail whose message or file cannot be stored or read now: it is deferred.

    It had used ``attempts`` attempts before. If this was the last one, it fails. The verdicts of recipients that
    accepted it ``earlier`` are kept.
    """
    event = Event.EXHAUSTED if retry.exhausted(attempts + 1) else Event.DEFERRED
    if event is Event.EXHAUSTED:
        errors = [*errors, f"all {attempts + 1} attempts are used up"]
    return Settlement(
        claim=claim,
        event=event,
        retry_in=retry.delay(attempts + 1, jitter) if event is Event.DEFERRED else None,
        errors=tuple(errors),
        verdicts=earlier or None,
    )


def put_off(claim: Claim, errors: Sequence[str], earlier: Mapping[str, Verdict]) -> Settlement:
    """Return the settlement that makes a mail pending again because something that mails share is away.

    It costs no attempt. It is due again after ``AWAY_FOR``. The verdicts of recipients that accepted it ``earlier`` are
    kept.
    """
    return Settlement(
        claim=claim, event=Event.PUT_BACK, retry_in=AWAY_FOR, errors=tuple(errors), verdicts=earlier or None
    )


def _first_deferral(verdicts: Mapping[str, Verdict]) -> Reply:
    return next(v.reply for v in verdicts.values() if v.kind is Kind.DEFERRED)


def _wait(
    event: Event, verdicts: Mapping[str, Verdict], attempts: int, retry: RetryPolicy, jitter: float
) -> float | None:
    """Return the seconds until the next attempt, None if there is none."""
    match event:
        case Event.NO_VERDICT_RESEND:
            return retry.delay(attempts, jitter)
        case Event.DEFERRED:
            # The next attempt goes to all recipients that are left: it waits until the last of them may be asked.
            deferred = (v.reply for v in verdicts.values() if v.kind is Kind.DEFERRED)
            return max(retry.delay_after(reply, attempts, jitter) for reply in deferred)
        case _:
            return None


def _not_accepted(
    event: Event, claim: Claim, relay: str, verdicts: Mapping[str, Verdict], attempts: int, retry_in: float | None
) -> Settlement:
    kinds = [v.kind for v in verdicts.values()]
    refused = {to: v.reply for to, v in verdicts.items() if v.kind is not Kind.ACCEPTED}
    errors = [f"{to}: {reply}" if len(verdicts) > 1 else str(reply) for to, reply in refused.items()]
    if event is Event.EXHAUSTED:
        errors.append(f"all {attempts} attempts are used up")
    accepted = kinds.count(Kind.ACCEPTED)
    if accepted and event in {Event.EXHAUSTED, Event.REJECTED}:
        errors.append(f"{accepted} of {len(kinds)} recipients got it")
    return Settlement(
        claim=claim,
        event=event,
        retry_in=retry_in,
        reply=next(iter(refused.values())),
        relay=relay,
        errors=tuple(dict.fromkeys(errors)),
        verdicts=verdicts if len(set(kinds)) > 1 else None,
    )
