"""How many mails may go in a period, as the relays' file says it for the mails of a rule."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from mailbatch.domain.traits import EVERY_MAIL, Match

if TYPE_CHECKING:
    from mailbatch.domain.rate import Rate


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
