"""Claim due reservations: find the priorities that have some, claim a group, and reserve its item indexes.

Each statement is built once and then bound for each group: building one costs three times as much as running it.
Literals such as 'pending' are not parameters, because the planner chooses partial indexes by them.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

from mailbatch.domain.claimed import Claimed, ClaimedMail, Cursor, Page
from mailbatch.domain.errors import StoreError
from mailbatch.domain.lifecycle import Event, transition
from mailbatch.domain.message import Claim
from mailbatch.domain.reservation import MAIL_FIELDS, Mail
from mailbatch.infrastructure.db.conditions import PENDING, SENDING
from mailbatch.infrastructure.db.ended_leases import must_be_isolated
from mailbatch.infrastructure.db.priorities import levels
from mailbatch.infrastructure.db.settling import accepted_in
from mailbatch.infrastructure.db.tables import batch_runs, mail_reservations
from mailbatch.infrastructure.db.transitions import changeable, columns_after
from mailbatch.infrastructure.db.types import MOST, Guid, Text, now, raised

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from uuid import UUID

    from sqlalchemy.engine import Connection
    from sqlalchemy.sql.compiler import SQLCompiler

    from mailbatch.domain.claimed import Without

INLINE_BYTES = 4 * 1024 * 1024
"""Bytes of mails that come with their claims, for a whole group; a mail above its share of it is loaded later."""

_r = mail_reservations.c
_FAT = ("recipients", "body_text", "body_html", "context")
"""Columns of a mail that may be of any size."""
_OF_A_MAIL = ("message_id", "attempts", "verdicts", "tag", *MAIL_FIELDS)
_SURELY_SMALL = 2000
"""Bytes of JSON as it is stored, below which its true size matters little."""
_AS_STORED = sa.types.NullType()
"""A cursor's due time is only given back to the database: nobody need read it."""


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


class json_octets(octets):  # noqa: N801 - as above
    """About the size of a JSON column. PostgreSQL writes it out to count, so that is done only where it is not small.

    A JSON value that looks small may be compressed, to a hundredth at most.
    """

    inherit_cache = True


@compiles(json_octets, "postgresql")
def _json_octets_postgresql(element: json_octets, compiler: SQLCompiler, **kw: Any) -> str:
    column = compiler.process(element.clauses, **kw)
    stored = f"coalesce(pg_column_size({column}), 0)"
    return f"CASE WHEN {stored} < {_SURELY_SMALL} THEN {stored} ELSE octet_length(CAST({column} AS text)) END"


