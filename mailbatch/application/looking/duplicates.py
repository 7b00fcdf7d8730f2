"""Tell who may have got a mail twice: it went out once without a verdict, and then again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from mailbatch.application.ports.reports import Duplicates
    from mailbatch.domain.rows import DuplicateRow


@dataclass(frozen=True, slots=True)
class ListDuplicates:
    """List the mails that somebody may have got twice. There are no others: see docs/explanation/delivery.md."""

    resent: Duplicates

    def __call__(self, since: datetime | None, limit: int) -> Sequence[DuplicateRow]:
        """Answer up to ``limit`` of them, the last first."""
        return self.resent.resent(since, limit)
