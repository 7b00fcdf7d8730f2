"""The port ``Backlog`` in SQL: one transaction for each method.

``claim_no`` fences each claim: a statement that ends a claim changes a row only if the row still has the number of
this claim. The statements are in ``claiming``, ``settling`` and ``ended_leases``.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import sqlalchemy as sa

from mailbatch.domain.lifecycle import EXPIRED, Event, late_reason
from mailbatch.infrastructure.db import claiming, ended_leases, settling
from mailbatch.infrastructure.db.conditions import HELD_BACK, PENDING, SENDING, likely, read_once
from mailbatch.infrastructure.db.engine import reading, writing
from mailbatch.infrastructure.db.priorities import levels
from mailbatch.infrastructure.db.tables import mail_reservations
from mailbatch.infrastructure.db.transitions import changeable, columns_after
from mailbatch.infrastructure.db.types import now
from mailbatch.infrastructure.db.urgent import has_urgent

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from uuid import UUID

    from sqlalchemy.engine import Connection, Engine

    from mailbatch.domain.claimed import Claimed, ClaimedMail, Cursor, DoubtsResolved, Page, Without
    from mailbatch.domain.lifecycle import OnDoubt
    from mailbatch.domain.message import Claim
    from mailbatch.domain.retry import RetryPolicy
    from mailbatch.domain.settlement import Settlement

_r = mail_reservations.c


@dataclass(frozen=True, slots=True, kw_only=True)
class SqlBacklog:
    """The port ``Backlog`` on PostgreSQL and SQLite. ``lease`` and ``max_lateness`` in seconds (0: none).

    ``strict``: a claim does not say that its mail may be on the wire; ``commit_intent`` says it just before the mail's
    last bytes.
    """

    engine: Engine
    lease: float
    retry: RetryPolicy
    message_id_domain: str
    max_lateness: float = 0.0
    strict: bool = False

    def claim(self, run_id: UUID, lane: int, after: Cursor | None, limit: int, without: Without | None = None) -> Page:
        """Take due reservations from pending to sending, in order, up to ``limit``; see the port."""
        with writing(self.engine) as connection:
            return self._claim(connection, run_id, lane, after, limit, without)

    def settle_and_claim(
        self,
        run_id: UUID,
        lane: int,
        settlements: Sequence[Settlement],
        after: Cursor | None,
        limit: int,
        without: Without | None = None,
    ) -> tuple[set[Claim], Page]:
        """Settle a group and claim the next in one transaction; see the port."""
        with writing(self.engine) as connection:
            held = settling.settle(connection, run_id, lane, settlements)
            return held, self._claim(connection, run_id, lane, after, limit, without)

    def claim_isolated(self, run_id: UUID, lane: int) -> Page:
        """Claim one of those that ``claim`` skips; see the port."""
        given = {"lease": self.lease, "id_domain": self.message_id_domain, "early": False}
        with writing(self.engine) as connection:
            return claiming.claim(connection, run_id, lane, None, 1, given, alone=True)

    def load(self, claimed: Sequence[Claimed]) -> list[ClaimedMail]:
        """Read the mails of ``claimed``; see the port."""
        with reading(self.engine) as connection:
            return claiming.load(connection, claimed)

    def settle(self, run_id: UUID, lane: int, settlements: Sequence[Settlement]) -> set[Claim]:
        """Write settlements where the claims still hold; see the port."""
        if not settlements:
            return set()
        with writing(self.engine) as connection:
            return settling.settle(connection, run_id, lane, settlements)

    def commit_intent(self, run_id: UUID, claims: Sequence[Claim]) -> set[Claim]:
        """Commit that the last bytes of ``claims`` are sent now; see the port."""
        with writing(self.engine) as connection:
            return claiming.commit_intent(connection, run_id, claims)

    def release_orphans(self, run_id: UUID, lane: int, held: Collection[Claim]) -> int:
        """Release claims of this lane that it does not know of; see the port."""
        with writing(self.engine) as connection:
            return claiming.release_orphans(connection, run_id, lane, held)

    def renew(self, run_id: UUID, lane: int) -> None:
        """Renew the leases of a lane. A lease that has ended stays ended: another run may be resolving it."""
        mine = sa.select(_r.id).where(SENDING, _r.run_id == run_id, _r.lane == lane, _r.lease_until > now())
        # A row that is being settled now needs no lease, and waiting for it could deadlock.
        update = (
            sa.update(mail_reservations)
            .where(_r.id.in_(mine.with_for_update(skip_locked=True)))
            .values(lease_until=now(self.lease))
        )
        with writing(self.engine) as connection:
            connection.execute(update)

    def expire(self, limit: int) -> int:
        """Expire reservations whose time has passed; see the port."""
        with writing(self.engine) as connection:
            count = self._expire(connection, _r.expires_at <= now(), limit, EXPIRED)
            if self.max_lateness and count < limit:
                for priority in claiming.due_priorities(connection):
                    late = sa.and_(_r.priority == priority, _r.due_at <= now(-self.max_lateness))
                    count += self._expire(connection, late, limit - count, late_reason(self.max_lateness))
                count += self._expire(
                    connection, self._held_back_too_long(), limit - count, late_reason(self.max_lateness)
                )
        return count

    def resolve_doubts(self, run_id: UUID, on_doubt: OnDoubt, limit: int) -> DoubtsResolved:
        """Resolve the leases that have ended; see the port and docs/explanation/delivery.md."""
        with writing(self.engine) as connection:
            reserve = partial(claiming.reserve_indexes, connection, run_id)
            return ended_leases.resolve(connection, run_id, on_doubt, limit, self.retry, reserve)

    def has_urgent(self, priority: int) -> bool:
        """Return whether urgent mail is due that was never claimed; see the port."""
        with reading(self.engine) as connection:
            return has_urgent(connection, priority)

    def remaining(self) -> int:
        """Count what is due and unsent, with what gates hold back.

        What is due is a range of one index for each priority. That index does not know expiries: with them the count
        would read each row (1.7 s for 225,000), so those whose time has passed are counted apart.
        """
        level = levels("level")
        in_level = sa.select(sa.func.count()).where(PENDING, _r.priority == level.c.priority, _r.due_at <= now())
        due = sa.select(sa.func.coalesce(sa.func.sum(in_level.scalar_subquery()), 0)).select_from(level)
        come = sa.or_(_r.due_at <= now(), _r.waits_for.is_not(None))
        overdue = sa.select(sa.func.count()).where(likely(PENDING), _r.expires_at <= now(), come)
        held_back = sa.select(sa.func.count()).where(HELD_BACK, _r.due_at > now())
        claimed = sa.select(sa.func.count()).where(SENDING)
        counts = sa.select(*(some.scalar_subquery() for some in (due, held_back, overdue, claimed)))
        with reading(self.engine) as connection:
            found = connection.execute(counts).one()
        return max(0, int(found[0]) + int(found[1]) - int(found[2])) + int(found[3])

    def _claim(
        self,
        connection: Connection,
        run_id: UUID,
        lane: int,
        after: Cursor | None,
        limit: int,
        without: Without | None,
    ) -> Page:
        given = {"lease": self.lease, "id_domain": self.message_id_domain, "early": not self.strict}
        return claiming.claim(connection, run_id, lane, after, limit, given, without=without)

    def _held_back_too_long(self) -> sa.ColumnElement[bool]:
        """A gate moves ``due_at``, so the time that the caller asked for counts. A retry keeps its own time."""
        return sa.and_(HELD_BACK, _r.attempts == 0, _r.scheduled_at <= now(-self.max_lateness))

    def _expire(self, connection: Connection, passed: sa.ColumnElement[bool], limit: int, reason: str) -> int:
        expirable = sa.select(_r.id).where(likely(changeable(Event.EXPIRE)), passed)
        ids = read_once(expirable.limit(limit).with_for_update(skip_locked=True))
        statement = sa.update(mail_reservations).where(_r.id.in_(ids)).values(columns_after(Event.EXPIRE, reason))
        # SQLite's driver counts no rows of a statement that begins with WITH.
        return len(connection.execute(statement.returning(_r.id)).all())
