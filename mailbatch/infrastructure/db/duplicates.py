"""Mails that went out again after a try without a verdict: the adapter of the port ``Duplicates``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import sqlalchemy as sa

from mailbatch.domain.reservation import Status
from mailbatch.domain.rows import DuplicateRow
from mailbatch.domain.settlement import Tally
from mailbatch.infrastructure.db.engine import reading
from mailbatch.infrastructure.db.tables import mail_attempts, mail_reservations

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from uuid import UUID

    from sqlalchemy.engine import Engine


_a, _r = mail_attempts.c, mail_reservations.c
_PORTION = 500


@dataclass(frozen=True, slots=True)
class SqlDuplicates:
    """The port ``Duplicates`` on PostgreSQL and SQLite."""

    engine: Engine

    def resent(self, since: datetime | None, limit: int) -> Sequence[DuplicateRow]:
        """Read them; see the port. Doubts are few, and the index of outcomes has them by their time."""
        later = mail_attempts.alias("later")
        doubted = later.c.outcome == Tally.IN_DOUBT.value
        # Once more without a verdict: both may have been taken, whatever became of the mail.
        again = (
            sa.select(sa.func.max(later.c.ended_at))
            .where(later.c.reservation_id == _a.reservation_id, later.c.claim_no > _a.claim_no, doubted)
            .scalar_subquery()
        )
        some_took_it = sa.and_(_a.verdicts.is_(None), sa.cast(_r.verdicts, sa.Text).contains('"accepted"'))
        statement = (
            sa.select(
                _a.reservation_id,
                _r.recipients,
                _r.message_id,
                _a.ended_at.label("doubt_at"),
                _a.relay.label("doubt_relay"),
                _a.run_id.label("doubt_run_id"),
                sa.func.coalesce(_r.sent_at, again).label("sent_at"),
                _r.relay,
                _r.reply_text,
                _r.run_id,
            )
            .join(mail_reservations, _r.id == _a.reservation_id)
            # One that an operator took for sent was claimed only once.
            .where(_a.outcome == Tally.IN_DOUBT.value, _r.claim_no > _a.claim_no)
            .where(sa.or_(_r.status == Status.SENT.value, again.is_not(None), some_took_it))
            .order_by(_a.ended_at.desc(), _a.reservation_id)
        )
        if since is not None:
            statement = statement.where(_a.ended_at >= since)
        found: dict[UUID, DuplicateRow] = {}
        in_portions = {"yield_per": _PORTION}
        # The result is closed, because a search that ends early would leave its cursor open.
        with reading(self.engine) as connection, connection.execute(statement, execution_options=in_portions) as doubts:
            for row in doubts.mappings():
                found.setdefault(row["reservation_id"], DuplicateRow.from_row(row))
                if len(found) >= limit:
                    break
        return list(found.values())
