"""Write settlements: one statement for a group, then its attempts and its counts. ``claim_no`` fences each claim."""

from __future__ import annotations

import json
from collections import Counter
from functools import cache
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from mailbatch.domain.gate import NEVER
from mailbatch.domain.lifecycle import TABLE, Attempts, Event, sources
from mailbatch.domain.outcome import Kind, Reply, Verdict
from mailbatch.domain.reservation import FINISHED, Status
from mailbatch.domain.settlement import Tally
from mailbatch.infrastructure.db.conditions import SENT, among
from mailbatch.infrastructure.db.tables import batch_lanes, mail_attempts, mail_reservations
from mailbatch.infrastructure.db.transitions import attempts_after, in_states
from mailbatch.infrastructure.db.types import JSON, Guid, Timestamp, now, raised, storable, upsert

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from uuid import UUID

    from sqlalchemy.engine import Connection
    from sqlalchemy.types import TypeEngine

    from mailbatch.domain.message import Claim
    from mailbatch.domain.settlement import Settlement

_r = mail_reservations.c
_DECIDED = {
    event: {"status": change.status.value, "attempted": int(change.attempts is Attempts.USE)}
    for event in Event
    if (change := TABLE[event].get(Status.SENDING))
}
"""What the table of states says of each event that ends a claim."""
_LATE = sources(Event.ACCEPTED) - {Status.SENDING}
"""States in which an acceptance is still written although the lease has ended."""


def settle(connection: Connection, run_id: UUID, lane: int, settlements: Sequence[Settlement]) -> set[Claim]:
    """Write ``settlements`` where the claim still holds; return the claims for which they are written.

    These include settlements that an earlier call wrote, when its caller got no reply to the commit.
    """
    if not settlements:
        return set()
    held = _write(connection, settlements, late=False)
    if len(held) < len(settlements):
        late = [s for s in settlements if s.claim not in held and s.event is Event.ACCEPTED]
        rescued = _write(connection, late, late=True) if late else set()
        _correct_attempts(connection, rescued)
        held |= rescued
    if lane:
        _count(connection, run_id, lane, [s.tally for s in settlements if s.claim in held])
    tried = [s for s in settlements if s.event is not Event.ACCEPTED and s.attempted and s.claim in held]
    record_attempts(connection, [_attempt_of(s, run_id, lane) for s in tried])
    if len(held) == len(settlements):
        return held
    left = [s for s in settlements if s.attempted and s.claim not in held]
    return held | _written_before(connection, left) if left else held


def _written_before(connection: Connection, settlements: Sequence[Settlement]) -> set[Claim]:
    """Return the claims whose settlement is stored with the same text."""
    pairs = [_pair(s) for s in settlements]
    # SQLite finds no row by a pair. Without the ids alone it would read all attempts, and all that was sent.
    ids = [own for own, _ in pairs]
    sent = sa.select(_r.id, _r.claim_no, _r.status, _r.reply_text).where(
        among(ids, SENT), sa.tuple_(_r.id, _r.claim_no).in_(pairs)
    )
    a = mail_attempts.c
    tried = sa.select(a.reservation_id, a.claim_no, a.outcome, a.reply_text).where(
        a.reservation_id.in_(ids), sa.tuple_(a.reservation_id, a.claim_no).in_(pairs)
    )
    found = {tuple(row) for statement in (sent, tried) for row in connection.execute(statement)}
    return {s.claim for s in settlements if (*_pair(s), s.tally.value, _told(s)) in found}


def _pair(s: Settlement) -> tuple[UUID, int]:
    return s.claim.reservation_id, s.claim.claim_no


def _write(connection: Connection, settlements: Sequence[Settlement], *, late: bool) -> set[Claim]:
    """Write all by one statement, from a JSON document that the database unfolds into rows."""
    rows = [_row_of(s) for s in settlements]
    document = json.dumps(rows, ensure_ascii=False)
    statement = _settle(connection.dialect.name, late=late)
    written = connection.execute(statement, {"document": document}).all()
    if len(written) == len(settlements):
        return {s.claim for s in settlements}
    held = {tuple(row) for row in written}
    return {s.claim for s, row in zip(settlements, rows, strict=True) if (row["id"], row["claim_no"]) in held}


