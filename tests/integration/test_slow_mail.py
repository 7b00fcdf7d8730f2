"""One mail for which a relay takes minutes: the others go, and their verdicts are written within seconds."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa
from support import smtpfault
from support.backlogs import database, reserve, states
from support.smtpfault import FaultServer
from support.waiting import wait_until

from mailbatch.batch.send_all import send_all
from mailbatch.bootstrap import Parts
from mailbatch.config import Settings
from mailbatch.domain.run import Trigger
from mailbatch.infrastructure.db.tables import mail_reservations

if TYPE_CHECKING:
    from collections.abc import Callable


class Slow:
    """At ``dot``: answers nothing to the mail with this line until it is let go."""

    def __init__(self, line: bytes) -> None:
        self.line = line
        self.waits = threading.Event()
        self.goes = threading.Event()

    def __call__(self, session: smtpfault.Session) -> None:
        if self.line in session.data:
            self.waits.set()
            assert self.goes.wait(60)
        session.ordinary()


def run_beside(url: str, server: FaultServer, meanwhile: Callable[[], None]) -> None:
    given = {"database_url": url, "smtp_url": f"smtp://127.0.0.1:{server.port}", "sender": "sender@example.com"}
    parts = Parts(Settings(**given, connections=2, window=4, max_message_bytes=20_000_000))
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(lambda: send_all(parts, lock=False)(Trigger.MANUAL).as_dict())
        meanwhile()
        report = running.result(60)
    parts.close()
    assert (report["outcome"], report["failed"], report["in_doubt"]) == ("completed", 0, 0)


def make_first(url: str, text: str) -> None:
    """Let one reservation be the first and have this body."""
    with database(url) as connection:
        first = connection.scalar(sa.select(mail_reservations.c.id).limit(1))
        change = sa.update(mail_reservations).where(mail_reservations.c.id == first)
        connection.execute(change.values(body_text=text, priority=9))


@pytest.mark.parametrize("mode", smtpfault.OFFERS)
@pytest.mark.parametrize("fat", [True, False], ids=["5 MB", "small"])
@pytest.mark.parametrize("stored", ["sqlite_url", "postgres_url"])
def test_a_mail_for_which_the_relay_takes_minutes_holds_up_no_other(mode, fat, stored, request):
    url = request.getfixturevalue(stored)
    reserve(url, 300)
    make_first(url, "slow mail\n" + ("x" * 70 + "\n") * (75_000 if fat else 1))
    slow = Slow(b"slow mail")

    def meanwhile() -> None:
        try:
            assert slow.waits.wait(30)
            # A mail that went out behind a small one, on its connection, has to wait as long.
            behind = 0 if fat or mode == "DATA" else 3
            wait_until(
                lambda: states(url).get("sent", 0) >= 299 - behind, 20, lambda: f"all others are sent: {states(url)}"
            )
            assert states(url)["sending"] <= 1 + behind
            assert not slow.goes.is_set()
        finally:
            slow.goes.set()

    with FaultServer({"dot": slow}, extensions=smtpfault.OFFERS[mode]) as server:
        run_beside(url, server, meanwhile)
    assert states(url) == {"sent": 300}
    assert len(server.journal) == 300


@pytest.mark.parametrize("mode", ["PIPELINING"])
def test_two_mails_of_5_mb_that_take_minutes_leave_the_third_connection_free(mode, sqlite_url):
    reserve(sqlite_url, 50)
    body = "slow mail\n" + ("x" * 70 + "\n") * 75_000
    with database(sqlite_url) as connection:
        two = connection.scalars(sa.select(mail_reservations.c.id).limit(2)).all()
        change = sa.update(mail_reservations).where(mail_reservations.c.id.in_(two))
        connection.execute(change.values(body_text=body, priority=9))
    slow = Slow(b"slow mail")

    def meanwhile() -> None:
        try:
            wait_until(lambda: states(sqlite_url).get("sent") == 48, 30, lambda: f"the others: {states(sqlite_url)}")
        finally:
            slow.goes.set()

    with FaultServer({"dot": slow}, extensions=smtpfault.OFFERS[mode]) as server:
        given = {"database_url": sqlite_url, "smtp_url": f"smtp://127.0.0.1:{server.port}", "sender": "s@example.com"}
        parts = Parts(Settings(**given, connections=3, max_message_bytes=20_000_000))
        with ThreadPoolExecutor(1) as pool:
            running = pool.submit(lambda: send_all(parts, lock=False)(Trigger.MANUAL).as_dict())
            meanwhile()
            assert running.result(60)["sent"] == 50
        parts.close()
