"""Since when mail has been due: the one definition, for the census and for the watch."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from mailbatch.infrastructure.db.priorities import levels
from mailbatch.infrastructure.db.tables import mail_reservations
from mailbatch.infrastructure.db.types import now

_r = mail_reservations.c
# As a literal, so that the partial index is seen to fit.
_PENDING = _r.status == sa.literal_column("'pending'")


def oldest_due(*, expired: bool = False) -> Any:
    """When the mail that has been due for longest was due: one look at the index for each priority.

    A mail whose time has passed is due no more, though it is pending until the next run marks it; with ``expired`` it
    counts as well.
    """
    level = levels("waiting_level" if expired else "due_level")
    first = sa.select(_r.due_at).where(_PENDING, _r.priority == level.c.priority, _r.due_at <= now())
    if not expired:
        first = first.where(sa.or_(_r.expires_at.is_(None), _r.expires_at > now()))
    first_at = first.order_by(_r.due_at).limit(1).scalar_subquery()
    return sa.select(sa.func.min(first_at)).select_from(level).scalar_subquery()
