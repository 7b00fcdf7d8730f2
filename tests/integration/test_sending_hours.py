"""Sending hours of the relays' file, in a run."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import sqlalchemy as sa
from support.backlogs import database, reserve, runs, states

from mailbatch.batch.send_all import send_all
from mailbatch.bootstrap import Parts
from mailbatch.config import Settings
from mailbatch.domain.run import Trigger
from mailbatch.domain.sending_hours import DAYS
from mailbatch.infrastructure.db.tables import mail_reservations

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any


def test_a_mail_outside_of_its_hours_waits_for_them_and_the_others_go(
    database_url: str, smtp_sink: Any, tmp_path: Path
) -> None:
    in_three_days = datetime.now(UTC) + timedelta(days=3)
    file = tmp_path / "relays.toml"
    file.write_text(f'[[windows]]\nmatch = {{ tag = "news-*" }}\ndays = "{DAYS[in_three_days.weekday()]}"\n')
    reserve(database_url, 3, tag="news-spring")
    reserve(database_url, 2, tag="orders", start=3)
    given = {"database_url": database_url, "smtp_url": smtp_sink.url, "sender": "s@example.com", "relays": str(file)}
    parts = Parts(Settings(**given))
    for _ in range(2):
        send_all(parts, lock=False)(Trigger.BEAT)
    parts.close()
    assert states(database_url) == {"pending": 3, "sent": 2}
    with database(database_url) as connection:
        held = connection.execute(sa.select(mail_reservations).where(mail_reservations.c.tag == "news-spring")).all()
    assert {row.retry_at.date() for row in held} == {in_three_days.date()}
    assert {(row.attempts, row.claim_no, row.waits_for) for row in held} == {(0, 1, "its sending hours have not begun")}
    assert sorted((run.sent, run.held_back, run.remaining) for run in runs(database_url)) == [(0, 0, 3), (2, 3, 3)]
