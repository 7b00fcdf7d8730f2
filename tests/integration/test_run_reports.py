"""Run reports: told to whom, when, once more after a crash, and never in the way of the batch."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import socket
import time
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa
from support.backlogs import database, reserve, runs
from support.receiver import PATH, Receiver
from support.sink import Sink
from support.waiting import wait_until

from mailbatch import config
from mailbatch.application.notifying import deliver_reports
from mailbatch.application.notifying.deliver_reports import DeliverReports
from mailbatch.batch.outbox_worker import deliver_soon
from mailbatch.batch.send_all import send_all
from mailbatch.bootstrap import Parts, read_settings
from mailbatch.domain.errors import NotDelivered, SettingsError
from mailbatch.domain.run import Counts, RunOutcome, RunReport, Trigger
from mailbatch.infrastructure.db.run_reports import SqlOutbox
from mailbatch.infrastructure.db.runs import SqlRuns
from mailbatch.infrastructure.db.tables import batch_runs, run_reports
from mailbatch.infrastructure.db.types import now, seconds_since
from mailbatch.infrastructure.notify.webhook import Webhook

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy.engine import Engine


def close_a_run(engine: Engine, outcome: RunOutcome = RunOutcome.COMPLETED, **counts: int) -> UUID:
    """A run as it ends, with a report to the webhook."""
    table = SqlRuns(engine, ("webhook",))
    run_id = uuid4()
    table.open(run_id, "send-all", Trigger.BEAT, 8)
    report = RunReport(run_id=run_id, trigger=Trigger.BEAT, outcome=outcome, counts=Counts(**counts), duration=2.0)
    table.close("send-all", report, None)
    return run_id


def due_again(engine: Engine) -> None:
    """As if the time until the next try had passed."""
    with engine.begin() as connection:
        where = run_reports.c.next_at.is_not(None)
        connection.execute(sa.update(run_reports).where(where).values(next_at=now(-1)))


def deliverer(engine: Engine, receiver: Receiver, secret: str | None = None, timeout: float = 5.0) -> DeliverReports:
    return DeliverReports(SqlOutbox(engine), {"webhook": Webhook(receiver.url, secret, timeout)})


# --- which runs, and in which words ---


def test_a_run_that_was_taken_for_dead_and_lived_tells_its_true_end(engine, receiver):
    table = SqlRuns(engine, ("webhook",))
    run_id = uuid4()
    table.open(run_id, "send-all", Trigger.BEAT, 8)
    with engine.begin() as connection:
        connection.execute(sa.update(batch_runs).values(heartbeat_at=now(-60)))
    assert table.close_dead("send-all", 10) == [run_id]
    deliverer(engine, receiver)()
    report = RunReport(run_id=run_id, trigger=Trigger.BEAT, outcome=RunOutcome.COMPLETED, counts=Counts(sent=9))
    for _ in range(2):  # as after a commit whose answer was lost
        table.close("send-all", report, None)
        deliverer(engine, receiver)()
    assert [json.loads(body)["report"]["outcome"] for _, body in receiver.seen] == ["failed", "completed"]
    with engine.begin() as connection:
        row = connection.execute(sa.select(batch_runs)).one()
    assert (row.outcome, row.sent, row.error) == ("completed", 9, None)


def test_a_run_that_sent_something_is_told_in_words_and_as_the_report(engine, receiver):
    run_id = close_a_run(engine, sent=1204, failed=3)
    assert deliverer(engine, receiver)() is None
    [(headers, body)] = receiver.seen
    message = json.loads(body)
    assert message["text"].startswith("send-all completed: 1,204 sent, 3 failed in 2.0 s")
    assert (message["type"], message["report"]["run_id"]) == ("run.finished", str(run_id))
    assert (message["report"]["sent"], message["report"]["job"]) == (1204, "send-all")
    assert headers["webhook-id"] == f"run_{run_id}"


def test_quiet_runs_are_summed_up_in_the_next_report(engine, receiver):
    close_a_run(engine, sent=1)
    for _ in range(3):
        close_a_run(engine)
    close_a_run(engine, sent=2)
    deliverer(engine, receiver)()
    assert [json.loads(body)["report"]["quiet_runs"] for _, body in receiver.seen] == [0, 3]


def test_runs_of_before_there_was_anybody_to_tell_are_not_called_quiet(engine, receiver):
    for sent in (1204, 0):
        SqlRuns(engine).open(run_id := uuid4(), "send-all", Trigger.BEAT, 8)
        report = RunReport(run_id=run_id, trigger=Trigger.BEAT, outcome=RunOutcome.COMPLETED, counts=Counts(sent=sent))
        SqlRuns(engine).close("send-all", report, None)
    close_a_run(engine, sent=1)
    deliverer(engine, receiver)()
    assert json.loads(receiver.seen[0][1])["report"]["quiet_runs"] == 1


@pytest.mark.parametrize("outcome", [RunOutcome.FAILED, RunOutcome.REVOKED, RunOutcome.TIMED_OUT, RunOutcome.LOCK_LOST])
def test_a_run_that_was_stopped_or_failed_is_told_though_it_sent_nothing(engine, receiver, outcome):
    close_a_run(engine, outcome)
    deliverer(engine, receiver)()
    assert json.loads(receiver.seen[0][1])["report"]["outcome"] == outcome


def test_a_run_that_died_is_told_when_its_row_is_closed(engine, receiver):
    run_id = uuid4()
    table = SqlRuns(engine, ("webhook",))
    table.open(run_id, "send-all", Trigger.BEAT, 8)
    with engine.begin() as connection:
        connection.execute(sa.update(batch_runs).values(heartbeat_at=now(-60)))
    assert table.close_dead("send-all", 10) == [run_id]
    deliverer(engine, receiver)()
    assert "the run's process died" in json.loads(receiver.seen[0][1])["text"]


def test_where_nobody_asked_for_reports_none_are_kept(engine):
    SqlRuns(engine).open(run_id := uuid4(), "send-all", Trigger.BEAT, 8)
    report = RunReport(run_id=run_id, trigger=Trigger.BEAT, outcome=RunOutcome.FAILED)
    SqlRuns(engine).close("send-all", report, None)
    assert SqlOutbox(engine).next_in() is None


# --- how they are delivered ---


@pytest.mark.parametrize("secret", ["whsec_" + base64.b64encode(b"k" * 24).decode(), "a plain secret"])
def test_the_signature_is_that_of_standard_webhooks(engine, receiver, secret):
    close_a_run(engine, sent=1)
    deliverer(engine, receiver, secret)()
    [(headers, body)] = receiver.seen
    key = b"k" * 24 if secret.startswith("whsec_") else secret.encode()
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    expected = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    assert headers["webhook-signature"] == f"v1,{expected}"
    assert abs(int(headers["webhook-timestamp"]) - time.time()) < 60


@pytest.mark.parametrize("trouble", [500, 404, 429, "drop", "elsewhere"])
def test_what_did_not_arrive_is_tried_again_with_the_same_id(engine, receiver, trouble):
    run_id = close_a_run(engine, sent=1)
    receiver.answers = [trouble]
    deliver = deliverer(engine, receiver)
    wait = deliver()
    assert wait is not None
    assert 0 < wait <= 5
    due_again(engine)
    assert deliver() is None
    assert receiver.ids == [f"run_{run_id}"] * 2
    assert receiver.seen[0][1] == receiver.seen[1][1], "when it happened, not when it was posted"


def test_a_receiver_that_is_gone_is_asked_no_more(engine, receiver):
    close_a_run(engine, sent=1)
    receiver.answers = [410]
    assert deliverer(engine, receiver)() is None
    with engine.connect() as connection:
        row = connection.execute(sa.select(run_reports)).one()
    assert (row.delivered_at, row.next_at) == (None, None)
    assert row.error == "http://127.0.0.1 answered 410"


def test_a_receiver_that_hangs_is_left_after_the_timeout_and_its_path_is_not_told(receiver):
    receiver.answers = ["hang"]
    report = replace(RunReport(run_id=uuid4(), trigger=Trigger.BEAT, outcome=RunOutcome.FAILED)).as_dict()
    with pytest.raises(NotDelivered) as caught:
        Webhook(receiver.url, None, 0.3)("run_1", {**report, "job": "send-all", "quiet_runs": 0})
    assert str(caught.value) == "http://127.0.0.1 did not answer within 0.3 s"
    assert "secret" not in repr(Webhook(receiver.url, "secret", 1.0)).lower().replace("secret=", "")


@pytest.mark.parametrize("url", ["http://h:geheim/x", "http://h\x00/geheim", "http://h/geheim\x00"])
def test_a_url_that_cannot_be_read_is_a_line_without_its_secret(url):
    report = RunReport(run_id=uuid4(), trigger=Trigger.BEAT, outcome=RunOutcome.FAILED).as_dict()
    with pytest.raises(NotDelivered, match="the URL cannot be read") as caught:
        Webhook(url)("run_1", {**report, "job": "send-all", "quiet_runs": 0})
    assert "geheim" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_nobody_there_is_a_line_without_the_path():
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}{PATH}"
    report = RunReport(run_id=uuid4(), trigger=Trigger.BEAT, outcome=RunOutcome.FAILED).as_dict()
    with pytest.raises(NotDelivered) as caught:
        Webhook(url, None, 5.0)("run_1", {**report, "job": "send-all", "quiet_runs": 0})
    assert PATH not in str(caught.value)


def test_all_that_are_taken_at_once_may_hang_and_are_given_to_nobody_else(engine, receiver):
    for _ in range(8):
        close_a_run(engine, sent=1)
    taken = SqlOutbox(engine).take(deliver_reports.AT_ONCE)
    assert 0 < len(taken) < 8
    with engine.connect() as connection:
        first = connection.scalar(sa.select(sa.func.min(seconds_since(run_reports.c.next_at))).where(leased(taken)))
    assert -first > len(taken) * Webhook(receiver.url).timeout


def leased(taken):
    return run_reports.c.run_id.in_([one.run_id for one in taken])


def test_what_was_taken_by_one_that_died_goes_to_the_next(engine, receiver):
    run_id = close_a_run(engine, sent=1)
    [taken] = SqlOutbox(engine).take(10)
    assert SqlOutbox(engine).take(10) == []
    due_again(engine)
    assert deliverer(engine, receiver)() is None
    assert receiver.ids == [taken.id] == [f"run_{run_id}"]


# --- beside the batch ---


@contextmanager
def parts_of(url: str, smtp_url: str, redis_url: str, **settings: Any) -> Iterator[Parts]:
    values = {"database_url": url, "smtp_url": smtp_url, "redis_url": redis_url, "sender": "batch@example.org"}
    parts = Parts(config.Settings(**(values | settings)))
    try:
        yield parts
    finally:
        parts.close()


def test_a_receiver_that_hangs_does_not_hold_up_the_run(sqlite_url, redis_url, smtp_sink, receiver):
    reserve(sqlite_url, 5)
    receiver.answers = ["hang"]
    with parts_of(sqlite_url, smtp_sink.url, redis_url, webhook_url=receiver.url) as parts:
        report = send_all(parts)()
        began = time.monotonic()
        worker = deliver_soon(parts.notifying)
        assert time.monotonic() - began < 5
        wait_until(lambda: receiver.seen, 10, "the first try")
        reserve(sqlite_url, 5, start=5)
        assert send_all(parts)().counts.sent == 5
        receiver.holding.set()
        assert worker is not None
        wait_until(lambda: len(receiver.seen) >= 2, 20, "both reports")
        worker.wait(10)
    assert f"run_{report.run_id}" in receiver.ids


def test_the_report_reaches_operators_by_mail_too(sqlite_url, redis_url, tmp_path):
    reserve(sqlite_url, 2)
    with Sink(tmp_path / "storing", store=True) as sink:
        with parts_of(sqlite_url, sink.url, redis_url, report_to="on-call@example.org") as parts:
            send_all(parts)()
            worker = deliver_soon(parts.notifying)
            assert worker is not None
            worker.wait(20)
        [mail] = [mail for mail in sink.accepted() if "on-call@example.org" in mail.recipients]
        raw = sink.raw(mail)
    assert b"[mailbatch] send-all completed: 2 sent" in raw
    assert b"Auto-Submitted: auto-generated" in raw
    assert len(runs(sqlite_url)) == 1


def test_reports_by_mail_need_a_sender(monkeypatch):
    monkeypatch.setenv("MAILBATCH_REPORT_TO", "on-call@example.org")
    with pytest.raises(SettingsError, match="REPORT_TO: needs MAILBATCH_SENDER"):
        read_settings()


def test_no_address_stands_in_a_report(engine, receiver):
    table = SqlRuns(engine, ("webhook",))
    table.open(run_id := uuid4(), "send-all", Trigger.BEAT, 8)
    errors = ["[error]Index:1,ReservationID:x,Errors:[550 no such user <ada@example.com>]"]
    report = RunReport(run_id=run_id, trigger=Trigger.BEAT, outcome=RunOutcome.COMPLETED, counts=Counts(failed=1))
    table.close("send-all", replace(report, errors=errors), None)
    deliverer(engine, receiver)()
    assert b"***@example.com" in receiver.seen[0][1]
    assert b"ada@" not in receiver.seen[0][1]


def test_what_a_relay_says_calls_nobody(engine, receiver):
    table = SqlRuns(engine, ("webhook",))
    table.open(run_id := uuid4(), "send-all", Trigger.BEAT, 8)
    report = RunReport(run_id=run_id, trigger=Trigger.BEAT, outcome=RunOutcome.COMPLETED, counts=Counts(failed=1))
    table.close("send-all", replace(report, errors=["550 <!channel> a & b"]), None)
    deliverer(engine, receiver)()
    message = json.loads(receiver.seen[0][1])
    assert "550 &lt;!channel&gt; a &amp; b" in message["text"]
    assert message["report"]["errors"] == ["550 <!channel> a & b"]


def test_the_outbox_holds_the_report_once_the_row_is_closed(engine):
    run_id = close_a_run(engine, sent=1)
    with database(str(engine.url.render_as_string(hide_password=False))) as connection:
        assert connection.execute(sa.select(run_reports.c.run_id)).scalars().all() == [run_id]
