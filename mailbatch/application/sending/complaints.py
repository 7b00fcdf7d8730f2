"""Mails to which the relay said that it takes none at all (quota, account, storage), until it is known if that is so.

It is the mail's own doing if the relay takes mails that were handed over later; else it is the relay's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mailbatch.domain.lifecycle import Settlement
    from mailbatch.domain.message import Claim
    from mailbatch.domain.outcome import Reply


@dataclass(frozen=True, slots=True, kw_only=True)
class Complaint:
    """What the relay said to a mail.

    ``as_its_own`` is the settlement if it is meant for this mail alone. ``index``: its item index; mails up to
    ``handed_to`` had been handed over when it was heard.
    """

    claim: Claim
    relay: str
    reply: Reply
    as_its_own: Settlement
    index: int
    handed_to: int


class Complaints:
    """Those that wait to be judged, in the order in which they were heard."""

    def __init__(self) -> None:
        self.waiting: list[Complaint] = []

    def accepted(self, index: int) -> list[Complaint]:
        """Return those that are their mails' own, because the mail ``index``, handed over later, was accepted."""
        own = [one for one in self.waiting if one.handed_to < index]
        if own:
            self.waiting = [one for one in self.waiting if one.handed_to >= index]
        return own

    def take_all(self) -> list[Complaint]:
        """Give out all that wait."""
        waiting, self.waiting = self.waiting, []
        return waiting
