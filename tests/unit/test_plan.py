"""What the next run would send, and which waiting mails would fail: rendered, and not sent; over fakes."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from support.fake_blocks import FakeBlocks
from support.fake_reservations import FakeReservations
from support.fake_tables import FakeReports, FakeTables, FakeUpcoming
from support.rows import reservation_row, run_row

from mailbatch.application.looking.carried import Carried
from mailbatch.application.looking.plan import PlanRun
from mailbatch.application.looking.waiting import Looked, RenderWaiting
from mailbatch.application.sending.gates.blocked_tags import BlockedTags
from mailbatch.domain.errors import CannotCompose
from mailbatch.domain.message import Envelope, Message
from mailbatch.domain.reservation import Status

if TYPE_CHECKING:
    from mailbatch.domain.claimed import ClaimedMail
    from mailbatch.domain.reservation import Mail
    from mailbatch.domain.rows import ReservationRow


NOTHING = Carried(files=(), problems=(), locale=None, served_in=(), returns_to="a@x", returns_elsewhere=False)


@pytest.fixture
def tables() -> FakeTables:
    return FakeTables()


@pytest.fixture
def plan(tables: FakeTables) -> PlanRun:
    return PlanRun(
        upcoming=FakeUpcoming(tables),
        compose=compose,
        reports=FakeReports(tables),
        show_carried=lambda *_: NOTHING,
        now=lambda: tables.now,
        gates=[BlockedTags(FakeBlocks(tables), tables.clock)],
    )


def compose(claimed: ClaimedMail) -> Message:
    if claimed.mail.template:
        raise CannotCompose([f"template {claimed.mail.template}: there is none", "more"])
    text = f"Subject: {claimed.mail.subject}\r\n\r\nbody\r\n"
    return Message(claimed.claim, Envelope("a@x", ("b@x",)), text.encode())


def render(mail: Mail) -> Any:
    if mail.template:
        raise CannotCompose([f"template {mail.template}: there is none"])


def put(tables: FakeTables, due: float = 5.0, **columns: Any) -> ReservationRow:
    row = reservation_row(tables.now - timedelta(seconds=due), **columns)
    tables.reservations[row.id] = row
    return row


def test_each_mail_is_shown_as_it_would_be_sent(plan, tables):
    row = put(tables, subject="=?utf-8?b?R3LDvMOfZQ==?=")
    [found] = plan(None, 9)
    assert (found.mail.claim.reservation_id, found.errors, found.subject) == (row.id, (), "Grüße")
    assert found.size == len(b"Subject: =?utf-8?b?R3LDvMOfZQ==?=\r\n\r\nbody\r\n")


def test_a_mail_that_cannot_be_composed_says_why_and_does_not_keep_the_others(plan, tables):
    put(tables, due=9, template="nowhere", subject=None)
    put(tables, due=5)
    broken, good = plan(None, 9)
    assert broken.errors == ("template nowhere: there is none", "more")
    assert (broken.subject, broken.size) == ("template nowhere", 0)
    assert good.errors == ()


def test_only_what_is_due_by_then_is_planned_and_no_more_than_are_asked_for(plan, tables):
    for due in (9, 5, -60):
        put(tables, due=due)
    assert len(list(plan(None, 9))) == 2
    assert len(list(plan(tables.now + timedelta(seconds=60), 9))) == 3
    assert len(list(plan(None, 1))) == 1


def test_a_short_plan_has_the_first_mails_and_ends_when_it_is_enough(plan, tables):
    for due in (9, 5, 3):
        put(tables, due=due)
    short = plan.first(None, 2, lambda: False)
    assert (short.due, short.exact, short.seconds) == (3, True, None)
    assert [(one.subject, carried) for one, carried in short.first] == [("s", NOTHING)] * 2
    assert len(plan.first(None, 9, iter([False, True]).__next__).first) == 2


def test_a_finished_message_that_cannot_be_sent_is_shown_by_its_own_subject(plan, tables):
    put(tables, template="nowhere", subject=None, message=b"Subject: Finished\r\n\r\nHi\r\n")
    [found] = plan(None, 9)
    assert (found.subject, found.errors[0]) == ("Finished", "template nowhere: there is none")


def test_a_finished_message_that_waits_is_not_rendered(tables):
    put(tables, subject=None, body_text=None, message=b"Subject: Finished\r\n\r\nHi\r\n")
    bad = put(tables, message=b"Subject: Finished\r\n\r\nHi\r\n")
    seen = RenderWaiting(render=pytest.fail, reservations=FakeReservations(tables))(lambda: False)
    example = f"{bad.id}: subject: does not go with message; write it into the header of the message"
    assert seen == Looked(rendered=2, broken=1, example=example, whole=True)


def test_the_rate_is_that_of_runs_that_had_enough_to_do(plan, tables):
    assert plan.rate("send-all") is None
    for sent, duration, outcome in ((100, 2.0, "completed"), (50, 1.0, "completed"), (49, 9.0, "completed")):
        run = run_row(tables.now, sent=sent, duration=duration, outcome=outcome)
        tables.runs[run.run_id] = run
    failed = run_row(tables.now, sent=500, duration=1.0, outcome="failed")
    tables.runs[failed.run_id] = failed
    assert plan.rate("send-all") == pytest.approx(50.0)


def test_waiting_mails_are_rendered_and_one_that_fails_is_named(tables):
    for _ in range(60):
        put(tables)
    broken = put(tables, template="nowhere")
    put(tables, status=Status.SENT, template="nowhere")
    seen = RenderWaiting(render=render, reservations=FakeReservations(tables))(lambda: False)
    example = f"{broken.id}: template nowhere: there is none"
    assert seen == Looked(rendered=61, broken=1, example=example, whole=True)


def test_rendering_ends_when_it_is_enough(tables):
    for _ in range(3):
        put(tables)
    seen = RenderWaiting(render=render, reservations=FakeReservations(tables))(iter([False, True]).__next__)
    assert seen == Looked(rendered=1, broken=0, example="", whole=False)
