"""Deliver the reports of runs to those who asked for them: at least once, under the same id, and never in the way."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mailbatch.domain.errors import NotDelivered
from mailbatch.domain.redaction.addresses import public
from mailbatch.domain.run_notification import RETRIES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mailbatch.application.ports.notifying import Channel, Outbox
    from mailbatch.domain.run_notification import DueReport

log = logging.getLogger(__name__)

AT_ONCE = 5
"""Few enough that all of them may hang, and none is given to another before its turn has come."""


@dataclass(frozen=True, slots=True)
class DeliverReports:
    """Try once to deliver each report whose time has come."""

    outbox: Outbox
    channels: Mapping[str, Channel]

    def __call__(self) -> float | None:
        """Answer the seconds until the next try, None if nothing is left to deliver."""
        for one in self.outbox.take(AT_ONCE):
            try:
                self._deliver(one)
            except NotDelivered as error:
                wait = None if error.final or one.attempts >= len(RETRIES) else RETRIES[max(one.attempts, 0)]
                again = "it is given up" if wait is None else f"next try in {wait:g} s"
                log.warning(
                    "the report of run %s was not delivered by %s: %s; %s", one.run_id, one.channel, error, again
                )
                self.outbox.failed(one, str(error), wait)
            else:
                self.outbox.delivered(one)
        return self.outbox.next_in()

    def _deliver(self, one: DueReport) -> None:
        channel = self.channels.get(one.channel)
        if channel is None:
            raise NotDelivered(f"there is no {one.channel} any more", final=True)
        try:
            channel(one.id, one.report)
        except NotDelivered:
            raise
        except Exception as error:
            # A fault of ours in a channel must cost neither the others nor the retries.
            log.exception("%s broke", one.channel)
            raise NotDelivered(public(f"{type(error).__name__}: {error}")) from error
