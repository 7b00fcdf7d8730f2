"""Tell who may have got a mail twice: it went out once without a verdict, and then again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from mailbatch.application.ports.stores import Row


class Duplicates(Protocol):
    """Knows which mails went out again after a try that ended without a verdict. May raise ``StoreError``."""

    def resent(self, since: datetime | None, limit: int) -> Sequence[Row]:
        """Those whose doubtful try ended at or after ``since``, the last first; each once, by the last such try.

        A row has ``reservation_id``, ``recipients``, ``message_id``, ``doubt_at``, ``doubt_relay``, ``doubt_run_id``,
        ``sent_at`` (when it went out again, with a verdict or without), ``relay``, ``reply_text`` and ``run_id``.
        """


@dataclass(frozen=True, slots=True)
class ListDuplicates:
    """List the mails that somebody may have got twice. There are no others: see docs/explanation/delivery.md."""

    resent: Duplicates

    def __call__(self, since: datetime | None, limit: int) -> Sequence[Row]:
        """Answer up to ``limit`` of them, the last first."""
        return self.resent.resent(since, limit)
