"""Tell people what the watch finds and no run can tell: once an incident, by whoever is alive."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from mailbatch.application.looking.watch import RELAY_REFUSES, RUN_DIED, Level
from mailbatch.application.notifying.deliver_reports import NotDelivered
from mailbatch.domain.run import public

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from datetime import datetime

    from mailbatch.application.looking.watch import Finding
    from mailbatch.application.notifying.deliver_reports import Channel

log = logging.getLogger(__name__)

TOLD_BY_RUNS = frozenset({RUN_DIED, RELAY_REFUSES})
"""Findings that the report of the run tells which met them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Incident:
    """Something that is wrong ``since`` then, and is to be told by ``channel``. ``kind``: the name of the finding."""

    kind: str
    channel: str
    since: datetime
    what: str
    advice: str

    @property
    def id(self) -> str:
        """The same for each try, so that a receiver can tell a repetition."""
        return f"incident_{self.kind}_{self.since:%Y%m%dT%H%M%S}"

    def as_dict(self) -> dict[str, Any]:
        """What a channel is given: JSON types only, addresses masked."""
        since = self.since.isoformat()
        return {"kind": self.kind, "what": public(self.what), "advice": self.advice, "since": since}


class Incidents(Protocol):
    """The incidents that were seen, one of each kind and channel: the last. May raise ``StoreError``."""

    def note(self, found: Sequence[Finding], channels: Collection[str]) -> None:
        """Begin an incident for each of ``found`` that has none, and end those of other kinds.

        What comes back soon after its end is the same incident.
        """

    def take(self, channels: Collection[str]) -> Sequence[Incident]:
        """Those that are to be told now by one of ``channels``; for a while nobody else is given them."""

    def told(self, one: Incident) -> None:
        """Note that it has arrived."""

    def give_up(self, one: Incident) -> None:
        """Note that it is not tried again."""


@dataclass(frozen=True, slots=True)
class TellIncidents:
    """Note which incidents there are, and tell those that are new."""

    incidents: Incidents
    channels: Mapping[str, Channel]

    def __call__(self, findings: Sequence[Finding]) -> None:
        """``findings``: what the watch has just found. Raises ``StoreError``."""
        found = [one for one in findings if one.level is Level.ERROR and one.name not in TOLD_BY_RUNS]
        self.incidents.note(found, self.channels)
        for one in self.incidents.take(self.channels):
            self._tell(one)

    def _tell(self, one: Incident) -> None:
        try:
            self.channels[one.channel](one.id, one.as_dict())
        except NotDelivered as error:
            again = "it is given up" if error.final else "it is tried again while it lasts"
            log.warning("the incident %s was not told by %s: %s; %s", one.kind, one.channel, error, again)
            if error.final:
                self.incidents.give_up(one)
        else:
            self.incidents.told(one)
            log.info("the incident %s was told by %s", one.kind, one.channel)
