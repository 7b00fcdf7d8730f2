"""Relays that say how fast, how much or whether we may send: real SMTP and real databases, whole runs."""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa
from support.backlogs import database, reserve, states
from support.long import LONG
from support.smtpfault import OFFERS, FaultServer, Session, say

from mailbatch.batch.send_all import send_all
from mailbatch.bootstrap import Parts
from mailbatch.config import Settings
from mailbatch.domain.run import Trigger
from mailbatch.infrastructure.db.tables import mail_reservations, relay_circuits
from mailbatch.infrastructure.db.types import now

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_r = mail_reservations.c
THROTTLED = "454 4.7.0 Throttling failure: Maximum sending rate exceeded."
DAY = "454 4.7.0 Throttling failure: Daily message quota exceeded."


@pytest.fixture
def world(database_url: str) -> Iterator[Callable[..., Parts]]:
    """Makes the parts of an installation whose relay does what a script says."""
    opened: list[Any] = []

    def make(script: Any, *, dialogue: str = "BDAT", user: str = "", **settings: Any) -> Parts:
        server = FaultServer(script, extensions=OFFERS[dialogue], login=("ann", "secret") if user else None)
        opened.append(server.__enter__())
        url = f"smtp://{user}127.0.0.1:{server.port}" + ("?starttls=off" if user else "")
        given = {"database_url": database_url, "smtp_url": url, "sender": "sender@example.com", **settings}
        parts = Parts(Settings(**given))
        opened.append(parts)
        parts.server = server  # type: ignore[attr-defined]
        return parts

    yield make
    for one in reversed(opened):
        one.close() if isinstance(one, Parts) else one.__exit__()


def tick(parts: Parts, trigger: Trigger = Trigger.BEAT) -> dict[str, Any]:
    return send_all(parts, lock=False)(trigger).as_dict()


def column(url: str, name: str) -> set[Any]:
    with database(url) as connection:
        return set(connection.scalars(sa.select(_r[name])))


def pass_time(url: str) -> None:
    with database(url) as connection:
        connection.execute(sa.update(relay_circuits).values(open_until=now(-1)))


EACH = pytest.mark.parametrize(
    ("database_url", "dialogue"),
    [
        ("sqlite", "BDAT"),
        pytest.param("sqlite", "DATA", marks=LONG),
        pytest.param("postgresql", "DATA", marks=LONG),
        pytest.param("postgresql", "BDAT", marks=LONG),
    ],
    indirect=["database_url"],
)
"""These take as long as the rate of the relay, which has to do with neither database nor dialogue."""


class Limit:
    """Takes ``rate`` mails in any second, and throttles the others."""

    def __init__(self, rate: int, text: str = THROTTLED) -> None:
        self.rate, self.otherwise, self.refused = rate, say(text), 0
        self.took: deque[float] = deque()
        self._lock = threading.Lock()

    def __call__(self, session: Session) -> None:
        with self._lock:
            at = time.monotonic()
            if too_fast := len(self.took) >= self.rate and at - self.took[-self.rate] < 1.0:
                self.refused += 1
            else:
                self.took.append(at)
        self.otherwise(session) if too_fast else session.ordinary()


@EACH
def test_a_relay_that_takes_14_a_second_gets_all_in_one_run_and_no_attempt_is_used_up(world, database_url, dialogue):
    limit = Limit(14)
    parts = world({"dot": limit}, dialogue=dialogue)
    reserve(database_url, 90)
    began = time.monotonic()
    report = tick(parts)
    rate = 90 / (time.monotonic() - began)
    assert (report["outcome"], report["sent"], report["failed"]) == ("completed", 90, 0)
    assert states(database_url) == {"sent": 90}
    assert column(database_url, "attempts") == {1}
    assert len(parts.server.journal) == 90
    print(f"{dialogue}: {rate:.1f} mails/s, {limit.refused} refused of {90 + limit.refused}")  # noqa: T201
    # One burst, of what is on the wire at once; then a few at each peak.
    assert limit.refused <= 128 + 30
    assert len(parts.server.sessions) <= 8


@EACH
def test_a_relay_that_closes_connections_over_its_rate_gets_all_over_few_connections(world, database_url, dialogue):
    limit = Limit(14, "421 4.7.0 Try again later, closing connection")
    parts = world({"mail": limit}, dialogue=dialogue)
    reserve(database_url, 80)
    report = tick(parts)
    assert (report["outcome"], report["sent"]) == ("completed", 80)
    assert column(database_url, "attempts") == {1}
    assert len(parts.server.sessions) <= limit.refused + 8


@pytest.mark.parametrize("text", [DAY, "452 4.3.1 Insufficient system storage", "454 4.7.1 Relay access denied"])
def test_three_mails_that_hear_that_the_relay_takes_none_are_still_there_after_five_runs(world, database_url, text):
    parts = world({"dot": say(text)})
    reserve(database_url, 3)
    for _ in range(5):
        report = tick(parts, Trigger.MANUAL)
        assert report["outcome"] == "failed"
        assert text[:20] in report["errors"][0]
    assert states(database_url) == {"pending": 3}
    assert column(database_url, "attempts") == {0}