def _count(connection: Connection, run_id: UUID, lane: int, tallies: Sequence[Tally]) -> None:
    """Count what a helper has settled in the same transaction, so that the counts of a killed lane are exact."""
    added = {tally.value: count for tally, count in Counter(tallies).items() if tally is not Tally.RELEASED}
    if added:
        columns = batch_lanes.c
        connection.execute(
            sa.update(batch_lanes)
            .where(columns.run_id == run_id, columns.lane == lane)
            .values({name: columns[name] + count for name, count in added.items()})
        )


def record_attempts(connection: Connection, attempts: Sequence[Mapping[str, Any]]) -> None:
    """Write attempts that did not end in acceptance, each once."""
    if attempts:
        insert = upsert(connection, mail_attempts).on_conflict_do_nothing()
        connection.execute(insert, [{**_NO_ATTEMPT, **a} for a in attempts])


def _correct_attempts(connection: Connection, claims: Iterable[Claim]) -> None:
    """Delete the attempts in doubt of ``claims``, which were accepted after all; the reservation itself says so."""
    a = mail_attempts.c
    for claim in claims:
        connection.execute(
            sa.delete(mail_attempts).where(
                a.reservation_id == claim.reservation_id, a.claim_no == claim.claim_no, a.outcome == "in_doubt"
            )
        )


# --- the statement ---

_ROW: dict[str, TypeEngine[Any]] = {
    "id": Guid(),
    "claim_no": sa.Integer(),
    "status": sa.Text(),
    "attempted": sa.Integer(),
    "retry_in": sa.Float(),
    "waits_for": sa.Text(),
    "error": sa.Text(),
    "reply_code": sa.Integer(),
    "reply_text": sa.Text(),
    "relay": sa.Text(),
    "verdicts": JSON,
    "item_index": sa.Integer(),
}


@cache
def _settle(dialect: str, *, late: bool) -> sa.Executable:
    document = sa.bindparam("document", type_=sa.Text)
    v = (_unfolded_postgresql if dialect == "postgresql" else _unfolded_sqlite)(document)
    attempted = v.c.attempted == 1
    finished = v.c.status.in_([sa.literal_column(f"'{status.value}'") for status in sorted(FINISHED)])
    return (
        sa.update(mail_reservations)
        .where(_r.id == v.c.id, _r.claim_no == v.c.claim_no, _rescued(v) if late else _r.status == _literal("sending"))
        .values(
            status=v.c.status,
            attempts=attempts_after(Attempts.COUNTED) if late else raised(_r.attempts, v.c.attempted),
            retry_at=_retry_at(v),
            waits_for=v.c.waits_for,
            last_error=sa.case((attempted, v.c.error), else_=sa.func.coalesce(v.c.error, _r.last_error)),
            reply_code=sa.case((attempted, v.c.reply_code), else_=_r.reply_code),
            reply_text=sa.case((attempted, v.c.reply_text), else_=_r.reply_text),
            relay=sa.func.coalesce(v.c.relay, _r.relay),
            verdicts=sa.case((attempted, v.c.verdicts), else_=sa.func.coalesce(v.c.verdicts, _r.verdicts)),
            item_index=v.c.item_index,
            sent_at=sa.case((v.c.status == "sent", now()), else_=None),
            finished_at=sa.case((finished, now()), else_=None),
            wire_at=sa.case((v.c.status == "in_doubt", _r.wire_at), else_=None),
            lease_until=None,
        )
        # As the document has them: nearly always the number of rows is enough, and to make a UUID of each costs more.
        .returning(sa.cast(_r.id, sa.Text), sa.type_coerce(_r.claim_no, sa.Integer))
    )