def claim(
    connection: Connection,
    run_id: UUID,
    lane: int,
    after: Cursor | None,
    limit: int,
    given: Mapping[str, Any],
    *,
    alone: bool = False,
    without: Without | None = None,
) -> Page:
    """Take up to ``limit`` due reservations behind ``after``.

    ``alone``: only those that other claims skip, because senders died with them. ``without``: groups to skip.
    ``given``: ``lease`` (seconds), ``id_domain`` (of Message-IDs), ``early`` (they may be on the wire from now on).
    """
    bound = {"by_run": run_id, "by_lane": lane, "inline": INLINE_BYTES // limit, **given}
    if without is not None:
        bound |= {"without_tags": list(without.tags), "without_templates": list(without.templates)}
    rows: list[Any] = []
    if after is not None:
        bound |= {"after_due": after.due_at, "after_id": after.reservation_id}
        rows += _group(connection, bound | {"of_priority": after.priority, "limit": limit}, behind=True)
    priorities: list[int] = []
    if len(rows) < limit:
        # If the page is full, this priority may have more: lower ones come later.
        priorities = due_priorities(connection, below=after.priority if after else None)
        for priority in priorities:
            wanted = {"of_priority": priority, "limit": limit - len(rows)}
            rows += _group(connection, bound | wanted, behind=False, alone=alone)
            if len(rows) >= limit:
                break
    first = reserve_indexes(connection, run_id, len(rows)) if rows else 1
    claimed = [_claimed(row, index) for index, row in enumerate(rows, first)]
    if len(rows) < limit:
        return Page(claimed, None, has_isolated=bool(priorities) and not rows)
    last = rows[-1]
    return Page(claimed, Cursor(last.priority, last.due, last.id))


def due_priorities(connection: Connection, below: int | None = None) -> list[int]:
    """Return the priorities that have due reservations, highest first.

    The index is read by one jump for each. Reservations of next week are not read.
    """
    bound = {} if below is None else {"below": below}
    return sorted(connection.scalars(_due_priorities(whole=below is None), bound), reverse=True)


def load(connection: Connection, claimed: Sequence[Claimed]) -> list[ClaimedMail]:
    """Return the mails of ``claimed`` that are still held, in order."""
    wanted = [c.claim.reservation_id for c in claimed]
    rows = {row.id: row for row in connection.execute(_load(), {"ids": wanted}).all()}
    return [
        _mail(c.claim, c.index, row)
        for c in claimed
        if (row := rows.get(c.claim.reservation_id)) is not None and row.claim_no == c.claim.claim_no
    ]


def reserve_indexes(connection: Connection, run_id: UUID, count: int) -> int:
    """Reserve ``count`` item indexes of the run; return the first."""
    claimed = connection.execute(_reserve_indexes(), {"run": run_id, "count": count}).scalar_one_or_none()
    if claimed is None:
        raise StoreError(f"run {run_id} has no row in batch_runs", transient=False)
    return int(claimed) - count + 1


def commit_intent(connection: Connection, run_id: UUID, claims: Sequence[Claim]) -> set[Claim]:
    """Write that the last bytes of ``claims`` are sent now; return the claims that may send them."""
    pairs = [(claim.reservation_id, claim.claim_no) for claim in claims]
    return {Claim(*row) for row in connection.execute(_intend(), {"the_run": run_id, "claims": pairs})}


def release_orphans(connection: Connection, run_id: UUID, lane: int, held: Collection[Claim]) -> int:
    """Release the lane's claims that are not in ``held``; return how many there were."""
    mine = sa.select(_r.id, _r.claim_no).where(SENDING, _r.run_id == run_id, _r.lane == lane)
    rows = connection.execute(mine.with_for_update(skip_locked=True)).all()
    strays = [row.id for row in rows if Claim(row.id, row.claim_no) not in held]
    if strays:
        untouched = {**columns_after(Event.RELEASED), "wire_at": None}
        update = sa.update(mail_reservations).where(_r.id.in_(strays), changeable(Event.RELEASED))
        connection.execute(update.values(untouched))
    return len(strays)


def _group(connection: Connection, bound: Mapping[str, Any], *, behind: bool, alone: bool = False) -> list[Any]:
    statement = claim_statement(behind=behind, alone=alone, without="without_tags" in bound)
    # RETURNING has no order of its own.
    rows = connection.execute(statement, bound).all()
    return sorted(rows, key=lambda row: (row.due, row.id))


def _claimed(row: Any, index: int) -> Claimed:
    claim = Claim(row[0], row[1])
    return Claimed(claim, index, row.size, None if row.recipients is None else _mail(claim, index, row))


def _mail(claim: Claim, index: int, row: Any) -> ClaimedMail:
    """Read a row that ends in ``_OF_A_MAIL``, by position: reading by name costs more than all the rest."""
    message_id, attempts, verdicts, tag, *mail = row[-len(_OF_A_MAIL) :]
    return ClaimedMail(
        claim=claim,
        index=index,
        mail=Mail(**dict(zip(MAIL_FIELDS, mail, strict=True))),
        message_id=message_id,
        attempts=attempts,
        earlier=accepted_in(verdicts),
        tag=tag,
    )


# --- the statements ---


@cache
def _due_priorities(*, whole: bool) -> sa.Executable:
    """Select the priorities that have due reservations: all, or those below one."""
    level = levels("level", None if whole else sa.bindparam("below", type_=sa.BigInteger))
    due = sa.exists().where(PENDING, _r.priority == level.c.priority, _r.due_at <= now())
    return sa.select(level.c.priority).where(level.c.priority.is_not(None), due)


@cache
def claim_statement(*, behind: bool, alone: bool = False, without: bool = False) -> sa.Executable:
    """Claim due reservations of one priority, from the first, or ``behind`` a key.

    ``alone``: those that must be claimed alone, otherwise the others. ``without``: some groups are skipped.
    """
    in_priority = _r.priority == sa.bindparam("of_priority", type_=sa.Integer)
    due = sa.select(_r.id).where(changeable(Event.CLAIM), in_priority, _r.due_at <= now())
    due = due.where(must_be_isolated() if alone else sa.not_(must_be_isolated()))
    if without:
        due = due.where(_of_no_group())
    if behind:
        key = sa.tuple_(sa.bindparam("after_due", type_=_AS_STORED), sa.bindparam("after_id", type_=Guid))
        due = due.where(sa.tuple_(_r.due_at, _r.id) > key)
    limit = sa.bindparam("limit", type_=sa.Integer)
    # A mail with fewer dead senders goes first: probably it is not the mail that kills them.
    order = (_r.claim_no, _r.due_at, _r.id) if alone else (_r.due_at, _r.id)
    due = due.order_by(*order).limit(limit).with_for_update(skip_locked=True)
    # MATERIALIZED (and a CTE at all): a planner that inlines the subquery may lock more rows than LIMIT says.
    ids = due.cte("due").prefix_with("MATERIALIZED", dialect="postgresql")
    own_id = sa.literal("<") + sa.cast(_r.id, sa.Text) + "@" + sa.bindparam("id_domain", type_=sa.Text) + ">"
    size = octets(_r.recipients) + octets(_r.body_text) + octets(_r.body_html) + json_octets(_r.context)
    small = size <= sa.bindparam("inline", type_=sa.Integer)
    return (
        sa.update(mail_reservations)
        .where(_r.id.in_(sa.select(ids.c.id)))
        .values(
            status=transition(Event.CLAIM).status.value,
            run_id=sa.bindparam("by_run", type_=Guid),
            lane=sa.bindparam("by_lane", type_=sa.Integer),
            item_index=None,
            claim_no=_next_number(),
            lease_until=now(sa.bindparam("lease", type_=sa.Float)),
            wire_at=sa.case((sa.bindparam("early", type_=sa.Boolean), now()), else_=None),
            message_id=sa.func.coalesce(_r.message_id, own_id),
        )
        .returning(
            _r.id,
            _r.claim_no,
            _r.priority,
            sa.type_coerce(_r.due_at, _AS_STORED).label("due"),
            size.label("size"),
            *(sa.case((small, _r[name])).label(name) if name in _FAT else _r[name] for name in _OF_A_MAIL),
        )
    )


def _of_no_group() -> sa.ColumnElement[bool]:
    """Return the condition that neither the tag is skipped nor, for a mail without a tag, the template."""
    tag, template = sa.func.coalesce(_r.tag, ""), sa.func.coalesce(_r.template, "")
    tags: sa.BindParameter[Any] = sa.bindparam("without_tags", expanding=True, type_=Text)
    templates: sa.BindParameter[Any] = sa.bindparam("without_templates", expanding=True, type_=Text)
    return sa.and_(tag.not_in(tags), sa.or_(tag != "", template.not_in(templates)))


def _next_number() -> sa.ColumnElement[int]:
    """Return the number of a new claim. It must differ from the one before; after the largest comes 1."""
    number = sa.cast(_r.claim_no, sa.Integer)
    return sa.case((number < MOST, number + 1), else_=1)


@cache
def _load() -> sa.Executable:
    return sa.select(_r.id, _r.claim_no, *(_r[name] for name in _OF_A_MAIL)).where(
        _r.id.in_(sa.bindparam("ids", expanding=True, type_=Guid)), SENDING
    )


@cache
def _intend() -> sa.Executable:
    runs = batch_runs.c
    goes_on = sa.exists().where(runs.run_id == sa.bindparam("the_run", type_=Guid), runs.stop.is_(None))
    claims: sa.BindParameter[Any] = sa.bindparam("claims", expanding=True)
    return (
        sa.update(mail_reservations)
        .where(sa.tuple_(_r.id, _r.claim_no).in_(claims), SENDING, _r.lease_until > now(), goes_on)
        .values(wire_at=now())
        .returning(_r.id, _r.claim_no)
    )


@cache
def _reserve_indexes() -> sa.Executable:
    runs = batch_runs.c
    return (
        sa.update(batch_runs)
        .where(runs.run_id == sa.bindparam("run", type_=Guid))
        .values(claimed=raised(runs.claimed, sa.bindparam("count", type_=sa.Integer)))
        .returning(runs.claimed)
    )
