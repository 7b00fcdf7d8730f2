"""Claim due reservations: find the priorities that have some, claim a group, and reserve its item indexes.

Each statement is built once, and executed with new parameters for each group: building one costs three times as much
as executing it. Values such as 'pending' are literals and not parameters: only then the planner uses partial indexes.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.ext.compiler import compiles

from mailbatch.domain.claimed import Claimed, ClaimedMail, Cursor, Page
from mailbatch.domain.errors import StoreError
from mailbatch.domain.lifecycle import Event, transition
from mailbatch.domain.message import Claim
from mailbatch.domain.reservation import MAIL_FIELDS, Mail
from mailbatch.infrastructure.db import skipping
from mailbatch.infrastructure.db.conditions import PENDING, SENDING, read_once
from mailbatch.infrastructure.db.contents import StoredContent
from mailbatch.infrastructure.db.ended_leases import must_be_isolated
from mailbatch.infrastructure.db.priorities import levels
from mailbatch.infrastructure.db.settling import accepted_in
from mailbatch.infrastructure.db.tables import batch_runs, mail_reservations
from mailbatch.infrastructure.db.transitions import changeable, columns_after
from mailbatch.infrastructure.db.types import MOST, Guid, now, octets, raised

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from uuid import UUID

    from sqlalchemy.engine import Connection, Engine
    from sqlalchemy.sql.compiler import SQLCompiler

    from mailbatch.domain.claimed import Without

INLINE_BYTES = 4 * 1024 * 1024
"""Bytes of mails that a claim returns for a whole group. A mail above an equal share of it is loaded later."""

_r = mail_reservations.c
_FAT = ("recipients", "body_text", "body_html", "context", "attachments", "message")
"""Columns of a mail that may be large."""
_WHOLE = 256 * 1024
"""Bytes of a finished message that is read at once; a larger one is read in pieces when it is composed."""
_OF_A_MAIL = ("priority", "message_id", "attempts", "verdicts", "tag", *MAIL_FIELDS)
_SURELY_SMALL = 2000
"""A JSON value that takes fewer bytes than this where it is stored counts with that size."""
_AS_STORED = sa.types.NullType()
"""The type of a cursor's due time: the value is sorted and given back to the database as its driver returned it."""


class json_octets(octets):  # noqa: N801 - reads as the SQL that it becomes
    """The approximate size of a JSON column in bytes, for PostgreSQL.

    The exact size is that of its text, and PostgreSQL must write this text to count it. So a value that is stored in
    fewer than ``_SURELY_SMALL`` bytes counts with its stored size. It may be compressed, to a hundredth at most.
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
    """Claim up to ``limit`` due reservations behind ``after``.

    ``alone``: only reservations that other claims skip, because their last sending processes died. ``without``: mails
    to skip. ``given``: ``lease`` (seconds), ``id_domain`` (the domain of new Message-IDs), ``early`` (whether the mails
    count as on the wire from now on).
    """
    bound = {"by_run": run_id, "by_lane": lane, "inline": INLINE_BYTES // limit, **given}
    if without is not None:
        bound |= skipping.parameters(without)
    rows: list[Any] = []
    if after is not None:
        bound |= {"after_due": after.due_at, "after_id": after.reservation_id}
        rows += _group(connection, bound | {"of_priority": after.priority, "limit": limit}, behind=True)
    priorities: list[int] = []
    if len(rows) < limit:
        # If the page is full, lower priorities must wait: the cursor's priority may have more mails.
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

    The index is read once for each priority, at its first entry. Reservations that are not due are not read.
    """
    bound = {} if below is None else {"below": below}
    return sorted(connection.scalars(_due_priorities(whole=below is None), bound), reverse=True)


def load(connection: Connection, claimed: Sequence[Claimed]) -> list[ClaimedMail]:
    """Return the mails of ``claimed`` whose claims still hold, in the same order."""
    wanted = [c.claim.reservation_id for c in claimed]
    rows = {row.id: row for row in connection.execute(_load(), {"ids": wanted}).all()}
    return [
        _loaded(connection.engine, c, row)
        for c in claimed
        if (row := rows.get(c.claim.reservation_id)) is not None and row.claim_no == c.claim.claim_no
    ]


def _loaded(engine: Engine, claimed: Claimed, row: Any) -> ClaimedMail:
    found = _mail(claimed.claim, claimed.index, row)
    if row.message_size <= _WHOLE:
        return found
    held = sa.and_(_r.id == claimed.claim.reservation_id, _r.claim_no == claimed.claim.claim_no, SENDING)
    message = StoredContent(engine, _r.message, held, row.message_size, "message")
    return replace(found, mail=replace(found.mail, message=message))


def reserve_indexes(connection: Connection, run_id: UUID, count: int) -> int:
    """Reserve ``count`` item indexes of the run; return the first."""
    claimed = connection.execute(_reserve_indexes(), {"run": run_id, "count": count}).scalar_one_or_none()
    if claimed is None:
        raise StoreError(f"run {run_id} has no row in batch_runs", transient=False)
    return int(claimed) - count + 1