def _retry_at(v: Any) -> sa.ColumnElement[Any]:
    """A mail that waits for a gate without a time waits until somebody opens the gate."""
    never = sa.literal(NEVER, Timestamp())
    return sa.case(
        (v.c.retry_in.is_not(None), now(v.c.retry_in)), (v.c.waits_for.is_not(None), never), else_=_r.retry_at
    )


def _rescued(v: Any) -> sa.ColumnElement[bool]:
    """Lock by id, as operators' acts do, which may change the same mails now: so the two cannot deadlock."""
    in_order = sa.select(_r.id).where(_r.id.in_(sa.select(v.c.id))).order_by(_r.id).with_for_update()
    return sa.and_(_r.id.in_(in_order), in_states(_LATE))


def _literal(status: str) -> sa.ColumnElement[str]:
    """Return a literal, not a parameter: the planner chooses partial indexes by it."""
    return sa.literal_column(f"'{status}'")


def _unfolded_postgresql(document: sa.ColumnElement[str]) -> Any:
    columns: list[Any] = [sa.column(name, type_) for name, type_ in _ROW.items()]
    rows = sa.func.jsonb_to_recordset(sa.cast(document, postgresql.JSONB))
    return rows.table_valued(*columns, name="v").render_derived(with_types=True)


def _unfolded_sqlite(document: sa.ColumnElement[str]) -> Any:
    each = sa.func.json_each(document).table_valued("value", name="each")
    value = each.c.value
    columns: list[Any] = [sa.type_coerce(sa.func.json_extract(value, f"$.{n}"), t).label(n) for n, t in _ROW.items()]
    # MATERIALIZED: otherwise SQLite unfolds the document again for each row that it compares.
    return sa.select(*columns).select_from(each).cte("v").prefix_with("MATERIALIZED")


# --- rows ---

_NO_ATTEMPT = {
    "run_id": None,
    "lane": None,
    "relay": None,
    "reply_code": None,
    "enhanced_code": None,
    "reply_text": None,
    "verdicts": None,
}


def _row_of(s: Settlement) -> dict[str, Any]:
    """Return the row of the document. A key that is missing is NULL."""
    row: dict[str, Any] = {
        "id": str(s.claim.reservation_id),
        "claim_no": s.claim.claim_no,
        **_DECIDED[s.event],
    }
    if s.reply is not None:
        row |= {"reply_code": s.reply.code, "reply_text": storable(s.reply.text), "relay": s.relay}
    if s.errors:
        row |= {"error": storable("; ".join(s.errors)), "relay": s.relay}
    if s.retry_in is not None:
        row["retry_in"] = s.retry_in
    if s.waits_for is not None:
        row["waits_for"] = storable(s.waits_for)
    if s.verdicts is not None:
        row["verdicts"] = stored_verdicts(s.verdicts)
    if s.index is not None:
        row["item_index"] = s.index
    return row


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
        "reply_text": _told(s),
        "verdicts": stored_verdicts(s.verdicts),
    }


def _told(s: Settlement) -> str:
    return storable(s.reply.text if s.reply else "; ".join(s.errors))


def stored_verdicts(verdicts: Mapping[str, Verdict] | None) -> dict[str, Any] | None:
    """Return verdicts as the ``verdicts`` columns store them: recipient to kind, code and text."""
    if verdicts is None:
        return None
    return {
        storable(to): {"kind": v.kind.value, "code": v.reply.code, "text": storable(v.reply.text)}
        for to, v in verdicts.items()
    }


def accepted_in(stored: Mapping[str, Any] | None) -> dict[str, Verdict]:
    """Return the verdicts of recipients that accepted the mail in an earlier attempt: a retry skips them."""
    if not stored:
        return {}
    return {
        to: Verdict(Kind.ACCEPTED, Reply(v["code"], v["text"]))
        for to, v in stored.items()
        if v["kind"] == Kind.ACCEPTED
    }
