"""Settles a mail by an outcome that is about this mail alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mailbatch.domain.outcome import Kind, Replied, Verdict
from mailbatch.domain.reply_kinds import kind_of
from mailbatch.domain.settlement import settle, unavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mailbatch.application.sending.in_flight import InFlightMail
    from mailbatch.domain.lifecycle import OnDoubt
    from mailbatch.domain.message import Claim
    from mailbatch.domain.outcome import Outcome
    from mailbatch.domain.retry import RetryPolicy
    from mailbatch.domain.settlement import Settlement


class OwnVerdict:
    """Applies the rules of ``domain.lifecycle`` to the mails of a lane. ``jitter`` returns a number in [0, 1)."""

    def __init__(self, retry: RetryPolicy, on_doubt: OnDoubt, jitter: Callable[[], float]) -> None:
        self.retry = retry
        self._on_doubt = on_doubt
        self._jitter = jitter

    def settle(self, outcome: Outcome, mail: InFlightMail) -> Settlement:
        """Return the settlement of the mail: its next status, and what is recorded of the attempt."""
        return settle(
            outcome,
            attempts=mail.attempts,
            earlier=mail.earlier or {},
            retry=self.retry,
            on_doubt=self._on_doubt,
            jitter=self._jitter(),
        )

    def defer_unavailable(self, claim: Claim, errors: Sequence[str], mail: InFlightMail) -> Settlement:
        """Defer the mail, because its message or a file of it cannot be stored or read now."""
        return unavailable(
            claim, errors, mail.earlier or {}, attempts=mail.attempts, retry=self.retry, jitter=self._jitter()
        )

    def defer(self, replied: Replied, mail: InFlightMail) -> Settlement:
        """Defer the mail, as after any 4xx.

        A 5xx that holds for every mail defers too: it may have been meant for our account, not for this mail.
        """
        deferred = {
            to: Verdict(Kind.DEFERRED, v.reply) if v.kind is Kind.REJECTED and kind_of(v.reply).holds else v
            for to, v in replied.verdicts.items()
        }
        return self.settle(Replied(replied.claim, replied.relay, deferred), mail)
