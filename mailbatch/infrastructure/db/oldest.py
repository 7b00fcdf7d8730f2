"""Since when mail has been due: the one definition, for the census and for the watch."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from mailbatch.infrastructure.db.conditions import has_come, is_due
from mailbatch.infrastructure.db.priorities import levels
from mailbatch.infrastructure.db.tables import mail_reservations
from mailbatch.infrastructure.db.types import now

_r = mail_reservations.c


def oldest_due(*, expired: bool = False) -> Any:
    """Return the expression for the earliest time at which a mail became due that is due now.

    It reads one entry of an index for each priority. A mail whose ``expires_at`` has passed is not due, although it is
    pending until the next run marks it; with ``expired`` it counts too.
    """
    level = levels("waiting_level" if expired else "due_level")
    meant = has_come(now()) if expired else is_due(now())
    first = sa.select(_r.due_at).where(_r.priority == level.c.priority, meant)
    first_at = first.order_by(_r.due_at).limit(1).scalar_subquery()
    return sa.select(sa.func.min(first_at)).select_from(level).scalar_subquery()
