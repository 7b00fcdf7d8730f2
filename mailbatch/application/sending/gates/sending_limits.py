"""The gate of limits: some mails go at a rate only, for example those to one domain."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING

from mailbatch.domain.gate import NotBefore
from mailbatch.domain.rate import Asked

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from datetime import datetime

    from mailbatch.application.ports.gating import RateLimits
    from mailbatch.domain.claimed import ClaimedMail
    from mailbatch.domain.message import Claim
    from mailbatch.domain.rate import Grant
    from mailbatch.domain.sending_limit import SendingLimit
    from mailbatch.domain.traits import Traits


@dataclass(slots=True)
class _Bucket:
    """The mails of a group that count in one bucket: each with for how many it counts."""

    limit: SendingLimit
    mails: list[tuple[Claim, int]] = field(default_factory=list)
    waited: int = 0

    def add(self, mail: ClaimedMail, weight: int) -> None:
        """Add a mail. One that was claimed before was put back then, so it goes before the others."""
        if mail.claim.claim_no > 1:
            self.mails.insert(self.waited, (mail.claim, weight))
            self.waited += 1
        else:
            self.mails.append((mail.claim, weight))

    def asked(self, key: str) -> Asked:
        weights = tuple(weight for _, weight in self.mails)
        return Asked(limit=f"limit:{key}", rates=self.limit.rates, weights=weights, waited=self.waited)


@dataclass(slots=True)
class SendingLimits:
    """The port ``Gate``: a mail that its limits do not let go now gets a place along the rate.

    Of several limits the strictest decides. ``traits`` reads from a mail what limits look at. A mail counts once,
    however often the gate is asked before it goes.
    """

    limits: Sequence[SendingLimit]
    rate_limits: RateLimits
    traits: Callable[[ClaimedMail], Traits]
    _answers: dict[Claim, NotBefore | None] = field(default_factory=dict, init=False)
    """What was said of the mails of the last question."""

    def ask(self, mails: Sequence[ClaimedMail], now: datetime) -> Mapping[Claim, NotBefore]:
        """Return the mails that must wait for their place; see the port."""
        known = self._answers
        new = self._judge([mail for mail in mails if mail.claim not in known], now)
        self._answers = {mail.claim: new.get(mail.claim, known.get(mail.claim)) for mail in mails}
        return {claim: answer for claim, answer in self._answers.items() if answer is not None}

    def _judge(self, mails: Sequence[ClaimedMail], now: datetime) -> Mapping[Claim, NotBefore]:
        buckets = self._buckets(mails)
        if not buckets:
            return {}
        asked = [bucket.asked(key) for key, bucket in buckets.items()]
        granted = self.rate_limits.take(asked)
        held: dict[Claim, NotBefore] = {}
        for bucket, its in zip(buckets.values(), granted, strict=True):
            for (claim, _), place in zip(bucket.mails[its.count :], its.places, strict=True):
                at = now + timedelta(microseconds=place)
                if claim not in held or held[claim].at < at:  # type: ignore[operator]  # each has a time
                    held[claim] = NotBefore(at, why(bucket.limit))
        if held and len(buckets) > 1:
            self._give_back(buckets, asked, granted, held)
        return held

    def reopen(self, limit: int) -> int:  # noqa: ARG002 - port
        """Return 0: each mail has its time."""
        return 0

    def _buckets(self, mails: Sequence[ClaimedMail]) -> dict[str, _Bucket]:
        buckets: dict[str, _Bucket] = {}
        for mail in mails:
            traits = self.traits(mail)
            for limit in self.limits:
                for key, weight in limit.counts(traits):
                    buckets.setdefault(key, _Bucket(limit)).add(mail, weight)
        return buckets

    def _give_back(
        self,
        buckets: Mapping[str, _Bucket],
        asked: Sequence[Asked],
        granted: Sequence[Grant],
        held: Mapping[Claim, NotBefore],
    ) -> None:
        """Give back what was granted to mails that wait for another limit."""

        def unused() -> Iterator[Asked]:
            for bucket, one, its in zip(buckets.values(), asked, granted, strict=True):
                back = tuple(weight for claim, weight in bucket.mails[: its.count] if claim in held)
                if back:
                    yield replace(one, weights=back, waited=0)

        if given := list(unused()):
            self.rate_limits.give_back(given)


def why(limit: SendingLimit) -> str:
    """Return what a mail that a limit holds back waits for."""
    return f"the limit {limit.name}"
