"""A mail that kills its process, for real: it is set aside as failed, and all that were claimed with it go out once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import sqlalchemy as sa
from support.backlogs import database, reserve, states

from mailbatch.infrastructure.db.tables import mail_attempts, mail_reservations
from mailbatch.infrastructure.db.types import now

if TYPE_CHECKING:
    from support.sink import Sink

MAX_ATTEMPTS = 3
_SENDER = """
import os, signal
from mailbatch.batch.send_all import send_all
from mailbatch.bootstrap import Parts, read_settings, sending

make_compose = sending.make_compose

def make_poisonous(*parts):
    compose = make_compose(*parts)

    def poisonous(mail):
        if mail.mail.subject == "poison":
            os.kill(os.getpid(), signal.SIGKILL)
        return compose(mail)

    return poisonous

sending.make_compose = make_poisonous
parts = Parts(read_settings())
print(send_all(parts, lock=False)().as_dict())
"""


def run(url: str, sink: Sink) -> int:
    settings = {"DATABASE_URL": url, "SMTP_URL": sink.url, "SENDER": "s@example.com", "MAX_ATTEMPTS": MAX_ATTEMPTS}
    env = {**os.environ, **{f"MAILBATCH_{name}": str(value) for name, value in settings.items()}}
    return subprocess.run(
        [sys.executable, "-c", _SENDER], env=env, capture_output=True, timeout=60, check=False
    ).returncode


def test_a_mail_that_kills_its_process_is_set_aside_and_its_neighbours_go_out(sqlite_url, smtp_sink):
    reserve(sqlite_url, 20)
    reserve(sqlite_url, 1, start=20)
    with database(sqlite_url) as connection:
        poison = sa.update(mail_reservations).where(mail_reservations.c.recipients.contains("to20@"))
        connection.execute(poison.values(subject="poison", priority=5))
    for _ in range(MAX_ATTEMPTS):
        assert run(sqlite_url, smtp_sink) == -signal.SIGKILL
        with database(sqlite_url) as connection:
            held = mail_reservations.c.status == "sending"
            connection.execute(sa.update(mail_reservations).where(held).values(lease_until=now(-1)))
    assert run(sqlite_url, smtp_sink) == 0
    assert states(sqlite_url) == {"sent": 20, "failed": 1}
    with database(sqlite_url) as connection:
        row = connection.execute(sa.select(mail_reservations).where(mail_reservations.c.status == "failed")).one()
        tries = connection.scalars(
            sa.select(mail_attempts.c.outcome).where(mail_attempts.c.reservation_id == row.id).order_by("claim_no")
        ).all()
    assert row.subject == "poison"
    assert row.last_error.startswith("set aside: 3 senders in a row died")
    assert tries == ["in_doubt", "in_doubt", "crashed"]
    assert len({mail.message_id for mail in smtp_sink.accepted()}) == len(smtp_sink.accepted()) == 20
