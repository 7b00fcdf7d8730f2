"""Refusals for good (5xx) that may not be meant for their mails: the same text to several mails in a row.

Of mails of one tag or template it is theirs (a newsletter that a spam filter refuses), of several it is the relay's.
The verdicts wait until that is known; if it never is, they stand as they were.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import TYPE_CHECKING, TypeAlias

from mailbatch.domain.reply_kinds import Concern, concern_of, gist

if TYPE_CHECKING:
    from collections.abc import Callable
    from uuid import UUID

    from mailbatch.domain.lifecycle import Settlement
    from mailbatch.domain.outcome import Reply

ENOUGH = 8
"""Mails in a row that hear the same text."""
PATIENCE = 10.0
"""Seconds for which a verdict waits."""
MOST = 32
"""Verdicts that wait at once, of all texts; the oldest stand as they were beyond that."""

# X.1.x, X.2.x: the recipient's. X.6.x, X.3.4: what the mail is made of, which the mail alone can mend.
_OF_ONE_MAIL = re.compile(r"5\.(?:[126]\.\d+|3\.4)")

Group: TypeAlias = "tuple[str, str] | UUID"
"""Mails that belong together: ``("tag", name)``, ``("template", name)``, or one mail by itself."""


class Finding(Enum):
    """What a refusal says, together with those before it."""

    NOTHING_YET = auto()
    OF_THE_RELAY = auto()
    OF_ITS_GROUP = auto()


@dataclass(slots=True)
class _Refusal:
    text: str
    settlement: Settlement
    group: Group
    index: int
    heard_at: float
    relay_works: bool = False


@dataclass(slots=True)
class Refusals:
    """The refusals of a lane whose verdicts wait. ``found`` are groups whose mails are put back, with what they hear.

    ``of_relay`` is what the relay says to all.
    """

    waiting: list[_Refusal] = field(default_factory=list)
    found: dict[Group, str] = field(default_factory=dict)
    of_relay: str | None = None

    @staticmethod
    def may_be_meant(reply: Reply) -> bool:
        """Whether ``reply`` may be meant for more than the mail that hears it."""
        return not _OF_ONE_MAIL.fullmatch(reply.enhanced or "") and concern_of(reply) is not Concern.RECIPIENT

    def heard(self, settlement: Settlement, reply: Reply, group: Group, index: int, now: float) -> Finding:
        """Take a refusal in; unless ``NOTHING_YET`` is known, ``take`` gives out those that wait for the same."""
        text = gist(reply)
        self.waiting.append(_Refusal(text, settlement, group, index, now))
        if text == self.of_relay:
            return Finding.OF_THE_RELAY
        if self.found.get(group) == text:
            return Finding.OF_ITS_GROUP
        row = [one for one in self.waiting if one.text == text]
        alone = [one for one in row if not one.relay_works]
        if len(alone) >= ENOUGH and len({one.group for one in alone}) > 1:
            self.of_relay = text
            return Finding.OF_THE_RELAY
        if sum(one.group == group for one in row) >= ENOUGH:
            self.found[group] = text
            return Finding.OF_ITS_GROUP
        return Finding.NOTHING_YET

    def accepted(self, group: Group, index: int) -> list[Settlement]:
        """A mail was accepted: return the verdicts that stand now, because it went out after theirs.

        The relay works, so that only a whole group can still be meant; this group is not.
        """
        for one in self.waiting:
            one.relay_works = one.relay_works or one.index < index
        return self._drop(lambda one: one.relay_works and (one.group == group or not isinstance(one.group, tuple)))

    def overdue(self, now: float) -> list[Settlement]:
        """The verdicts that have waited for long enough, and the oldest if too many wait."""
        oldest = self.waiting[: max(0, len(self.waiting) - MOST)]
        return self._drop(lambda one: now - one.heard_at > PATIENCE or one in oldest)

    def take(self, reply: Reply, group: Group | None = None) -> list[Settlement]:
        """Give out those that heard the same as ``reply``: of ``group``, or all."""
        text = gist(reply)
        return self._drop(lambda one: one.text == text and (group is None or one.group == group))

    def take_all(self) -> list[Settlement]:
        """Give out all that wait."""
        return self._drop(lambda _: True)

    def _drop(self, which: Callable[[_Refusal], bool]) -> list[Settlement]:
        dropped = [one for one in self.waiting if which(one)]
        if dropped:
            self.waiting = [one for one in self.waiting if not which(one)]
        return [one.settlement for one in dropped]


def group_of(tag: str | None, template: str | None, mail: UUID) -> Group:
    """The group of a mail: its tag, else its template; with neither it is one of its own."""
    if tag:
        return "tag", tag
    return ("template", template) if template else mail
