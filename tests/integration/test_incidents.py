"""What no run can tell is told to people: once an incident, by whoever is alive, and never in the way of a look."""

from __future__ import annotations

import json
import threading
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa
from support.backlogs import database, reserve
from support.receiver import Receiver
from support.sink import Sink
from support.waiting import wait_until

from mailbatch.application.notifying.incidents import NotifyOfIncidents
from mailbatch.batch.monitor import IncidentNotifier, JobMonitor, check_once
from mailbatch.bootstrap import Parts
from mailbatch.config import Settings
from mailbatch.domain.finding import Finding, Level
from mailbatch.infrastructure.db.incidents import FIRM, SAME, SqlIncidents
from mailbatch.infrastructure.db.tables import incidents
from mailbatch.infrastructure.db.types import now
from mailbatch.infrastructure.notify.webhook import Webhook
from mailbatch.interfaces.http.serving import monitor_of

if TYPE_CHECKING:
    from sqlalchemy.engine import Engine


def finding(name: str = "no_run", level: Level = Level.ERROR, since: float | None = 700.0) -> Finding:
    began = None if since is None else datetime.now(UTC) - timedelta(seconds=since)
    return Finding(name=name, level=level, what=f"{name} of ann@example.org", since=began, advice="do this")


@pytest.fixture
def tell(engine: Engine, receiver: Receiver) -> NotifyOfIncidents:
    return NotifyOfIncidents(SqlIncidents(engine), {"webhook": Webhook(receiver.url)})


def shift(engine: Engine, **columns: float) -> None:
    """As if so many seconds had passed."""
    with engine.begin() as connection:
        connection.execute(sa.update(incidents).values({name: now(-seconds) for name, seconds in columns.items()}))


def rows(engine: Engine) -> list[Any]:
    with engine.connect() as connection:
        return list(connection.execute(sa.select(incidents).order_by(incidents.c.kind, incidents.c.channel)))


def test_an_incident_is_told_once_with_what_is_wrong_since_when_and_what_to_do(tell, receiver, engine):
    for _ in range(3):
        tell([finding()])
    [(headers, body)] = receiver.seen
    message = json.loads(body)
    assert message["type"] == "incident.began"
    assert message["text"].startswith("no_run of ***@example.org\ndo this\nsince 20")
    assert set(message["incident"]) == {"kind", "what", "advice", "since"}
    assert message["timestamp"] == message["incident"]["since"]
    assert headers["webhook-id"].startswith("incident_no_run_20")
    [row] = rows(engine)
    assert (row.kind, row.told_at is not None, row.ended_at) == ("no_run", True, None)


