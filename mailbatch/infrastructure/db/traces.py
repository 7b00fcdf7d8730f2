"""The traces in which mails were reserved. A mail that was reserved outside of a trace has no row."""

from __future__ import annotations

from typing import TYPE_CHECKING

import sqlalchemy as sa

from mailbatch.infrastructure.db.engine import reading
from mailbatch.infrastructure.db.tables import mail_traces

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from uuid import UUID

    from sqlalchemy.engine import Connection, Engine

_t = mail_traces.c


def keep(connection: Connection, ids: Sequence[UUID], headers: Mapping[str, str]) -> None:
    """Note the W3C headers of the trace in which mails are reserved, in the transaction that reserves them."""
    values = {"traceparent": headers["traceparent"], "tracestate": headers.get("tracestate")}
    if ids:
        connection.execute(sa.insert(mail_traces), [{"reservation_id": one, **values} for one in ids])


def headers_of(engine: Engine, ids: Sequence[UUID]) -> dict[UUID, dict[str, str]]:
    """Return the W3C headers of those among ``ids`` that were reserved in a trace. Raises ``StoreError``."""
    with reading(engine) as connection:
        rows = connection.execute(sa.select(mail_traces).where(_t.reservation_id.in_(ids))).all()
    return {
        row.reservation_id: {
            "traceparent": row.traceparent,
            **({"tracestate": row.tracestate} if row.tracestate else {}),
        }
        for row in rows
    }
