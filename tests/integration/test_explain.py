"""Why has this mail not gone? Each state and each obstacle has its sentence."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa
from support.backlogs import database

from mailbatch.bootstrap import Parts
from mailbatch.config import Settings
from mailbatch.domain.errors import NotFound
from mailbatch.domain.reservation import Status
from mailbatch.domain.run import Pause
from mailbatch.infrastructure.db.tables import batch_runs, batch_schedule, mail_attempts, mail_reservations
from mailbatch.infrastructure.db.types import now
from mailbatch.interfaces.cli import main

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mailbatch.application.looking.explanation import Explanation

RELAY = "relay.example:25"


class World:
    def __init__(self, url: str, redis_url: str) -> None:
        self.url = url
        given = {"smtp_url": f"smtp://{RELAY}", "sender": "sender@example.com"}
        self.parts = Parts(Settings(database_url=url, redis_url=redis_url, **given))

    def mail(self, due: float = 5.0, **columns: Any) -> UUID:
        """A reservation due ``due`` seconds ago."""
        row = {"id": uuid4(), "recipients": "ann@example.org", "subject": "s", "body_text": "t", **columns}
        self.put(mail_reservations, scheduled_at=now(-due), **row)
        return row["id"]

    def run(self, beat: float = 1.0, **columns: Any) -> UUID:
        row = {"run_id": uuid4(), "job": "send-all", "trigger": "beat", **columns}
        self.put(batch_runs, started_at=now(-beat), heartbeat_at=now(-beat), **row)
        return row["run_id"]

    def tick(self, seconds: float) -> None:
        self.put(batch_schedule, name="send-all", next_tick_at=now(seconds))

    def put(self, table: sa.Table, **row: Any) -> None:
        with database(self.url) as connection:
            connection.execute(sa.insert(table).values(row))

    def explain(self, reservation_id: UUID) -> Explanation:
        return self.parts.operating.explain(reservation_id)


@pytest.fixture
def world(sqlite_url: str, redis_url: str) -> Iterator[World]:
    made = World(sqlite_url, redis_url)
    yield made
    made.parts.close()


def test_what_is_not_due(world):
    told = world.explain(world.mail(due=-3600))
    assert (told.status, told.reason) == (Status.PENDING, "not_due")
    assert told.sentence.startswith("It is not due before 20")


def test_what_was_put_off_tells_the_relays_words(world):
    mail = world.mail(attempts=2, retry_at=now(600), last_error="450 4.2.0 Greylisted")
    row = {"reservation_id": mail, "claim_no": 2, "outcome": "deferred", "reply_code": 450}
    world.put(mail_attempts, **row, reply_text="4.2.0 Greylisted")
    told = world.explain(mail)
    assert told.reason == "waits_for_retry"
    assert "after 2 that failed: 450 4.2.0 Greylisted." in told.sentence
    assert told.facts["last_try"].startswith("deferred at 20")
    assert told.facts["last_try"].endswith("450 4.2.0 Greylisted")


@pytest.mark.parametrize(("pause", "what"), [(Pause.TICKS, "the ticks"), (Pause.ALL, "all sending")])
def test_a_pause(world, pause, what):
    world.parts.stores.pauses.set("send-all", pause)
    told = world.explain(world.mail())
    assert (told.reason, told.sentence) == ("paused", f"It is due, but an operator has paused {what}.")
    assert "resume" in told.advice


def test_a_relay_that_is_left_alone(world):
    world.parts.stores.circuits.open(RELAY, "connection refused", 600)
    told = world.explain(world.mail())
    assert told.reason == "relay_away"
    assert f"the relay {RELAY} is left alone until" in told.sentence
    assert "connection refused" in told.sentence


def test_a_run_in_progress_and_how_many_go_first(world):
    run = world.run()
    mail = world.mail(due=10)
    assert "no mail goes before it" in world.explain(mail).sentence
    for due, priority in ((5, 0), (20, 0), (1, 1), (-50, 9)):
        world.mail(due=due, priority=priority)
    told = world.explain(mail)
    assert (told.reason, told.facts["ahead"], told.facts["run_id"]) == ("run_in_progress", 2, run)
    assert told.sentence == f"It is due, and run {run} is sending; 2 mails go before it."


def test_no_run_because_beat_or_worker_is_not_there(world):
    told = world.explain(world.mail(due=1000))
    assert (told.reason, told.sentence) == (
        "no_run",
        "It is due, but no run has ever begun: beat or worker is not there.",
    )
    world.run(beat=900, outcome="completed")
    assert "no run has begun for 90" in world.explain(world.mail(due=1000)).sentence


def test_a_mail_that_only_waits_for_the_next_run(world):
    mail = world.mail()
    assert "no beat has planned one yet" in world.explain(mail).sentence
    world.run(beat=100, outcome="failed", error="the relay is away: x", finished_at=now(-90))
    world.tick(200)
    told = world.explain(mail)
    assert told.reason == "waits_for_run"
    assert told.sentence.startswith("It is due and waits for the next run at 20")
    assert told.facts["last_run"].endswith(": the relay is away: x")


def test_a_mail_that_will_fail_says_so_before_its_run(world):
    told = world.explain(world.mail(template="nowhere"))
    assert "As it stands it will fail then: template nowhere: " in told.sentence
    told = world.explain(world.mail(due=-60, body_text="{{ name }}"))
    assert told.reason == "not_due"
    assert "'name' is undefined" in told.facts["would_fail"][0]


def test_a_mail_whose_time_has_passed(world):
    told = world.explain(world.mail(expires_at=now(-1)))
    assert told.reason == "expires"
    assert "the next run marks it as expired" in told.sentence


def test_a_mail_that_is_being_sent_names_lane_run_process_and_lease(world):
    run = world.run(host="web1", pid=77)
    told = world.explain(world.mail(status="sending", lease_until=now(50), wire_at=now(-10), run_id=run, lane=3))
    assert told.reason == "being_sent"
    assert told.sentence.startswith(f"It is being sent by lane 3 of run {run} since 20")
    assert (told.facts["host"], told.facts["pid"]) == ("web1", 77)


def test_a_mail_whose_sender_died(world):
    told = world.explain(world.mail(status="sending", lease_until=now(-50), wire_at=now(-99), run_id=uuid4(), lane=0))
    assert told.reason == "sender_died"
    assert "the next run takes it back" in told.advice


def test_a_sent_mail_names_the_relay_and_its_reply(world):
    sent = {"status": "sent", "sent_at": now(-5), "relay": RELAY, "reply_code": 250, "reply_text": "2.0.0 queued as 1"}
    told = world.explain(world.mail(**sent, message_id="<1@x>", attempts=1))
    assert (told.reason, told.facts["reply"]) == ("sent", "250 2.0.0 queued as 1")
    assert f"by {RELAY}, which said: 250 2.0.0 queued as 1." in told.sentence
    assert "<1@x>" in told.advice


def test_a_doubt_that_an_operator_resolved_is_no_relays_word(world):
    told = world.explain(world.mail(status="sent", sent_at=now(-5)))
    assert "an operator has resolved a doubt so" in told.sentence


def test_a_mail_without_a_message_id_is_looked_for_by_its_recipients(world):
    doubt = world.explain(world.mail(status="in_doubt"))
    assert doubt.advice.startswith("look for its recipients in the relay's log")
    sent = {"status": "sent", "sent_at": now(-5), "relay": RELAY, "reply_code": 250}
    assert world.explain(world.mail(**sent)).advice.endswith("under its recipients")


def test_a_mail_in_doubt_says_since_when_and_what_to_do(world):
    mail = world.mail(status="in_doubt", wire_at=now(-500), message_id="<1@x>", attempts=1)
    told = world.explain(mail)
    assert told.reason == "in_doubt"
    assert told.sentence.startswith("It is in doubt since 20")
    assert f"mailbatch resolve {mail} --sent" in told.advice
    assert f"mailbatch requeue {mail}" in told.advice


@pytest.mark.parametrize(
    ("status", "sentence"),
    [
        ("failed", "550 5.1.1 no such user"),
        ("cancelled", "It was cancelled at "),
        ("expired", "and was not sent: 550 5.1.1 no such user"),
    ],
)
def test_what_is_finished_says_how(world, status, sentence):
    told = world.explain(world.mail(status=status, finished_at=now(-5), last_error="550 5.1.1 no such user"))
    assert told.reason == status
    assert sentence in told.sentence


def test_who_took_it_of_several_recipients_is_a_fact(world):
    verdicts = {
        "a@x": {"kind": "accepted", "code": 250, "text": ""},
        "b@x": {"kind": "deferred", "code": 450, "text": ""},
    }
    assert world.explain(world.mail(verdicts=verdicts)).facts["accepted_by"] == ["a@x"]


def test_nobody(world):
    with pytest.raises(NotFound):
        world.explain(uuid4())


def test_postgresql_tells_the_same(postgres_url, redis_url):
    world = World(postgres_url, redis_url)
    first, second, later = world.mail(due=20), world.mail(due=10), world.mail(due=-60)
    world.run()
    assert [world.explain(mail).facts.get("ahead") for mail in (first, second, later)] == [0, 1, None]
    world.parts.close()


def test_the_command_says_the_sentence_first_and_answers_in_json(world, redis_url, monkeypatch, capfd):
    monkeypatch.setenv("MAILBATCH_DATABASE_URL", world.url)
    monkeypatch.setenv("MAILBATCH_REDIS_URL", redis_url)
    mail = world.mail(due=1000)
    assert main.run(["explain", str(mail)]) == 0
    out = capfd.readouterr().out
    assert out.startswith("It is due, but no run has ever begun")
    assert "What to do: start one with" in out
    assert main.run(["explain", str(mail), "--json"]) == 0
    found = json.loads(capfd.readouterr().out)
    assert set(found) == {"id", "status", "reason", "sentence", "advice", "facts"}
    assert found["facts"]["due_at"].endswith("Z")
    assert main.run(["explain", str(uuid4())]) == 1
    assert capfd.readouterr().err.startswith("mailbatch: no reservation ")
