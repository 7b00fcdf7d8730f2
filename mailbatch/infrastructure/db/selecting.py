"""Which rows a ``Selection`` means: for each state a range of one index, so that a list never sorts the table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from mailbatch.application.operating_ports import moment_of
from mailbatch.domain.reservation import FINISHED, Status
from mailbatch.infrastructure.db.tables import batch_runs, mail_reservations, run_errors
from mailbatch.infrastructure.db.types import now

if TYPE_CHECKING:
    from uuid import UUID

    from mailbatch.application.operating_ports import Row, Selection

_r = mail_reservations.c


def newest(which: Selection, after: Row | None, limit: int) -> sa.Subquery:
    """The keys (``id``, ``moment``) of a page: of each state its newest, of these the newest."""
    each = sa.union_all(*(_newest_of(which, status, after, limit) for status in _statuses(which))).subquery()
    return sa.select(each.c.id, each.c.moment).order_by(each.c.moment.desc(), each.c.id.desc()).limit(limit).subquery()


def counted(which: Selection, cap: int) -> sa.Select[Any]:
    """How many there are; counted up to one more than ``cap``."""
    each = sa.union_all(
        *(
            sa.select(sa.select(_r.id).where(*_conditions(which, status)).limit(cap + 1).subquery())
            for status in _statuses(which)
        )
    ).subquery()
    return sa.select(sa.func.count()).select_from(sa.select(each.c.id).limit(cap + 1).subquery())


def _statuses(which: Selection) -> list[Status]:
    statuses = [which.status] if which.status else list(Status)
    if which.reply is not None and which.reply[0] in "45" and len(statuses) > 1:
        # What was sent, which is most, was not answered with these: it need not be looked through.
        statuses.remove(Status.SENT)
    return statuses


def _newest_of(which: Selection, status: Status, after: Row | None, limit: int) -> sa.Select[Any]:
    moment = _moment(which, status)
    conditions = _conditions(which, status)
    if after is not None:
        last = sa.literal(moment_of(after, which), moment.type), sa.literal(after["id"], _r.id.type)
        conditions.append(sa.tuple_(moment, _r.id) < sa.tuple_(*last))
    keys = (
        sa.select(_r.id, moment.label("moment"))
        .where(*conditions)
        .order_by(moment.desc(), _r.id.desc())
        .limit(limit)
        .subquery()
    )
    return sa.select(keys.c.id, keys.c.moment)


def _moment(which: Selection, status: Status) -> sa.ColumnElement[Any]:
    return _r.finished_at if which.timed and status in FINISHED else _r.created_at


def _conditions(which: Selection, status: Status) -> list[sa.ColumnElement[bool]]:
    conditions = [_r.status == sa.literal_column(f"'{status.value}'")]
    moment = _moment(which, status)
    if moment is _r.finished_at:
        # So that the partial index is seen to fit.
        conditions.append(moment.is_not(None))
    if which.tag is not None:
        conditions.append(_r.tag == which.tag)
    if which.to is not None:
        conditions.append(_r.recipients.icontains(which.to, autoescape=True))
    if which.since is not None:
        conditions.append(moment >= which.since)
    if which.until is not None:
        conditions.append(moment < which.until)
    if which.reply is not None:
        conditions.append(_replied(which.reply))
    if which.run_id is not None:
        conditions += _of_run(which.run_id, status)
    return conditions


def _replied(reply: str) -> sa.ColumnElement[bool]:
    if reply == "none":
        return _r.reply_code.is_(None)
    if reply.endswith("xx"):
        first = int(reply[0]) * 100
        return _r.reply_code.between(first, first + 99)
    return _r.reply_code == int(reply)


def _of_run(run_id: UUID, status: Status) -> list[sa.ColumnElement[bool]]:
    """What a run had in hand last. There is no index by run: a run has its own time, and notes what it put off."""
    conditions = [_r.run_id == run_id]
    run = batch_runs.c
    if status in FINISHED:
        began = sa.select(run.started_at).where(run.run_id == run_id).scalar_subquery()
        ended = sa.select(sa.func.coalesce(run.finished_at, now(60))).where(run.run_id == run_id).scalar_subquery()
        conditions += [_r.finished_at >= began, _r.finished_at <= ended]
    elif status is Status.PENDING:
        conditions.append(_r.id.in_(sa.select(run_errors.c.reservation_id).where(run_errors.c.run_id == run_id)))
    return conditions