def commit_intent(connection: Connection, run_id: UUID, claims: Sequence[Claim]) -> set[Claim]:
    """Write to the rows of ``claims`` that their last bytes are sent now; return the claims for which that was written.

    It is written if the row is still ``sending`` under the same claim number, its lease has not ended, and the run was
    not told to stop.
    """
    pairs = [(claim.reservation_id, claim.claim_no) for claim in claims]
    return {Claim(*row) for row in connection.execute(_intend(), {"the_run": run_id, "claims": pairs})}


def release_orphans(connection: Connection, run_id: UUID, lane: int, held: Collection[Claim]) -> int:
    """Release the lane's claims that are not in ``held``; return how many those were. Skip rows that are locked."""
    mine = sa.select(_r.id, _r.claim_no).where(SENDING, _r.run_id == run_id, _r.lane == lane)
    rows = connection.execute(mine.with_for_update(skip_locked=True)).all()
    strays = [row.id for row in rows if Claim(row.id, row.claim_no) not in held]
    if strays:
        untouched = {**columns_after(Event.RELEASED), "wire_at": None}
        update = sa.update(mail_reservations).where(_r.id.in_(strays), changeable(Event.RELEASED))
        connection.execute(update.values(untouched))
    return len(strays)


def _group(connection: Connection, bound: Mapping[str, Any], *, behind: bool, alone: bool = False) -> list[Any]:
    statement = claim_statement(behind=behind, alone=alone, without=skipping.is_in(bound))
    # RETURNING returns rows in no particular order.
    rows = connection.execute(statement, bound).all()
    # Many mails are due at once, and to compare two UUIDs takes two calls of Python.
    return sorted(rows, key=lambda row: (row.due, row[0].int))


def _claimed(row: Any, index: int) -> Claimed:
    claim = Claim(row[0], row[1])
    return Claimed(claim, index, row.size, None if row.recipients is None else _mail(claim, index, row))


def _mail(claim: Claim, index: int, row: Any) -> ClaimedMail:
    """Make a mail of a row that ends with ``_OF_A_MAIL``, read by position: by name costs more than all the rest."""
    priority, message_id, attempts, verdicts, tag, *mail = row[-len(_OF_A_MAIL) :]
    return ClaimedMail(
        claim=claim,
        index=index,
        mail=Mail(**dict(zip(MAIL_FIELDS, mail, strict=True))),
        message_id=message_id,
        attempts=attempts,
        earlier=accepted_in(verdicts),
        tag=tag,
        priority=priority,
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
    """Return the statement that claims due reservations of one priority, from the first one, or ``behind`` a key.

    ``alone``: claim only those that must be claimed alone; otherwise only the others. ``without``: skip some mails.
    """
    in_priority = _r.priority == sa.bindparam("of_priority", type_=sa.Integer)
    due = sa.select(_r.id).where(changeable(Event.CLAIM), in_priority, _r.due_at <= now())
    due = due.where(must_be_isolated() if alone else sa.not_(must_be_isolated()))
    if without:
        due = due.where(skipping.is_left(run="by_run"))
    if behind:
        key = sa.tuple_(sa.bindparam("after_due", type_=_AS_STORED), sa.bindparam("after_id", type_=Guid))
        due = due.where(sa.tuple_(_r.due_at, _r.id) > key)
    limit = sa.bindparam("limit", type_=sa.Integer)
    # A mail that was claimed less often goes first: it is less likely the mail that kills its senders.
    order = (_r.claim_no, _r.due_at, _r.id) if alone else (_r.due_at, _r.id)
    due = due.order_by(*order).limit(limit).with_for_update(skip_locked=True)
    own_id = sa.literal("<") + sa.cast(_r.id, sa.Text) + "@" + sa.bindparam("id_domain", type_=sa.Text) + ">"
    texts = octets(_r.recipients) + octets(_r.body_text) + octets(_r.body_html) + octets(_r.message)
    size = texts + json_octets(_r.context) + json_octets(_r.attachments)
    small = size <= sa.bindparam("inline", type_=sa.Integer)
    return (
        sa.update(mail_reservations)
        .where(_r.id.in_(read_once(due)))
        .values(
            status=transition(Event.CLAIM).status.value,
            run_id=sa.bindparam("by_run", type_=Guid),
            lane=sa.bindparam("by_lane", type_=sa.Integer),
            item_index=None,
            claim_no=_next_number(),
            lease_until=now(sa.bindparam("lease", type_=sa.Float)),
            wire_at=sa.case((sa.bindparam("early", type_=sa.Boolean), now()), else_=None),
            message_id=sa.func.coalesce(_r.message_id, own_id),
            waits_for=None,
        )
        .returning(
            _r.id,
            _r.claim_no,
            sa.type_coerce(_r.due_at, _AS_STORED).label("due"),
            size.label("size"),
            *(sa.case((small, _r[name])).label(name) if name in _FAT else _r[name] for name in _OF_A_MAIL),
        )
    )


def _next_number() -> sa.ColumnElement[int]:
    """Return the number of a new claim: the last one plus 1, or 1 after the largest number."""
    number = sa.cast(_r.claim_no, sa.Integer)
    return sa.case((number < MOST, number + 1), else_=1)


@cache
def _load() -> sa.Executable:
    size = octets(_r.message)
    whole = {"message": sa.case((size <= _WHOLE, _r.message)).label("message")}
    columns = (whole.get(name, _r[name]) for name in _OF_A_MAIL)
    return sa.select(_r.id, _r.claim_no, size.label("message_size"), *columns).where(
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