def test_a_days_quota_is_probed_once_an_hour_at_most_and_by_hand_at_once(world, database_url):
    parts = world({"dot": [say(DAY)] * 4})
    reserve(database_url, 3)
    assert tick(parts)["outcome"] == "failed"
    heard = len(parts.server.commands)
    left = parts.stores.circuits.look(parts.sending.relay.name).seconds_left
    assert 3500 < left <= 3600
    report = tick(parts)
    assert "is left alone until" in report["errors"][0]
    assert "Daily message quota exceeded" in report["errors"][0]
    assert len(parts.server.commands) == heard
    assert tick(parts, Trigger.MANUAL)["outcome"] == "failed"
    assert tick(parts, Trigger.MANUAL)["sent"] == 3
    assert column(database_url, "attempts") == {1}


def test_one_mail_that_is_too_much_for_the_relays_disk_does_not_hold_up_the_others(world, database_url):
    def dot(session: Session) -> None:
        session.say("452 4.3.1 Insufficient system storage") if len(session.data) > 100_000 else session.ordinary()

    parts = world({"dot": dot}, connections=1)
    reserve(database_url, 1, body="x" * 200_000, priority=1)
    reserve(database_url, 300, start=1)
    report = tick(parts)
    assert (report["outcome"], report["sent"], report["deferred"]) == ("completed", 300, 1)
    assert parts.stores.circuits.look(parts.sending.relay.name).state == "closed"


@pytest.mark.parametrize(
    "text",
    [
        "550 5.4.5 Daily user sending limit exceeded. For more information on Gmail sending limits go to help",
        "554 Message rejected: Sending suspended for this account.",
        "550 5.7.1 Daily SMTP relay limit exceeded for customer.",
    ],
)
@pytest.mark.parametrize("mails", [1, 30])
def test_a_5xx_that_speaks_of_the_account_fails_no_mail(world, database_url, text, mails):
    parts = world({"rcpt" if "relay limit" in text else "dot": say(text)})
    reserve(database_url, mails)
    report = tick(parts)
    assert (report["outcome"], report["failed"], report["remaining"]) == ("failed", 0, mails)
    assert text[:30] in report["errors"][0]
    assert states(database_url) == {"pending": mails}
    assert column(database_url, "attempts") == {0}
    parts.server.script.clear()
    pass_time(database_url)
    assert tick(parts)["sent"] == mails


@pytest.mark.parametrize("step", ["mail", "rcpt", "dot"])
def test_a_relay_that_refuses_everybody_fails_no_mail(world, database_url, step):
    parts = world({step: say("550 Administrative prohibition")})
    reserve(database_url, 500)
    report = tick(parts)
    assert (report["outcome"], report["failed"]) == ("failed", 0)
    assert "it refuses every mail: 550 Administrative prohibition" in report["errors"][0]
    assert states(database_url) == {"pending": 500}
    assert column(database_url, "attempts") == {0}
    parts.server.script.clear()
    pass_time(database_url)
    assert tick(parts)["sent"] == 500
    assert len(parts.server.journal) == 500


def test_a_newsletter_that_is_refused_does_not_stop_password_resets(world, database_url):
    def dot(session: Session) -> None:
        session.say("554 5.7.1 Message rejected as spam") if b"Sale" in session.data else session.ordinary()

    parts = world({"dot": dot})
    reserve(database_url, 400, tag="newsletter", body="Sale {i}")
    reserve(database_url, 50, start=400, tag="reset")
    report = tick(parts)
    assert (report["outcome"], report["sent"], report["failed"]) == ("completed", 50, 0)
    assert states(database_url) == {"pending": 400, "sent": 50}
    assert column(database_url, "attempts") == {0, 1}
    assert "mails of the tag newsletter are put back" in " ".join(report["errors"])


def test_700_recipients_at_a_relay_that_takes_100_a_transaction_get_it_in_one_run(world, database_url):
    def rcpt(session: Session) -> None:
        session.say("452 4.5.3 Too many recipients") if len(session.recipients) >= 100 else session.ordinary()

    parts = world({"rcpt": rcpt})
    everyone = [f"to{i}@example.org" for i in range(700)]
    reserve(database_url, 1, start=9999, recipients=", ".join(everyone[:350]), bcc=", ".join(everyone[350:]))
    report = tick(parts)
    assert (report["outcome"], report["sent"], report["deferred"]) == ("completed", 1, 0)
    got = [to for mail in parts.server.journal for to in mail.recipients]
    assert sorted(got) == sorted(everyone)
    assert [len(mail.recipients) for mail in parts.server.journal] == [100] * 7
    assert column(database_url, "attempts") == {1}


def test_a_login_that_is_refused_because_credits_are_used_up_holds_the_relay(world, database_url):
    parts = world({"auth": say("451 Authentication failed: Maximum credits exceeded")}, user="ann:secret@")
    reserve(database_url, 5)
    report = tick(parts)
    assert report["outcome"] == "failed"
    assert "Maximum credits exceeded" in report["errors"][0]
    assert parts.stores.circuits.look(parts.sending.relay.name).seconds_left > 3500
    assert column(database_url, "attempts") == {0}
