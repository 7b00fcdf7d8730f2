"""How many mails may go in a period, as the relays' file says it for the mails of a rule."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from mailbatch.domain.traits import EVERY_MAIL, Match

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mailbatch.domain.rate import Rate
    from mailbatch.domain.traits import Traits


class LimitUnit(StrEnum):
    """What a limit counts."""

    MAILS = "mails"
    RECIPIENTS = "recipients"


class Per(StrEnum):
    """Whether all mails of a rule share one limit, or those of each domain of recipients have their own."""

    ALL = "all"
    DOMAIN = "domain"


@dataclass(frozen=True, slots=True, kw_only=True)
class SendingLimit:
    """All of ``rates`` hold at once."""

    name: str
    rates: tuple[Rate, ...]
    match: Match = EVERY_MAIL
    per: Per = Per.ALL
    count: LimitUnit = LimitUnit.MAILS

    def counts(self, mail: Traits) -> Iterator[tuple[str, int]]:
        """Yield each bucket in which ``mail`` counts, and for how many. None: the limit is not for it.

        A rule for domains counts only the recipients at these domains.
        """
        if not self.match.fits(mail):
            return
        domains = self.match.recipient_domain
        meant = mail.recipients if domains is None else domains.among(mail.recipients)
        if self.per is Per.DOMAIN:
            for domain in sorted(meant):
                yield f"{self.name}:{domain}", self._number(mail.recipients[domain])
        else:
            yield self.name, self._number(sum(mail.recipients[domain] for domain in meant))

    def _number(self, recipients: int) -> int:
        return max(1, recipients) if self.count is LimitUnit.RECIPIENTS else 1
