"""Stores reservations, one for each idempotency key: the port ``Intake``."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy import exc
from sqlalchemy.dialects import postgresql

from mailbatch.domain.errors import KeyConflict, MailbatchError, StateConflict, StoreError
from mailbatch.domain.reservation import MAIL_FIELDS, Stored
from mailbatch.infrastructure.db import files
from mailbatch.infrastructure.db.driver_errors import describe, is_transient
from mailbatch.infrastructure.db.idempotency import finish
from mailbatch.infrastructure.db.location import qualified
from mailbatch.infrastructure.db.stored import read_json
from mailbatch.infrastructure.db.tables import mail_reservations
from mailbatch.infrastructure.db.traces import keep
from mailbatch.infrastructure.db.types import Timestamp, server_now, text_of, upsert

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
    from uuid import UUID

    from sqlalchemy.engine import Connection

    from mailbatch.domain.reservation import Reservation

_r = mail_reservations.c
_WRITTEN = ("id", *MAIL_FIELDS, "scheduled_at", "expires_at", "priority", "idempotency_key", "tag")
_KEYS = (_r.id, _r.idempotency_key)
_TIMES = ("scheduled_at", "expires_at")
_JSON = ("context", "headers", "attachments")
_COMPARED = (*MAIL_FIELDS, *_TIMES, "priority", "tag")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_COMPARED_AT_ONCE = 50
"""Rows that are read to be compared: each may have some megabytes."""
_TRIES = 10
"""How often an INSERT is tried: the row that prevents it may be deleted before it can be read."""


@dataclass(frozen=True, slots=True)
class SqlIntake:
    """The port ``Intake`` in the transaction of ``connection``. The caller begins and ends this transaction.

    Errors of the database are raised as SQLAlchemy's own exceptions, because the caller's transaction has failed.
    """

    connection: Connection

    def add(self, reservation: Reservation) -> Stored:
        """Store ``reservation``, or find the one that its key stored before; see the port."""
        values = _values(reservation, _columns([reservation]))
        statement = _insert(self.connection, values).returning(_r.id)
        # The row that prevented the INSERT may be purged before it is read: then the next INSERT succeeds.
        for _ in range(_TRIES):
            inserted = self.connection.execute(statement, values).scalar_one_or_none()
            if inserted is not None:
                return Stored(inserted, new=True)
            earlier = self.connection.execute(_in_the_way(reservation, _KEYS)).mappings().first()
            if earlier is not None:
                return self._known(reservation, values, earlier)
        raise StoreError(
            f"reservation {reservation.id} can neither be stored nor read: another has its id or its key",
            transient=True,
        )

    def _known(self, reservation: Reservation, values: dict[str, Any], earlier: Any) -> Stored:
        """Return the reservation that is stored under the same key. Compare it with ``values`` if this role may.

        Raises:
            KeyConflict: it differs, or not the key but the id of ``reservation`` is taken.
        """
        if text_of(earlier["idempotency_key"]) != values["idempotency_key"]:
            raise KeyConflict(f"id: {values['id']} is taken by another reservation; leave the id out")
        if _may_compare(self.connection):
            statement = _in_the_way(reservation, _comparable(self.connection))
            if (whole := self.connection.execute(statement).mappings().first()) is not None:
                _ensure_same(values, whole, self.connection)
        return Stored(earlier["id"], new=False)

    def remember(self, key: str, owner: str, status: int, body: str) -> None:
        """Store the response to a request in the same transaction as its effects; see the port."""
        if not finish(self.connection, key, owner, status, body):
            raise StateConflict("this request took too long, and another with its key has begun; send it again")

    def trace(self, ids: Sequence[UUID], headers: Mapping[str, str]) -> None:
        """Store the trace in which the reservations ``ids`` were made; see the port."""
        keep(self.connection, ids, headers)

    def store_file(self, content: bytes, filename: str | None, content_type: str | None) -> str:
        """Store a file, or touch the one with this content; see the port."""
        return files.store(self.connection, content, filename, content_type)

    def touch_files(self, ids: Collection[str]) -> dict[str, int]:
        """Keep files from being purged; see the port."""
        return files.touch(self.connection, ids)

    def add_many(self, reservations: Sequence[Reservation]) -> list[Stored | MailbatchError]:
        """Store each reservation that can be stored; see the port.

        All are stored by one statement. If some are known, these are compared and the others stored by one statement.
        If one of them is refused, they are stored one by one instead.
        """
        if not reservations:
            return []
        try:
            with self.connection.begin_nested():
                self._add_together(reservations)
        except _NotAllNew:
            return self._add_unknown(reservations)
        except (exc.DBAPIError, StoreError) as error:
            if _may_pass(error):
                raise
            return [self._add_apart(reservation) for reservation in reservations]
        return [Stored(reservation.id, new=True) for reservation in reservations]

    def _add_together(self, reservations: Sequence[Reservation]) -> None:
        columns = _columns(reservations)
        rows = [_values(reservation, columns) for reservation in reservations]
        statement = _insert(self.connection, columns)
        done = self.connection.execute(statement, rows, execution_options={"preserve_rowcount": True})
        if done.rowcount != len(rows):
            raise _NotAllNew

    def _add_unknown(self, reservations: Sequence[Reservation]) -> list[Stored | MailbatchError]:
        """Store those whose keys are not known, and compare the others with what their keys have stored before."""
        earlier = self._earlier([one.idempotency_key for one in reservations if one.idempotency_key is not None])
        if not earlier:  # an id is taken, or two of them have the same key
            return [self._add_apart(reservation) for reservation in reservations]
        unknown = iter(self.add_many([one for one in reservations if one.idempotency_key not in earlier]))
        return [
            next(unknown) if row is None else self._compared(one, row)
            for one, row in zip(reservations, (earlier.get(one.idempotency_key) for one in reservations), strict=True)
        ]

    def _earlier(self, keys: Sequence[str]) -> dict[str | None, Any]:
        """Return the rows that ``keys`` have stored, by key, with what this role may compare.

        Returns nothing if one of them has a value that the driver refuses.
        """
        columns = [*(_comparable(self.connection) if _may_compare(self.connection) else [_r.id]), _r.idempotency_key]
        found = dict[str | None, Any]()
        try:
            with self.connection.begin_nested():
                for start in range(0, len(keys), _COMPARED_AT_ONCE):
                    some = _r.idempotency_key.in_(keys[start : start + _COMPARED_AT_ONCE])
                    rows = self.connection.execute(sa.select(*columns).where(some)).mappings()
                    found |= {text_of(row["idempotency_key"]): row for row in rows}
        except exc.DBAPIError as error:
            if _may_pass(error):
                raise
            return {}
        return found

    def _compared(self, reservation: Reservation, earlier: Any) -> Stored | KeyConflict:
        try:
            if _COMPARED[0] in earlier:
                _ensure_same(_values(reservation, _columns([reservation])), earlier, self.connection)
        except KeyConflict as error:
            return error
        return Stored(earlier["id"], new=False)

    def _add_apart(self, reservation: Reservation) -> Stored | MailbatchError:
        try:
            with self.connection.begin_nested():
                return self.add(reservation)
        except KeyConflict as error:
            return error
        except (exc.DBAPIError, StoreError) as error:
            if _may_pass(error):
                raise
            if isinstance(error, StoreError):
                return error
            return StoreError(describe(error, self.connection.engine), transient=False)


class _NotAllNew(Exception):
    """Some reservations of a batch were not inserted, because a row has their id or key."""


def _may_pass(error: exc.DBAPIError | StoreError) -> bool:
    return error.transient if isinstance(error, StoreError) else is_transient(error)


def _columns(reservations: Sequence[Reservation]) -> Sequence[str]:
    """Return the columns to write. Only a finished message has a Message-ID before it is claimed."""
    has_ids = any(reservation.message_id is not None for reservation in reservations)
    return (*_WRITTEN, "message_id") if has_ids else _WRITTEN


def _insert(connection: Connection, columns: Iterable[str]) -> Any:
    """Return the INSERT of one reservation or of many. It skips a reservation whose id or key is taken."""
    values: dict[str, Any] = {name: sa.bindparam(name, type_=_r[name].type) for name in columns}
    values["scheduled_at"] = sa.func.coalesce(values["scheduled_at"], server_now())
    return upsert(connection, mail_reservations).values(values).on_conflict_do_nothing()


def _values(reservation: Reservation, columns: Sequence[str]) -> dict[str, Any]:
    return {name: getattr(reservation.mail if name in MAIL_FIELDS else reservation, name) for name in columns}


def _in_the_way(reservation: Reservation, columns: Sequence[Any]) -> sa.Select[Any]:
    """Select the row that prevents the INSERT of ``reservation``: the one with its key, or else the one with its id."""
    by_id = _r.id == reservation.id
    where = (
        by_id
        if reservation.idempotency_key is None
        else sa.or_(_r.idempotency_key == reservation.idempotency_key, by_id)
    )
    return sa.select(*columns).where(where).order_by(_r.idempotency_key.is_(None), by_id).limit(1)


def _may_compare(connection: Connection) -> bool:
    """Return whether this role may read the columns to compare. On SQLite every caller may."""
    if connection.dialect.name != "postgresql":
        return True
    table = sa.cast(sa.literal(qualified(connection, mail_reservations)), postgresql.REGCLASS)
    granted = (sa.func.has_column_privilege(table, sa.literal(name), sa.literal("SELECT")) for name in _COMPARED)
    return bool(connection.scalar(sa.select(sa.and_(*granted))))


def _comparable(connection: Connection) -> list[Any]:
    """Return the columns to compare, in a form that does not depend on the settings of the application's connection.

    Its engine may decode JSON in its own way. Its DateStyle may be one that the driver cannot read. On SQLite the
    driver refuses text that is not UTF-8.
    """
    forms: dict[str, Callable[[Any], Any]]
    if connection.dialect.name == "postgresql":
        forms = {**dict.fromkeys(_TIMES, _microseconds), **dict.fromkeys(_JSON, _as_text)}
    else:
        forms = {**dict.fromkeys(_COMPARED, _as_bytes), "priority": _as_it_is}
    return [_r.id, *(forms[name](_r[name]).label(name) if name in forms else _r[name] for name in _COMPARED)]


def _microseconds(column: Any) -> sa.ColumnElement[int]:
    return sa.cast(sa.func.round(sa.cast(sa.extract("epoch", column) * 1_000_000, sa.Numeric)), sa.BigInteger)


def _as_bytes(column: Any) -> sa.ColumnElement[bytes]:
    return sa.cast(column, sa.LargeBinary)


def _as_it_is(column: Any) -> Any:
    return column


def _as_text(column: Any) -> sa.ColumnElement[str]:
    return sa.cast(column, sa.Text)


def _ensure_same(given: dict[str, Any], stored: Any, connection: Connection) -> None:
    """Raise ``KeyConflict`` unless ``stored`` equals ``given``. A time that is not given is not compared."""
    differ = [name for name in _COMPARED if not _same(name, given[name], stored[name], connection)]
    if differ:
        raise KeyConflict(
            f"idempotency_key: {given['idempotency_key']!r} was used before, for reservation {stored['id']}, which "
            f"differs in {', '.join(differ)}; use another key for another mail"
        )


def _same(name: str, given: Any, stored: Any, connection: Connection) -> bool:
    if name == "message":
        return (given or b"") == bytes(stored or b"")
    stored = text_of(stored)
    if name in _TIMES:
        return given is None or _as_compared(given, connection) == stored
    if name in _JSON:
        given = None if given is None else json.loads(json.dumps(given))
        stored = None if stored is None else read_json(stored)
    # '' and {} count as NULL.
    return bool((given or None) == (stored or None))


def _as_compared(when: datetime, connection: Connection) -> Any:
    """Return a time in the form in which ``_comparable`` reads it, with the precision of the database."""
    if connection.dialect.name == "postgresql":
        return (when - _EPOCH) // timedelta(microseconds=1)
    return Timestamp().process_bind_param(when, connection.dialect)
