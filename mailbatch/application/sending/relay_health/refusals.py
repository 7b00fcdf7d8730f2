"""Permanent refusals (5xx) that may not be meant for their mails, because several mails in a row get the same text.

If these mails share one tag or template, the refusal is meant for that group, for example a newsletter that a spam
filter refuses. If not, the relay refuses all mails. The verdicts wait until this is known. If it does not become known,
each verdict counts for its own mail.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import TYPE_CHECKING, TypeAlias

from mailbatch.domain.claimed import Without
from mailbatch.domain.reply_kinds import Concern, concern_of, gist

if TYPE_CHECKING:
    from collections.abc import Callable
    from uuid import UUID

    from mailbatch.domain.outcome import Reply
    from mailbatch.domain.settlement import Settlement

ENOUGH = 8
"""Mails in a row with the same reply text, from which on the refusal is not meant for single mails."""
PATIENCE = 10.0
"""Seconds for which a verdict waits."""
MOST = 32
"""Verdicts that wait at once, of all texts. If there are more, the oldest count for their own mails."""

# RFC 3463: X.1.x and X.2.x speak of the recipient, X.6.x and X.3.4 of the mail's content.
_OF_ONE_MAIL = re.compile(r"5\.(?:[126]\.\d+|3\.4)")

Group: TypeAlias = "tuple[str, str] | UUID"
"""Mails that belong together: ``("tag", name)``, ``("template", name)``, or the id of a mail with neither."""


class MeantFor(Enum):
    """Whom a refusal is meant for, as far as this refusal and earlier ones show."""

    UNKNOWN = auto()
    THE_RELAY = auto()
    ITS_GROUP = auto()


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
    """The refusals of a lane whose verdicts wait.

    ``found``: groups whose mails are put back, each with the text of the refusal. ``without``: the same groups, in the
    form in which a claim skips them. ``of_relay``: the text with which the relay refuses all mails.
    """

    waiting: list[_Refusal] = field(default_factory=list)
    found: dict[Group, str] = field(default_factory=dict)
    of_relay: str | None = None
    without: Without | None = None

    @staticmethod
    def may_concern_others(reply: Reply) -> bool:
        """Return whether ``reply`` may be meant for more mails than the one that was refused."""
        return not _OF_ONE_MAIL.fullmatch(reply.enhanced or "") and concern_of(reply) is not Concern.RECIPIENT

    def add(self, settlement: Settlement, reply: Reply, group: Group, index: int, now: float) -> MeantFor:
        """Add a refusal. Return whom it is meant for; unless that is ``UNKNOWN``, call ``take``."""
        text = gist(reply)
        self.waiting.append(_Refusal(text, settlement, group, index, now))
        if text == self.of_relay:
            return MeantFor.THE_RELAY
        if self.found.get(group) == text:
            return MeantFor.ITS_GROUP
        row = [one for one in self.waiting if one.text == text]
        alone = [one for one in row if not one.relay_works]
        if len(alone) >= ENOUGH and len({one.group for one in alone}) > 1:
            self.of_relay = text
            return MeantFor.THE_RELAY
        if sum(one.group == group for one in row) >= ENOUGH:
            self._find(group, text)
            return MeantFor.ITS_GROUP
        return MeantFor.UNKNOWN

    def _find(self, group: Group, text: str) -> None:
        self.found[group] = text
        named = [one for one in self.found if isinstance(one, tuple)]
        if named:
            of_kind = {kind: frozenset(name for found, name in named if found == kind) for kind in ("tag", "template")}
            self.without = Without(of_kind["tag"], of_kind["template"])

    def accepted(self, group: Group, index: int) -> list[Settlement]:
        """Return the settlements that are final because a mail of ``group`` with the item index ``index`` was accepted.

        The relay accepted this mail after it had refused others, so it works. A refusal of those others can only be
        meant for a whole group other than ``group``, or for its own mail.
        """
        for one in self.waiting:
            one.relay_works = one.relay_works or one.index < index
        return self._drop(lambda one: one.relay_works and (one.group == group or not isinstance(one.group, tuple)))

    def overdue(self, now: float) -> list[Settlement]:
        """Remove and return the settlements that waited for ``PATIENCE`` seconds, and the oldest above ``MOST``."""
        oldest = self.waiting[: max(0, len(self.waiting) - MOST)]
        return self._drop(lambda one: now - one.heard_at > PATIENCE or one in oldest)

    def take(self, reply: Reply, group: Group | None = None) -> list[Settlement]:
        """Remove and return the settlements of refusals with the text of ``reply``, of ``group`` or of all groups."""
        text = gist(reply)
        return self._drop(lambda one: one.text == text and (group is None or one.group == group))

    def take_all(self) -> list[Settlement]:
        """Remove and return all waiting settlements."""
        return self._drop(lambda _: True)

    def _drop(self, which: Callable[[_Refusal], bool]) -> list[Settlement]:
        dropped = [one for one in self.waiting if which(one)]
        if dropped:
            self.waiting = [one for one in self.waiting if not which(one)]
        return [one.settlement for one in dropped]


def group_of(tag: str | None, template: str | None, mail: UUID) -> Group:
    """Return the group of a mail: its tag, else its template, else the mail itself."""
    if tag:
        return "tag", tag
    return ("template", template) if template else mail
