"""The tags whose mails are held back: the adapter of the port ``Blocks``.

A block that is lifted stays as a row with ``lifted_at`` until its mails are due again, so that a process that dies in
between leaves the rest to the next run. It stays for a while longer: a run that has not yet seen that the block is
lifted may still hold mails back.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import sqlalchemy as sa

from mailbatch.domain.gate import NEVER
from mailbatch.domain.rows import BlockRow
from mailbatch.infrastructure.db.conditions import HELD_BACK, PENDING, read_once
from mailbatch.infrastructure.db.counting import count_up_to
from mailbatch.infrastructure.db.engine import reading, writing
from mailbatch.infrastructure.db.priorities import levels
from mailbatch.infrastructure.db.rows import all_of
from mailbatch.infrastructure.db.tables import mail_blocks, mail_reservations
from mailbatch.infrastructure.db.types import Timestamp, now, upsert

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.engine import Connection, Engine

_b, _r = mail_blocks.c, mail_reservations.c
_NEVER = sa.literal(NEVER, Timestamp())
_MOST = 100_000
"""Up to how many waiting mails are counted for a tag."""
STRAGGLE = 60.0
"""Seconds after which no run holds a mail back any more for a block that was lifted."""
_ON, _LIFTED = _b.lifted_at.is_(None), _b.lifted_at.is_not(None)


@dataclass(frozen=True, slots=True)
class SqlBlocks:
    """The port ``Blocks`` on PostgreSQL and SQLite."""

    engine: Engine

    def blocked(self) -> frozenset[str]:
        """Read the names; see the port."""
        with reading(self.engine) as connection:
            return frozenset(connection.scalars(sa.select(_b.tag).where(_ON)))

    def all(self) -> Sequence[BlockRow]:
        """Read the rows; see the port."""
        waiting = count_up_to(_MOST, HELD_BACK, _r.tag == _b.tag, _r.due_at >= _NEVER).label("waiting")
        blocks = sa.select(_b.tag, _b.since, _b.by, _b.note, waiting).where(_ON).order_by(_b.tag)
        with reading(self.engine) as connection:
            return all_of(BlockRow, connection, blocks)

    def block(self, tag: str, by: str, note: str | None) -> bool:
        """Insert the row, or set up the one that was lifted; see the port."""
        values = {"since": now(), "by": by, "note": note, "lifted_at": None}
        with writing(self.engine) as connection:
            insert = upsert(connection, mail_blocks).values(tag=tag, **values)
            blocking = insert.on_conflict_do_update(index_elements=[_b.tag], set_=values, where=_LIFTED)
            return connection.execute(blocking.returning(_b.tag)).first() is not None

    def lift(self, tag: str) -> bool:
        """Mark the row; see the port."""
        lifting = sa.update(mail_blocks).where(_b.tag == tag, _ON).values(lifted_at=now()).returning(_b.tag)
        with writing(self.engine) as connection:
            return connection.execute(lifting).first() is not None

    def reopen(self, limit: int) -> int:
        """Make mails of lifted blocks due again, and forget the blocks that have none left; see the port."""
        with reading(self.engine) as connection:
            tags = connection.scalars(sa.select(_b.tag).where(_LIFTED)).all()
        if not tags:
            return 0
        with writing(self.engine) as connection:
            count = _reopen(connection, tags, limit)
            if count < limit:
                over = sa.and_(_b.tag.in_(tags), _LIFTED, _b.lifted_at < now(-STRAGGLE))
                connection.execute(sa.delete(mail_blocks).where(over))
        return count


def _reopen(connection: Connection, tags: Sequence[str], limit: int) -> int:
    """Held-back mails are the end of the index of what is due, one range for each priority."""
    # A mail without an attempt keeps the time that its caller asked for; a retry is due now.
    again = sa.case((_r.attempts > 0, now()), else_=None)
    level, count = levels("level"), 0
    for priority in connection.scalars(sa.select(level.c.priority).where(level.c.priority.is_not(None))).all():
        waits = sa.select(_r.id).where(PENDING, _r.priority == priority, _r.due_at >= _NEVER, _r.tag.in_(tags))
        page = read_once(waits.limit(limit - count).with_for_update(skip_locked=True))
        due = sa.update(mail_reservations).where(_r.id.in_(page)).values(retry_at=again, waits_for=None)
        count += len(connection.execute(due.returning(_r.id)).all())
        if count >= limit:
            break
    return count