def test_many_who_look_at_once_tell_it_once(engine, receiver):
    tellers = [NotifyOfIncidents(SqlIncidents(engine), {"webhook": Webhook(receiver.url)}) for _ in range(4)]
    threads = [threading.Thread(target=teller, args=([finding()],)) for teller in tellers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(receiver.seen) == 1


def test_an_incident_ends_and_what_comes_back_soon_is_the_same(tell, receiver, engine):
    tell([finding()])
    tell([])
    assert rows(engine)[0].ended_at is not None
    tell([finding(since=120)])
    [row] = rows(engine)
    assert (row.ended_at, row.told_at is not None, len(receiver.seen)) == (None, True, 1)
    tell([])
    shift(engine, ended_at=SAME + 1)
    tell([finding(since=90)])
    first, second = (headers["webhook-id"] for headers, _ in receiver.seen)
    assert first != second
    assert len(rows(engine)) == 1


@pytest.mark.parametrize("since", [None, 5.0])
def test_what_passes_within_a_minute_is_told_to_nobody(since, tell, receiver, engine):
    tell([finding("redis_away", since=since)])
    tell([])
    tell([finding("redis_away", since=since)])
    assert receiver.seen == []
    [row] = rows(engine)
    assert (row.told_at, row.next_at is not None) == (None, True)
    shift(engine, next_at=0.1, since=FIRM)
    tell([finding("redis_away", since=since)])
    assert len(receiver.seen) == 1


def test_warnings_and_what_the_report_of_a_run_tells_are_no_incidents(tell, receiver, engine):
    tell([finding("relay_away", Level.WARNING), finding("run_died"), finding("relay_refuses")])
    assert (receiver.seen, rows(engine)) == ([], [])


def test_what_did_not_arrive_is_tried_again_by_that_way_alone(engine, receiver):
    with closing(Receiver()) as other:
        tell = NotifyOfIncidents(SqlIncidents(engine), {"webhook": Webhook(receiver.url), "other": Webhook(other.url)})
        receiver.answers = [500]
        tell([finding()])
        tell([finding()])
        assert (len(receiver.seen), len(other.seen)) == (1, 1)
        shift(engine, next_at=1)
        tell([finding()])
        assert (len(receiver.seen), len(other.seen)) == (2, 1)
        assert receiver.ids[0] == receiver.ids[1]
        tell([finding()])
        assert len(receiver.seen) == 2


def test_a_receiver_that_is_gone_is_asked_no_more(tell, receiver, engine):
    receiver.answers = [410]
    tell([finding()])
    assert rows(engine)[0].next_at is None


def test_without_an_incident_nothing_is_written(tell, engine):
    tell([])
    assert rows(engine) == []


# --- by whom ---


@pytest.fixture
def settings(sqlite_url: str, redis_url: str, receiver: Receiver) -> dict[str, Any]:
    return {"database_url": sqlite_url, "redis_url": redis_url, "webhook_url": receiver.url}


def waits_in_vain(url: str) -> None:
    reserve(url, 2, scheduled_at=datetime.now(UTC) - timedelta(hours=1))


def test_serve_tells_that_nothing_runs_though_worker_and_beat_are_dead(settings, receiver, sqlite_url):
    waits_in_vain(sqlite_url)
    parts = Parts(Settings(**settings))
    monitor = monitor_of(parts, every=0.05)
    monitor.start()
    wait_until(lambda: receiver.seen, 20, "serve tells it")
    monitor.stop()
    text = json.loads(receiver.seen[0][1])["text"]
    assert text.startswith("mail has been due for 36")
    assert "no run of send-all has ever begun\nis a beat running" in text
    parts.close()


def test_worker_and_beat_tell_it_and_nobody_tells_it_again(settings, receiver, sqlite_url, monkeypatch):
    for name, value in settings.items():
        monkeypatch.setenv(f"MAILBATCH_{name.upper()}", value)
    waits_in_vain(sqlite_url)
    for _ in range(2):  # a worker, and a beat that stands alone
        notifier = IncidentNotifier()
        JobMonitor(check_once, notify=notifier).check()
        notifier.wait(60)
    assert [headers["webhook-id"][:15] for headers, _ in receiver.seen] == ["incident_no_run"]


def test_it_reaches_operators_by_mail_too(sqlite_url, redis_url, tmp_path):
    waits_in_vain(sqlite_url)
    with Sink(tmp_path / "storing", store=True) as sink:
        given = {"smtp_url": sink.url, "sender": "shop@example.com", "report_to": "on-call@example.org"}
        parts = Parts(Settings(database_url=sqlite_url, redis_url=redis_url, **given))
        for _ in range(2):
            parts.notifying.notify_of_incidents(parts.operating.watch("send-all")("send-all"))
        parts.close()
        [mail] = sink.accepted()
        raw = sink.raw(mail)
    assert b"Subject: [mailbatch] mail has been due for 36" in raw
    assert b"this is told once" in raw


def test_a_receiver_that_hangs_holds_up_no_look(settings, receiver, sqlite_url, monkeypatch):
    for name, value in settings.items():
        monkeypatch.setenv(f"MAILBATCH_{name.upper()}", value)
    waits_in_vain(sqlite_url)
    receiver.answers = ["hang"]
    looks = []
    monitor = JobMonitor(lambda: looks.append(1) or check_once(), notify=IncidentNotifier())
    monitor.check()
    wait_until(lambda: receiver.seen, 20, "the receiver hangs")
    monitor.check()
    assert len(looks) == 2
    receiver.holding.set()


def test_where_nobody_wants_to_be_told_no_incident_is_kept(sqlite_url, redis_url, monkeypatch):
    monkeypatch.setenv("MAILBATCH_DATABASE_URL", sqlite_url)
    monkeypatch.setenv("MAILBATCH_REDIS_URL", redis_url)
    waits_in_vain(sqlite_url)
    notifier = IncidentNotifier()
    JobMonitor(check_once, notify=notifier).check()
    notifier.wait(60)
    with database(sqlite_url) as connection:
        assert connection.scalar(sa.select(sa.func.count()).select_from(incidents)) == 0
