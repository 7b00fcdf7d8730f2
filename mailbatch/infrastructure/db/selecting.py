"""Selects the rows of a ``Selection``, newest first, by scans that each read a bounded number of rows.

For a state, a tag, a time or a run an index has the rows in order, and a scan reads only the rows that are shown. For
a part of the recipients or a reply there is no index. There a scan compares one row after the other and returns the
row at which it ended, so that the next scan continues behind it. The time of one scan does not depend on the size of
the table.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from mailbatch.domain.reservation import FINISHED, Status
from mailbatch.infrastructure.db.conditions import is_in, time_of
from mailbatch.infrastructure.db.tables import mail_reservations, run_errors
from mailbatch.infrastructure.db.types import Guid

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from uuid import UUID

    from mailbatch.domain.selection import Selection

_r = mail_reservations.c
RARE = 10_000
"""If an index finds at most this many rows by a tag or a text, all of them are read, whatever the other conditions."""
ID, MOMENT, FITS, LAST = "_id", "_moment", "_fits", "_last"
"""Extra columns of a scan's rows: id and moment (the place), whether the row is selected, whether the scan ended at it
because it had read all the rows that it may."""
_REFUSING = "45"
_KNOWN = ("id", "status", "created_at", "finished_at", "tag", "recipients", "reply_code")


@dataclass(frozen=True, slots=True)
class Scan:
    """Reads at most ``rows`` rows behind the place ``after`` (moment and id), and selects those that ``which`` means.

    ``few``: the field of ``which`` (``tag`` or ``to``) by which alone an index finds at most ``RARE`` rows, if any.
    """

    which: Selection
    few: str | None
    after: tuple[Any, Any] | None
    rows: int

    def page(self, columns: Collection[sa.ColumnElement[Any]], limit: int) -> sa.Select[Any]:
        """Select ``columns`` of the first ``limit`` rows that fit, and of the last row that a full scan read.

        A scan is full if it read ``rows`` rows. Each row also has ``ID``, ``MOMENT``, ``FITS`` and ``LAST``.
        """
        found = self._numbered()
        meant = sa.or_(found.c.fits, found.c.number == self.rows)
        keys = sa.select(found).where(meant).order_by(found.c.moment.desc(), found.c.id.desc()).limit(limit).subquery()
        last: sa.ColumnElement[bool] = keys.c.number == self.rows
        place = (keys.c.id.label(ID), keys.c.moment.label(MOMENT), keys.c.fits.label(FITS), last.label(LAST))
        page: sa.Select[Any] = sa.select(*columns, *place)
        return page.join(keys, keys.c.id == _r.id).order_by(keys.c.moment.desc(), keys.c.id.desc())

    def count(self) -> sa.Select[Any]:
        """Select how many rows fit, as ``many``, and ``ID`` and ``MOMENT`` of the last row that a full scan read.

        If no row has to be compared, all rows that are read fit, and ``ID`` and ``MOMENT`` are NULL.
        """
        if not compares(self.which, self.few):
            return self._count_all()
        found = self._numbered()
        full = found.c.number == self.rows
        # PostgreSQL 15 has no max() of UUIDs.
        last = sa.func.max(sa.case((full, sa.cast(found.c.id, sa.Text))))
        columns: tuple[sa.ColumnElement[Any], ...] = (
            sa.func.count(sa.case((found.c.fits, 1))).label("many"),
            sa.type_coerce(last, Guid).label(ID),
            sa.func.max(sa.case((full, found.c.moment)), type_=found.c.moment.type).label(MOMENT),
        )
        return sa.select(*columns)

    def _count_all(self) -> sa.Select[Any]:
        one: sa.Label[int] = sa.literal_column("1", sa.Integer).label("one")
        # ORDER BY makes PostgreSQL use an index. Without it, it may read the table up to the rows that are selected.
        ranges = [
            sa.select(one).where(*s.where).order_by(s.moment.desc()).limit(self.rows).subquery()
            for s in _sources(self.which, self.few)
        ]
        each = sa.union_all(*(sa.select(*some.c) for some in ranges)).subquery()
        counted = sa.select(each.c.one).limit(self.rows).subquery()
        columns: tuple[sa.ColumnElement[Any], ...] = (
            sa.func.count().label("many"),
            sa.null().label(ID),
            sa.null().label(MOMENT),
        )
        return sa.select(*columns).select_from(counted)

    def _numbered(self) -> sa.Subquery:
        sources = [self._newest_of(source) for source in _sources(self.which, self.few)]
        each = sa.union_all(*(sa.select(*s.c) for s in sources)).subquery() if len(sources) > 1 else sources[0]
        order = each.c.moment.desc(), each.c.id.desc()
        newest = sa.select(*each.c).order_by(*order).limit(self.rows).subquery()
        number = sa.func.row_number().over(order_by=(newest.c.moment.desc(), newest.c.id.desc()))
        return sa.select(*newest.c, number.label("number")).subquery()

    def _newest_of(self, source: _Source) -> sa.Subquery:
        where = list(source.where)
        if self.after is not None:
            key = zip(self.after, (source.moment, source.id), strict=True)
            where.append(
                sa.tuple_(source.moment, source.id) < sa.tuple_(*(sa.literal(value, of.type) for value, of in key))
            )
        columns = source.id.label("id"), source.moment.label("moment"), source.fits.label("fits")
        return (
            sa.select(*columns)
            .where(*where)
            .order_by(source.moment.desc(), source.id.desc())
            .limit(self.rows)
            .subquery()
        )


def compares(which: Selection, few: str | None) -> bool:
    """Return whether a scan has to compare rows, because no index finds exactly the selected ones."""
    return any(source.compares for source in _sources(which, few))


def among(which: Selection, field: str) -> sa.Select[Any]:
    """Select how many rows ``which`` would have with ``field`` as its only condition, up to ``RARE`` + 1."""
    found = sa.select(_r.id).where(_by(which, field)).limit(RARE + 1)
    return sa.select(sa.func.count()).select_from(found.subquery())


@dataclass(frozen=True, slots=True)
class _Source:
    """A range of one index, in the order of ``moment`` and ``id``. ``compared``: further conditions of its rows."""

    where: list[sa.ColumnElement[bool]]
    id: sa.ColumnElement[UUID]
    moment: sa.ColumnElement[Any]
    compared: list[sa.ColumnElement[bool]]

    @property
    def compares(self) -> bool:
        return bool(self.compared)

    @property
    def fits(self) -> sa.ColumnElement[bool]:
        return sa.func.coalesce(sa.and_(*self.compared), sa.false()) if self.compared else sa.true()


def _sources(which: Selection, few: str | None) -> Iterator[_Source]:
    if few is not None:
        yield _of_few(which, few)
    elif which.tag is not None and which.status is None and not which.timed:
        yield _Source([_r.tag == which.tag], _r.id, _r.created_at, _compared(which, _r, tag=False))
    else:
        for status in _statuses(which):
            yield _of_status(which, status)


def _by(which: Selection, field: str) -> sa.ColumnElement[bool]:
    return _r.tag == which.tag if field == "tag" else _r.recipients.icontains(which.to, autoescape=True)


def _of_few(which: Selection, field: str) -> _Source:
    # LIMIT makes the planner use the index of this field.
    few = sa.select(*(_r[name] for name in _KNOWN)).where(_by(which, field)).limit(RARE + 1).subquery()
    moment: sa.ColumnElement[Any] = few.c.created_at
    if which.timed:
        moment = sa.case((few.c.status.in_(sorted(FINISHED)), few.c.finished_at), else_=few.c.created_at)
    where = [*_timed(which, moment), *_compared(which, few.c)]
    if which.status is not None:
        where.append(few.c.status == which.status.value)
    if which.timed:
        where.append(moment.is_not(None))
    return _Source(where, few.c.id, moment, [])


def _of_status(which: Selection, status: Status) -> _Source:
    moment = _r.finished_at if which.timed and status in FINISHED else _r.created_at
    where = [is_in(status), *_timed(which, moment)]
    if moment is _r.finished_at:
        # With this condition the planner uses the partial index.
        where.append(moment.is_not(None))
    if which.run_id is not None:
        where += _of_run(which.run_id, status)
    return _Source(where, _r.id, moment, _compared(which, _r))


def _statuses(which: Selection) -> list[Status]:
    statuses = [which.status] if which.status else list(Status)
    if which.reply is not None and which.reply[0] in _REFUSING and len(statuses) > 1:
        # Most mails are sent, and no sent mail has such a reply: do not read them.
        statuses.remove(Status.SENT)
    return statuses


def _timed(which: Selection, moment: sa.ColumnElement[Any]) -> list[sa.ColumnElement[bool]]:
    conditions = []
    if which.since is not None:
        conditions.append(moment >= which.since)
    if which.until is not None:
        conditions.append(moment < which.until)
    return conditions


def _compared(which: Selection, c: Any, *, tag: bool = True) -> list[sa.ColumnElement[bool]]:
    conditions = []
    if tag and which.tag is not None:
        conditions.append(c.tag == which.tag)
    if which.to is not None:
        conditions.append(c.recipients.icontains(which.to, autoescape=True))
    if which.reply is not None:
        conditions.append(_replied(which.reply, c.reply_code))
        if which.status is None and which.reply[0] in _REFUSING:
            conditions.append(c.status != Status.SENT.value)
    return conditions


def _replied(reply: str, code: sa.ColumnElement[int]) -> sa.ColumnElement[bool]:
    if reply == "none":
        return code.is_(None)
    if reply.endswith("xx"):
        first = int(reply[0]) * 100
        return code.between(first, first + 99)
    return code == int(reply)


def _of_run(run_id: UUID, status: Status) -> list[sa.ColumnElement[bool]]:
    """Return the conditions for mails whose last claim was of the run ``run_id``.

    There is no index by run. Finished mails are found by the time of the run, and deferred ones by its errors.
    """
    conditions = [_r.run_id == run_id]
    if status in FINISHED:
        began, ended = time_of(run_id)
        conditions += [_r.finished_at >= began, _r.finished_at <= ended]
    elif status is Status.PENDING:
        conditions.append(_r.id.in_(sa.select(run_errors.c.reservation_id).where(run_errors.c.run_id == run_id)))
    return conditions
