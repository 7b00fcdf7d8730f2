"""Reads and counts reservations, and opens the transactions that store them: the port ``Reservations``."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from mailbatch.domain.message_subject import HEAD
from mailbatch.domain.reservation import Status
from mailbatch.domain.rows import AttemptRow, ReservationPlace, ReservationRow, ReservationSummary
from mailbatch.domain.selection import Counted, ErrorsOf, Found, Tagged, moment_of
from mailbatch.infrastructure.db.engine import reading, writing
from mailbatch.infrastructure.db.intake import SqlIntake
from mailbatch.infrastructure.db.rows import all_of, columns_of, first_of, read_as
from mailbatch.infrastructure.db.searching import Scans
from mailbatch.infrastructure.db.selecting import FITS, ID, LAST, MOMENT
from mailbatch.infrastructure.db.tables import mail_attempts, mail_reservations, run_errors
from mailbatch.infrastructure.db.types import part

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from uuid import UUID

    from sqlalchemy.engine import Engine

    from mailbatch.application.ports.stores import Own, R
    from mailbatch.domain.selection import Group, Selection

_r = mail_reservations.c
_HEADER = 256 * 1024
"""Bytes at the beginning of a finished message in which its Message-ID is looked for."""


@dataclass(frozen=True, slots=True)
class SqlReservations:
    """The port ``Reservations`` on PostgreSQL and SQLite."""

    engine: Engine

    @contextmanager
    def intake(self) -> Iterator[SqlIntake]:
        """Open a transaction in which reservations are stored; see the port."""
        with writing(self.engine) as connection:
            yield SqlIntake(connection)

    def get(self, reservation_id: UUID) -> ReservationRow | None:
        """Read one reservation; see the port."""
        with reading(self.engine) as connection:
            columns = columns_of(ReservationRow, mail_reservations)
            row = first_of(ReservationRow, connection, sa.select(*columns).where(_r.id == reservation_id))
            if row is None or not row.message:
                return row
            start = sa.select(part(_r.message, sa.literal(1), sa.literal(_HEADER))).where(_r.id == reservation_id)
            return row.with_message_id_of(connection.scalar(start) or b"")

    def some(self, ids: Collection[UUID], kind: type[Own]) -> dict[UUID, Own]:
        """Read some reservations; see the port."""
        if not ids:
            return {}
        statement = sa.select(*columns_of(kind, mail_reservations)).where(_r.id.in_(ids))
        with reading(self.engine) as connection:
            found = all_of(kind, connection, statement)
        return {row.id: row for row in self._with_subjects(found)}

    def attempts(self, reservation_id: UUID) -> list[AttemptRow]:
        """Read the attempts to send one reservation; see the port."""
        c = mail_attempts.c
        statement = sa.select(mail_attempts).where(c.reservation_id == reservation_id).order_by(c.claim_no)
        with reading(self.engine) as connection:
            return all_of(AttemptRow, connection, statement)

    def select(self, which: Selection, kind: type[R], after: ReservationPlace | None, limit: int) -> list[R]:
        """Read a page of reservations; see the port."""
        return self.search(which, kind, after, limit).rows

    def search(
        self, which: Selection, kind: type[R], after: ReservationPlace | None, limit: int, within: float | None = None
    ) -> Found[R]:
        """Read a page of reservations, or the part of it that is found ``within`` so many seconds; see the port."""
        scans = Scans(self.engine, which, within)
        place = None if after is None else (moment_of(after, which), after.id)
        rows: list[R] = []
        while len(rows) < limit:
            wanted = limit - len(rows)
            scan = scans.next(place, wanted)
            if scan is None:
                return Found(self._with_subjects(rows), _behind(place))
            found = scans.read(scan.page(columns_of(kind, mail_reservations), wanted))
            rows += [read_as(kind, self.engine, row) for row in found if row[FITS]]
            if not found or (len(found) < wanted and not found[-1][LAST]):
                break
            place = found[-1][MOMENT], found[-1][ID]
        return Found(self._with_subjects(rows), None)

    def _with_subjects(self, rows: list[R]) -> list[R]:
        """Return ``rows``. Summaries of finished messages get their Subject; one statement reads all of these."""
        own = [row.id for row in rows if isinstance(row, ReservationSummary) and row.has_message]
        if not own:
            return rows
        head = part(_r.message, sa.literal(1), sa.literal(HEAD)).label("head")
        with reading(self.engine) as connection:
            heads = {
                row.id: row.head or b"" for row in connection.execute(sa.select(_r.id, head).where(_r.id.in_(own)))
            }
        return [
            row.with_subject_of(heads[row.id]) if isinstance(row, ReservationSummary) and row.id in heads else row
            for row in rows
        ]

    def count(self, which: Selection, cap: int) -> int:
        """Count the reservations that ``which`` selects, up to ``cap``; see the port."""
        return self.estimate(which, cap).many

    def count_by_status(self, group: Group) -> dict[Status, int]:
        """Count the reservations of ``group`` by state; see the port."""
        match group:
            case Tagged(tag):
                meant: sa.ColumnElement[bool] = _r.tag == tag
            case ErrorsOf(run_id):
                meant = _r.id.in_(sa.select(run_errors.c.reservation_id).where(run_errors.c.run_id == run_id))
        statement = sa.select(_r.status, sa.func.count()).where(meant).group_by(_r.status)
        with reading(self.engine) as connection:
            return {Status(status): many for status, many in connection.execute(statement)}

    def estimate(self, which: Selection, cap: int, within: float | None = None) -> Counted:
        """Count up to ``cap``, or those reservations that are found ``within`` so many seconds; see the port."""
        scans, many = Scans(self.engine, which, within), 0
        place: tuple[Any, Any] | None = None
        while (scan := scans.next(place, cap + 1)) is not None:
            found = scans.read(scan.count())[0]
            many += found["many"]
            if many > cap:
                return Counted(cap + 1, exact=False)
            if found[ID] is None:
                return Counted(many, exact=True)
            place = found[MOMENT], found[ID]
        return Counted(many, exact=False)


def _behind(place: tuple[Any, Any] | None) -> ReservationPlace | None:
    """Return a place in a list sorted by moment and id. Its state is made up, because only moment and id are used."""
    if place is None:
        return None
    moment, own = place
    return ReservationPlace(id=own, status=Status.SENT, created_at=moment, finished_at=moment)
