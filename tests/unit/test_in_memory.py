"""The fakes share their rows: a mail that is reserved in memory is sent in memory, and the screens show it."""

from __future__ import annotations

from datetime import timedelta

from support.fake_backlog import FakeBacklog
from support.fake_reservations import FakeReservations
from support.fake_stores import FakeCircuits, FakeLanes, FakeRun, FakeRuns, plain_message
from support.fake_tables import FakeMeasures, FakeReports, FakeTables, FakeUpcoming
from support.fakes import FakeTransport, accepted, answered
from uuid_utils.compat import uuid7

from mailbatch.application.sending.send_due import SendDue
from mailbatch.domain.lifecycle import OnDoubt
from mailbatch.domain.outcome import Kind
from mailbatch.domain.reservation import Mail, Reservation, Status
from mailbatch.domain.rows import ReservationSummary
from mailbatch.domain.run import RunOutcome, RunReport
from mailbatch.domain.selection import Selection


def refuse_bob(message):
    if "bob@example.org" in message.envelope.recipients:
        return answered(message, Kind.REJECTED, 550, "5.1.1 no such user")
    return accepted(message)


def lane(backlog: FakeBacklog) -> SendDue:
    return SendDue(
        backlog=backlog,
        compose=plain_message,
        transport=FakeTransport(refuse_bob),
        clock=backlog.clock,
        jitter=lambda: 0.5,
        retry=backlog.retry,
        on_doubt=OnDoubt.RESEND,
        group_size=4,
        page_size=10,
        lease=backlog.lease,
        relay_faults=5,
    )


def test_what_was_reserved_is_sent_and_shown():
    tables = FakeTables()
    reservations, reports, backlog = FakeReservations(tables), FakeReports(tables), FakeBacklog(tables)
    with reservations.intake() as intake:
        for to in ("ann@example.org", "bob@example.org"):
            intake.add(Reservation(id=uuid7(), mail=Mail(recipients=to, subject="s", body_text="t")))
        later = tables.now + timedelta(hours=1)
        mail = Mail(recipients="cleo@example.org", subject="s", body_text="t")
        intake.add(Reservation(id=uuid7(), mail=mail, scheduled_at=later))
    run = FakeRun()
    lane(backlog)(run)
    found = reservations.select(Selection(), ReservationSummary, None, 9)
    assert {row.recipients: (row.status, row.reply_code) for row in found} == {
        "ann@example.org": (Status.SENT, 250),
        "bob@example.org": (Status.FAILED, 550),
        "cleo@example.org": (Status.PENDING, None),
    }
    assert [(group.outcome, group.reply_code, group.count) for group in reports.error_groups(run.id)] == [
        ("failed", 550, 1)
    ]
    assert (reports.census().due, FakeUpcoming(tables).count(later)) == (0, (1, True))


def test_what_a_helper_settles_counts_for_its_run_which_the_screens_show():
    tables = FakeTables()
    runs, lanes, backlog = FakeRuns(tables), FakeLanes(tables), FakeBacklog(tables)
    run = FakeRun()
    runs.open(run.id, "send-all", run.trigger, 8)
    assert lanes.join(run.id, 1)
    for to in ("ann@example.org", "bob@example.org"):
        backlog.reserve(recipients=to)
    lane(backlog)(run, 1)
    counts = lanes.counts(run.id)
    runs.close(
        "send-all", RunReport(run_id=run.id, trigger=run.trigger, outcome=RunOutcome.COMPLETED, counts=counts), None
    )
    FakeCircuits(tables).open("relay.example:25", "refused", 60)
    shown, figures = FakeReports(tables).run(run.id), FakeMeasures(tables).figures()
    assert (shown.outcome, shown.sent, shown.failed) == (RunOutcome.COMPLETED, 1, 1)
    assert [(circuit.relay, circuit.state) for circuit in figures.circuits] == [("relay.example:25", "open")]
