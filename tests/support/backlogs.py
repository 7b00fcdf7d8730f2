"""Fills a database with reservations, and counts them by state."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from mailbatch.infrastructure.db.engine import connect
from mailbatch.infrastructure.db.tables import batch_runs, mail_reservations

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy.engine import Connection

# Names and subjects in several scripts, taken in turn.
_SUBJECTS = ["Order {i}", "Ihre Bestellung Nº {i} – größer", "Заказ {i}", "注文 {i} の確認", "طلب رقم {i}", "🎉 {i}"]
_NAMES = ["Ann", "Jürgen", "Ольга", "山田太郎", "ليلى", "Zoë"]


@contextmanager
def database(url: str) -> Iterator[Connection]:
    """Open a transaction for the test."""
    engine = connect(url)
    try:
        with engine.begin() as connection:
            yield connection
    finally:
        engine.dispose()


def reserve(url: str, count: int, *, start: int = 0, body: str = "Hello {i}", **columns: Any) -> None:
    """Reserve ``count`` mails to ``to<i>@example.org``, due at once."""
    rows = [
        {
            "recipients": f'"{_NAMES[i % len(_NAMES)]}" <to{i}@example.org>',
            "subject": _SUBJECTS[i % len(_SUBJECTS)].format(i=i),
            "body_text": body.format(i=i),
            **columns,
        }
        for i in range(start, start + count)
    ]
    with database(url) as connection:
        connection.execute(sa.insert(mail_reservations), rows)


def states(url: str) -> dict[str, int]:
    """Return how many reservations are in each state."""
    with database(url) as connection:
        status = mail_reservations.c.status
        counts = connection.execute(sa.select(status, sa.func.count()).group_by(status))
        return {row[0]: row[1] for row in counts}


def runs(url: str) -> list[Any]:
    """Return the rows of all runs, oldest first."""
    with database(url) as connection:
        return list(connection.execute(sa.select(batch_runs).order_by(batch_runs.c.started_at)))


def ended(url: str, count: int = 1) -> bool:
    """Return whether at least ``count`` runs have ended, and none is in progress."""
    found = runs(url)
    return len(found) >= count and all(run.outcome is not None for run in found)
