"""Deliver the reports of runs to people: each at least once, and every attempt under the same id."""

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
"""Reports that one call takes: few enough that all may hang before another caller gets one of them."""


@dataclass(frozen=True, slots=True)
class DeliverReports:
    """Try once to deliver each report whose time has come."""

    outbox: Outbox
    channels: Mapping[str, Channel]

    def __call__(self) -> float | None:
        """Return the seconds until the next attempt; None if there is nothing left to deliver."""
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
            # A fault of our own in a channel must stop neither the other reports nor the retries.
            log.exception("%s broke", one.channel)
            raise NotDelivered(public(f"{type(error).__name__}: {error}")) from error
