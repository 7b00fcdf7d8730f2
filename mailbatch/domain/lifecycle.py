"""What an outcome makes of a reservation: the one place where the states' arrows are decided."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING

from mailbatch.domain.outcome import Kind, NotSent, RelayFault, Replied, Reply, Verdict
from mailbatch.domain.reservation import Status

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mailbatch.domain.message import Claim
    from mailbatch.domain.outcome import Outcome
    from mailbatch.domain.retry import RetryPolicy


NO_VERDICT = "no verdict: the sender stopped while the mail may have been on the wire"
CRASHED = "crashed"
"""The outcome of an attempt whose sender died before anything of it was on the wire."""


def quarantine_reason(deaths: int) -> str:
    """Why a mail fails that kills whoever takes it."""
    return f"set aside: {deaths} senders in a row died while they held it, the last of them with nothing else at hand"


class OnDoubt(StrEnum):
    """What becomes of a mail that may or may not have been taken."""

    RESEND = "resend"
    """Send it again with the same Message-ID: at least once."""
    HOLD = "hold"
    """Leave it in doubt for an operator: at most once."""


class Tally(StrEnum):
    """Under which head of the run report a mail is counted."""

    SENT = "sent"
    FAILED = "failed"
    DEFERRED = "deferred"
    IN_DOUBT = "in_doubt"
    RELEASED = "released"
    """Given back untouched: in no column of the report, part of ``remaining``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settlement:
    """What is written for one claim.

    ``retry_in``: seconds from now until it is due again. ``verdicts``: by recipient, kept only where they differ.
    Without them, what was kept stays. ``attempted``: whether an attempt was used up. ``index``: under which the report
    of the run names it, if it does.
    """

    claim: Claim
    status: Status
    tally: Tally
    attempted: bool = False
    retry_in: float | None = None
    reply: Reply | None = None
    relay: str | None = None
    errors: tuple[str, ...] = ()
    verdicts: Mapping[str, Verdict] | None = None
    index: int | None = None


def settle(
    outcome: Outcome,
    *,
    attempts: int,
    earlier: Mapping[str, Verdict],
    retry: RetryPolicy,
    on_doubt: OnDoubt,
    jitter: float,
) -> Settlement:
    """Decide what ``outcome`` makes of a mail that had used ``attempts`` before.

    ``earlier`` holds the verdicts of recipients that accepted it in an earlier attempt.
    """
    match outcome:
        case NotSent(claim):
            return released(claim)
        case RelayFault(claim, relay, reason):
            return Settlement(claim=claim, status=Status.PENDING, tally=Tally.RELEASED, relay=relay, errors=(reason,))
        case Replied(claim, relay, verdicts):
            together = {**earlier, **verdicts} if earlier else verdicts
            if all(v.kind is Kind.ACCEPTED for v in together.values()):
                reply = next(iter(together.values())).reply
                return Settlement(
                    claim=claim, status=Status.SENT, tally=Tally.SENT, attempted=True, reply=reply, relay=relay
                )
            if _goes_on(verdicts):
                # Somebody new took it, so that asking at once for the others comes to an end, and costs no attempt.
                return replace(put_back(claim, relay, _first_deferral(verdicts)), verdicts=together)
            return _judge(claim, relay, together, attempts + 1, retry, on_doubt, jitter)


def _goes_on(verdicts: Mapping[str, Verdict]) -> bool:
    kinds = {v.kind for v in verdicts.values()}
    return Kind.ACCEPTED in kinds and Kind.DEFERRED in kinds and Kind.NO_VERDICT not in kinds


def _first_deferral(verdicts: Mapping[str, Verdict]) -> Reply:
    return next(v.reply for v in verdicts.values() if v.kind is Kind.DEFERRED)


def put_back(claim: Claim, relay: str, reply: Reply) -> Settlement:
    """Give a claim back at once and without an attempt, with what the relay said, because it was not this mail's."""
    return Settlement(claim=claim, status=Status.PENDING, tally=Tally.RELEASED, relay=relay, errors=(str(reply),))


def released(claim: Claim) -> Settlement:
    """Give a claim back untouched: nothing of it was on the wire."""
    return Settlement(claim=claim, status=Status.PENDING, tally=Tally.RELEASED)


def uncomposable(claim: Claim, errors: Sequence[str], earlier: Mapping[str, Verdict]) -> Settlement:
    """A mail that cannot be composed fails at once, with every reason found; who took it ``earlier`` is not forgotten.

    Else a requeue, once it is mended, would send it to them again.
    """
    return Settlement(
        claim=claim,
        status=Status.FAILED,
        tally=Tally.FAILED,
        attempted=True,
        errors=tuple(errors),
        verdicts=earlier or None,
    )


def _judge(
    claim: Claim,
    relay: str,
    verdicts: Mapping[str, Verdict],
    attempts: int,
    retry: RetryPolicy,
    on_doubt: OnDoubt,
    jitter: float,
) -> Settlement:
    """Not everybody took it. Any recipient without verdict: in doubt; else any deferred: again; else failed."""
    kinds = [v.kind for v in verdicts.values()]
    used_up = retry.exhausted(attempts)
    refused = {to: v.reply for to, v in verdicts.items() if v.kind is not Kind.ACCEPTED}
    errors = [f"{_named(to, verdicts)}{reply}" for to, reply in refused.items()]
    status, tally, retry_in = Status.FAILED, Tally.FAILED, None
    if Kind.NO_VERDICT in kinds:
        held = on_doubt is OnDoubt.HOLD or used_up
        status, tally = (Status.IN_DOUBT if held else Status.PENDING), Tally.IN_DOUBT
        retry_in = None if held else retry.delay(attempts, jitter)
    elif Kind.DEFERRED in kinds and not used_up:
        status, tally = Status.PENDING, Tally.DEFERRED
        # One mail goes to all who are left: not before the last of them may be asked again.
        retry_in = max(
            retry.delay_after(v.reply, attempts, jitter) for v in verdicts.values() if v.kind is Kind.DEFERRED
        )
    else:
        if Kind.DEFERRED in kinds:
            errors.append(f"all {attempts} attempts are used up")
        if accepted := kinds.count(Kind.ACCEPTED):
            errors.append(f"{accepted} of {len(kinds)} recipients got it")
    return Settlement(
        claim=claim,
        status=status,
        tally=tally,
        attempted=True,
        retry_in=retry_in,
        reply=next(iter(refused.values())),
        relay=relay,
        errors=tuple(dict.fromkeys(errors)),
        verdicts=verdicts if len(set(kinds)) > 1 else None,
    )


def _named(recipient: str, verdicts: Mapping[str, Verdict]) -> str:
    """With several recipients an error says whose it is; with one that is plain."""
    return f"{recipient}: " if len(verdicts) > 1 else ""
