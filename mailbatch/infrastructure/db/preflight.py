"""Preflight check of the tables: do in one transaction all that a run writes, and roll it back."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy as sa
from uuid_utils.compat import uuid7

from mailbatch.domain.errors import StoreError
from mailbatch.domain.lifecycle import Event
from mailbatch.domain.limits import PRIORITIES
from mailbatch.domain.message import Claim
from mailbatch.domain.run import Trigger
from mailbatch.domain.settlement import Settlement
from mailbatch.infrastructure.db import grants, settling
from mailbatch.infrastructure.db.claiming import INLINE_BYTES, claim_statement, reserve_indexes
from mailbatch.infrastructure.db.engine import rolled_back
from mailbatch.infrastructure.db.location import place
from mailbatch.infrastructure.db.tables import batch_runs, batch_schedule, mail_reservations, run_errors
from mailbatch.infrastructure.db.types import upsert

if TYPE_CHECKING:
    from uuid import UUID

    from sqlalchemy.engine import Connection, Engine

_NAME = "doctor"
_ROOM = 10 * 1024 * 1024
"""Bytes that must be free on the disk of an SQLite file. The transaction needs none, because it is rolled back."""


def check_tables(engine: Engine) -> None:
    """Reserve, claim, settle and report as a run does, and undo it. Raises ``StoreError`` if a step fails."""
    _ensure_granted(engine)
    with rolled_back(engine) as connection:
        run_id, reservation_id = uuid7(), uuid7()
        _open(connection, run_id)
        _reserve(connection, reservation_id)
        claims = _claim(connection, run_id)
        settling.settle(connection, run_id, 0, [_put_off(claim) for claim in claims])
        _report(connection, run_id)
        connection.execute(sa.delete(mail_reservations).where(mail_reservations.c.id == reservation_id))
    _ensure_room(engine)


def _ensure_granted(engine: Engine) -> None:
    if lacking := grants.missing(engine, grants.Duty.SEND):
        raise StoreError(
            f"database {place(engine)}: this role lacks {', '.join(lacking)}; "
            "`mailbatch grants send` prints what a worker needs",
            transient=False,
        )


def _open(connection: Connection, run_id: UUID) -> None:
    trigger = Trigger.MANUAL.value
    connection.execute(sa.insert(batch_runs).values(run_id=run_id, job=_NAME, trigger=trigger, host=_NAME, pid=0))
    insert = upsert(connection, batch_schedule).values(name=_NAME)
    connection.execute(insert.on_conflict_do_update(index_elements=["name"], set_={"paused": insert.excluded.paused}))


def _reserve(connection: Connection, reservation_id: UUID) -> None:
    row = {"id": reservation_id, "recipients": "doctor@invalid", "subject": _NAME, "body_text": _NAME}
    connection.execute(sa.insert(mail_reservations).values(**row, priority=PRIORITIES.start))


def _claim(connection: Connection, run_id: UUID) -> list[Claim]:
    """Claim in the lowest priority, so that nobody's mail is held up by it even for a moment."""
    bound = {
        "of_priority": PRIORITIES.start,
        "limit": 1,
        "by_run": run_id,
        "by_lane": 0,
        "lease": 60.0,
        "early": True,
        "id_domain": "doctor.invalid",
        "inline": INLINE_BYTES,
    }
    rows = connection.execute(claim_statement(behind=False), bound).all()
    reserve_indexes(connection, run_id, len(rows))
    return [Claim(row.id, row.claim_no) for row in rows]


def _put_off(claim: Claim) -> Settlement:
    return Settlement(claim=claim, event=Event.DEFERRED, retry_in=60.0)


def _report(connection: Connection, run_id: UUID) -> None:
    connection.execute(sa.insert(run_errors).values(run_id=run_id, item_index=1, errors=[_NAME]))
    connection.execute(sa.update(batch_runs).where(batch_runs.c.run_id == run_id).values(outcome="completed"))


def _ensure_room(engine: Engine) -> None:
    if engine.dialect.name != "sqlite":
        return
    path = Path(place(engine))
    free = shutil.disk_usage(path.parent).free
    if free < _ROOM:
        raise StoreError(
            f"database {path}: {free // 1024} KiB are free on its disk, and a run needs {_ROOM // 1024}; make room",
            transient=False,
        )
