"""Claim, load, settle, renew, expire, resolve: the statements of a lane, one for each verb.

Every claim is fenced by ``claim_no``: a statement that ends a claim touches a row only where it still bears the
number that this claim gave it. Literals such as 'pending' are spelled out rather than bound, because the partial
indexes are chosen by them.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

from mailbatch.application.ports import Claimed, ClaimedMail, Cursor, DoubtsResolved, Page
from mailbatch.application.send_due import NO_VERDICT
from mailbatch.domain.errors import StoreError
from mailbatch.domain.message import Claim
from mailbatch.domain.outcome import Kind, Reply, Verdict
from mailbatch.domain.reservation import MAIL_FIELDS, Mail, Status
from mailbatch.domain.settlement import OnDoubt, Tally
from mailbatch.infrastructure.db.engine import reading, writing
from mailbatch.infrastructure.db.tables import batch_lanes, batch_runs, mail_attempts, mail_reservations
from mailbatch.infrastructure.db.types import JSON, Guid, now, storable

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from uuid import UUID

    from sqlalchemy.engine import Connection, Engine
    from sqlalchemy.sql.compiler import SQLCompiler
    from sqlalchemy.types import TypeEngine

    from mailbatch.domain.retry import RetryPolicy
    from mailbatch.domain.settlement import Settlement

_r = mail_reservations.c
_PENDING = _r.status == sa.literal_column("'pending'")
_SENDING = _r.status == sa.literal_column("'sending'")
_UNEXPIRED = sa.or_(_r.expires_at.is_(None), _r.expires_at > now())
_MAIL_COLUMNS = [_r[name] for name in MAIL_FIELDS]


class octets(FunctionElement[int]):  # noqa: N801 - reads as the SQL that it becomes
    """The size of a text in bytes, without reading it where the database knows it."""

    type = sa.Integer()
    inherit_cache = True


@compiles(octets, "postgresql")
def _octets_postgresql(element: octets, compiler: SQLCompiler, **kw: Any) -> str:
    return f"coalesce(octet_length({compiler.process(element.clauses, **kw)}), 0)"


@compiles(octets, "sqlite")
def _octets_sqlite(element: octets, compiler: SQLCompiler, **kw: Any) -> str:
    return f"coalesce(length(CAST({compiler.process(element.clauses, **kw)} AS BLOB)), 0)"


@dataclass(frozen=True, slots=True, kw_only=True)
class SqlBacklog:
    """The port ``Backlog`` on PostgreSQL and SQLite. ``lease`` and ``max_lateness`` in seconds (0: none)."""

    engine: Engine
    lease: float
    retry: RetryPolicy
    message_id_domain: str
    max_lateness: float = 0.0

    def claim(self, run_id: UUID, lane: int, after: Cursor | None, limit: int) -> Page:
        """Take due reservations from pending to sending, in order, up to ``limit``; see the port."""
        with writing(self.engine) as connection:
            rows: list[Any] = []
            for priority in self._due_priorities(connection, after):
                statement = self._claim_statement(run_id, lane, priority, after, limit - len(rows))
                # RETURNING has no order of its own.
                rows += sorted(connection.execute(statement), key=lambda row: (row.due_at, row.id))
                if len(rows) >= limit:
                    break
            first = self._reserve_indexes(connection, run_id, len(rows)) if rows else 1
        claimed = [Claimed(Claim(row.id, row.claim_no), first + i, row.size) for i, row in enumerate(rows)]
        full = len(rows) >= limit
        return Page(claimed, Cursor(rows[-1].priority, rows[-1].due_at, rows[-1].id) if full else None)

    def load(self, claimed: Sequence[Claimed]) -> list[ClaimedMail]:
        """Read what ``claimed`` is to send; see the port."""
        wanted = {c.claim.reservation_id: c for c in claimed}
        statement = sa.select(_r.id, _r.claim_no, _r.message_id, _r.attempts, _r.verdicts, *_MAIL_COLUMNS).where(
            _r.id.in_(wanted), _SENDING
        )
        with reading(self.engine) as connection:
            rows = {row.id: row for row in connection.execute(statement)}
        return [
            ClaimedMail(
                claim=c.claim,
                index=c.index,
                mail=Mail(**{name: getattr(row, name) for name in MAIL_FIELDS}),
                message_id=row.message_id,
                attempts=row.attempts,
                earlier=accepted_in(row.verdicts),
            )
            for c in claimed
            if (row := rows.get(c.claim.reservation_id)) is not None and row.claim_no == c.claim.claim_no
        ]

    def settle(self, run_id: UUID, lane: int, settlements: Sequence[Settlement]) -> set[Claim]:
        """Write what became of claims, where they still hold; see the port."""
        if not settlements:
            return set()
        with writing(self.engine) as connection:
            held = self._settle(connection, settlements, _SENDING)
            # A verdict that comes after the rescue: an acceptance is a fact, and fits until someone claimed it anew.
            late = [s for s in settlements if s.claim not in held and s.status is Status.SENT]
            if late:
                rescued = self._settle(connection, late, _r.status.in_(["in_doubt", "pending"]))
                self._correct_attempts(connection, rescued)
                held |= rescued
            if lane:
                self._count(connection, run_id, lane, [s.tally for s in settlements if s.claim in held])
            tried = [s for s in settlements if s.claim in held and s.attempted and s.status is not Status.SENT]
            self._record_attempts(connection, [_attempt_of(s, run_id, lane) for s in tried])
        return held

    def renew(self, run_id: UUID, lane: int) -> None:
        """Prolong the leases of a lane. A lease that has ended is not revived: another run may judge it already."""
        mine = sa.select(_r.id).where(_SENDING, _r.run_id == run_id, _r.lane == lane, _r.lease_until > now())
        # Rows that are being settled at this moment need no lease; waiting for them could deadlock.
        update = (
            sa.update(mail_reservations)
            .where(_r.id.in_(mine.with_for_update(skip_locked=True)))
            .values(lease_until=now(self.lease))
        )
        with writing(self.engine) as connection:
            connection.execute(update)

    def expire(self, limit: int) -> int:
        """Mark reservations whose time has passed; see the port."""
        with writing(self.engine) as connection:
            count = self._expire(connection, _r.expires_at <= now(), limit, "expires_at has passed")
            if self.max_lateness and count < limit:
                for priority in self._due_priorities(connection, None):
                    late = sa.and_(_r.priority == priority, _r.due_at <= now(-self.max_lateness))
                    reason = f"due for longer than MAX_LATENESS ({self.max_lateness:g} s)"
                    count += self._expire(connection, late, limit - count, reason)
        return count

    def resolve_doubts(self, run_id: UUID, on_doubt: OnDoubt, limit: int) -> DoubtsResolved:
        """Judge the leases that have ended; see the port and docs/explanation/delivery.md."""
        ended = (
            sa.select(_r.id)
            .where(_SENDING, _r.lease_until <= now())
            .order_by(_r.lease_until)
            .limit(limit)
            .with_for_update(skip_locked=True)
        )
        used_up = _r.attempts + 1 >= self.retry.max_attempts
        untouched = _r.wire_at.is_(None)
        held = sa.true() if on_doubt is OnDoubt.HOLD else used_up
        update = (
            sa.update(mail_reservations)
            .where(_r.id.in_(ended))
            .values(
                status=sa.case((untouched, "pending"), (held, "in_doubt"), else_="pending"),
                attempts=_r.attempts + sa.case((untouched, 0), else_=1),
                last_error=sa.case((untouched, _r.last_error), else_=NO_VERDICT),
                lease_until=None,
            )
            .returning(_r.id, _r.claim_no, _r.status, _r.wire_at, _r.run_id, _r.lane)
        )
        with writing(self.engine) as connection:
            rows = connection.execute(update).all()
            doubtful = [row for row in rows if row.wire_at is not None]
            first = self._reserve_indexes(connection, run_id, len(doubtful)) if doubtful else 1
            self._record_attempts(
                connection,
                [
                    {
                        "reservation_id": row.id,
                        "claim_no": row.claim_no,
                        "run_id": row.run_id,
                        "lane": row.lane,
                        "outcome": "in_doubt",
                        "reply_text": f"{NO_VERDICT}; resolved by run {run_id}",
                    }
                    for row in doubtful
                ],
            )
        kept = sum(row.status == Status.IN_DOUBT for row in doubtful)
        return DoubtsResolved(
            released=len(rows) - len(doubtful),
            resent=len(doubtful) - kept,
            held=kept,
            doubtful=[(first + i, row.id) for i, row in enumerate(doubtful)],
        )

    def remaining(self) -> int:
        """Count what is due and unsent."""
        due = sa.select(sa.func.count()).where(_PENDING, _r.due_at <= now(), _UNEXPIRED).scalar_subquery()
        claimed = sa.select(sa.func.count()).where(_SENDING).scalar_subquery()
        with reading(self.engine) as connection:
            return int(connection.execute(sa.select(due + claimed)).scalar_one())

    # --- the statements ---

    def _due_priorities(self, connection: Connection, after: Cursor | None) -> list[int]:
        """Priorities that have something due, highest first: a jump from one to the next on the index.

        Reading within one priority by due time is what keeps reservations for next week out of every tick's way.
        """
        top = sa.select(sa.func.max(_r.priority).label("priority")).where(_PENDING)
        if after is not None:
            top = top.where(_r.priority <= after.priority)
        level = top.cte("level", recursive=True)
        lower = sa.select(sa.func.max(_r.priority)).where(_PENDING, _r.priority < level.c.priority).scalar_subquery()
        level = level.union_all(sa.select(lower).where(level.c.priority.is_not(None)))
        due = sa.exists().where(_PENDING, _r.priority == level.c.priority, _r.due_at <= now())
        statement = sa.select(level.c.priority).where(level.c.priority.is_not(None), due)
        return sorted(connection.scalars(statement), reverse=True)

    def _claim_statement(
        self, run_id: UUID, lane: int, priority: int, after: Cursor | None, limit: int
    ) -> sa.Executable:
        due = sa.select(_r.id).where(_PENDING, _r.priority == priority, _r.due_at <= now(), _UNEXPIRED)
        if after is not None and after.priority == priority:
            key = sa.tuple_(sa.literal(after.due_at, _r.due_at.type), sa.literal(after.reservation_id, Guid))
            due = due.where(sa.tuple_(_r.due_at, _r.id) > key)
        due = due.order_by(_r.due_at, _r.id).limit(limit).with_for_update(skip_locked=True)
        # MATERIALIZED (and a CTE at all): a planner that inlines the subquery may lock more rows than LIMIT says.
        ids = due.cte("due").prefix_with("MATERIALIZED", dialect="postgresql")
        return (
            sa.update(mail_reservations)
            .where(_r.id.in_(sa.select(ids.c.id)))
            .values(
                status="sending",
                run_id=run_id,
                lane=lane,
                claim_no=_r.claim_no + 1,
                lease_until=now(self.lease),
                wire_at=now(),
                message_id=sa.func.coalesce(
                    _r.message_id, sa.literal("<") + sa.cast(_r.id, sa.Text) + f"@{self.message_id_domain}>"
                ),
            )
            .returning(
                _r.id,
                _r.claim_no,
                _r.priority,
                _r.due_at,
                (octets(_r.body_text) + octets(_r.body_html) + octets(sa.cast(_r.context, sa.Text))).label("size"),
            )
        )

    def _reserve_indexes(self, connection: Connection, run_id: UUID, count: int) -> int:
        """Reserve ``count`` item indexes of the run; answer the first."""
        runs = batch_runs.c
        statement = (
            sa.update(batch_runs)
            .where(runs.run_id == run_id)
            .values(claimed=runs.claimed + count)
            .returning(runs.claimed)
        )
        claimed = connection.execute(statement).scalar_one_or_none()
        if claimed is None:
            raise StoreError(f"run {run_id} has no row in batch_runs", transient=False)
        return int(claimed) - count + 1

    def _settle(
        self, connection: Connection, settlements: Sequence[Settlement], state: sa.ColumnElement[bool]
    ) -> set[Claim]:
        """One statement for all, from a JSON document that each database unfolds into rows."""
        document = json.dumps([_row_of(s) for s in settlements], ensure_ascii=False)
        v = (_unfolded_postgresql if connection.dialect.name == "postgresql" else _unfolded_sqlite)(document)
        attempted = v.c.attempted == 1
        finished = v.c.status.in_(["sent", "failed"])
        statement = (
            sa.update(mail_reservations)
            .where(_r.id == v.c.id, _r.claim_no == v.c.claim_no, state)
            .values(
                status=v.c.status,
                attempts=_r.attempts + v.c.attempted,
                retry_at=sa.case((v.c.retry_in.is_not(None), now(v.c.retry_in)), else_=_r.retry_at),
                last_error=sa.case((attempted, v.c.error), else_=sa.func.coalesce(v.c.error, _r.last_error)),
                reply_code=sa.case((attempted, v.c.reply_code), else_=_r.reply_code),
                reply_text=sa.case((attempted, v.c.reply_text), else_=_r.reply_text),
                relay=sa.func.coalesce(v.c.relay, _r.relay),
                verdicts=sa.case((attempted, v.c.verdicts), else_=_r.verdicts),
                sent_at=sa.case((v.c.status == "sent", now()), else_=None),
                finished_at=sa.case((finished, now()), else_=None),
                wire_at=sa.case((v.c.status == "in_doubt", _r.wire_at), else_=None),
                lease_until=None,
            )
            .returning(_r.id, _r.claim_no)
        )
        return {Claim(row.id, row.claim_no) for row in connection.execute(statement)}

    def _count(self, connection: Connection, run_id: UUID, lane: int, tallies: Sequence[Tally]) -> None:
        """Count what a helper has settled, in the same transaction: a lane that is killed leaves exact counts."""
        added = {tally.value: count for tally, count in Counter(tallies).items() if tally is not Tally.RELEASED}
        if added:
            columns = batch_lanes.c
            connection.execute(
                sa.update(batch_lanes)
                .where(columns.run_id == run_id, columns.lane == lane)
                .values({name: columns[name] + count for name, count in added.items()})
            )

    def _record_attempts(self, connection: Connection, attempts: Sequence[Mapping[str, Any]]) -> None:
        if not attempts:
            return
        insert = (postgresql if connection.dialect.name == "postgresql" else sqlite).insert(mail_attempts)
        connection.execute(insert.on_conflict_do_nothing(), [{**_NO_ATTEMPT, **a} for a in attempts])

    def _correct_attempts(self, connection: Connection, claims: Iterable[Claim]) -> None:
        """The accepted attempt stands on the reservation itself; what was noted as in doubt is no longer."""
        a = mail_attempts.c
        for claim in claims:
            connection.execute(
                sa.delete(mail_attempts).where(
                    a.reservation_id == claim.reservation_id, a.claim_no == claim.claim_no, a.outcome == "in_doubt"
                )
            )

    def _expire(self, connection: Connection, passed: sa.ColumnElement[bool], limit: int, reason: str) -> int:
        ids = sa.select(_r.id).where(_PENDING, passed).limit(limit).with_for_update(skip_locked=True)
        statement = (
            sa.update(mail_reservations)
            .where(_r.id.in_(ids))
            .values(status="expired", finished_at=now(), last_error=reason)
        )
        return connection.execute(statement).rowcount


_NO_ATTEMPT = {
    "run_id": None,
    "lane": None,
    "relay": None,
    "reply_code": None,
    "enhanced_code": None,
    "reply_text": None,
    "verdicts": None,
}
_ROW: dict[str, TypeEngine[Any]] = {
    "id": Guid(),
    "claim_no": sa.Integer(),
    "status": sa.Text(),
    "attempted": sa.Integer(),
    "retry_in": sa.Float(),
    "error": sa.Text(),
    "reply_code": sa.Integer(),
    "reply_text": sa.Text(),
    "relay": sa.Text(),
    "verdicts": JSON,
}


def _unfolded_postgresql(document: str) -> Any:
    columns: list[Any] = [sa.column(name, type_) for name, type_ in _ROW.items()]
    rows = sa.func.jsonb_to_recordset(sa.cast(sa.literal(document, sa.Text()), postgresql.JSONB))
    return rows.table_valued(*columns, name="v").render_derived(with_types=True)


def _unfolded_sqlite(document: str) -> Any:
    each = sa.func.json_each(document).table_valued("value", name="each")
    value = each.c.value
    columns: list[Any] = [sa.type_coerce(sa.func.json_extract(value, f"$.{n}"), t).label(n) for n, t in _ROW.items()]
    # MATERIALIZED: else SQLite unfolds the document anew for each row that it compares.
    return sa.select(*columns).select_from(each).cte("v").prefix_with("MATERIALIZED")


def _row_of(s: Settlement) -> dict[str, Any]:
    return {
        "id": str(s.claim.reservation_id),
        "claim_no": s.claim.claim_no,
        "status": s.status.value,
        "attempted": int(s.attempted),
        "retry_in": s.retry_in,
        "error": storable(" ".join(s.errors)) if s.errors else None,
        "reply_code": s.reply.code if s.reply else None,
        "reply_text": storable(s.reply.text) if s.reply else None,
        "relay": s.relay,
        "verdicts": stored_verdicts(s.verdicts),
    }


def _attempt_of(s: Settlement, run_id: UUID, lane: int) -> dict[str, Any]:
    return {
        "reservation_id": s.claim.reservation_id,
        "claim_no": s.claim.claim_no,
        "run_id": run_id,
        "lane": lane,
        "relay": s.relay,
        "outcome": s.tally.value,
        "reply_code": s.reply.code if s.reply else None,
        "enhanced_code": s.reply.enhanced if s.reply else None,
        "reply_text": storable(s.reply.text if s.reply else " ".join(s.errors)),
        "verdicts": stored_verdicts(s.verdicts),
    }


def stored_verdicts(verdicts: Mapping[str, Verdict] | None) -> dict[str, Any] | None:
    """Verdicts as they stand in the ``verdicts`` columns: recipient to kind, code and text."""
    if verdicts is None:
        return None
    return {
        storable(to): {"kind": v.kind.value, "code": v.reply.code, "text": storable(v.reply.text)}
        for to, v in verdicts.items()
    }


def accepted_in(stored: Mapping[str, Any] | None) -> dict[str, Verdict]:
    """The recipients that took it in an earlier attempt: a retry is not for them."""
    return {
        to: Verdict(Kind.ACCEPTED, Reply(v["code"], v["text"]))
        for to, v in (stored or {}).items()
        if v["kind"] == Kind.ACCEPTED
    }
