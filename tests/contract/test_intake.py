"""The ports ``Intake`` and ``Reservations``: what is stored, each key once, and what lists read of it.

``SqlIntake`` is what ``SqlReservations`` opens.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from support.rows import reservation_row
from uuid_utils.compat import uuid7

from mailbatch.application.looking.inquire import ListReservations
from mailbatch.domain.errors import KeyConflict
from mailbatch.domain.reservation import Mail, Reservation, Status, Stored
from mailbatch.domain.rows import ReservationContext, ReservationPlace, ReservationRow, ReservationSummary
from mailbatch.domain.selection import Counted, Selection

TOMORROW = datetime(2030, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
LETTER = Mail(recipients="ada@example.com", subject="Hello", body_text="Hello.")


def reservation(**given: Any) -> Reservation:
    return Reservation(**{"id": uuid7(), "mail": LETTER, **given})


def add(world, **given: Any) -> Stored:
    with world.reservations.intake() as intake:
        return intake.add(reservation(**given))


# --- reserving ---


def test_a_reservation_reads_as_it_was_written(world):
    mail = Mail(
        recipients="Ada Lovelace <ada@example.com>, 山田 <taro@例え.jp>",
        cc="c@example.com",
        bcc="b@example.com",
        sender="s@example.com",
        reply_to="r@example.com",
        subject="Schöne Grüße 🎉",
        body_text="Text",
        body_html="<p>Text</p>",
        context={"name": "Ada", "n": 1.5, "list": [None, True, {"deep": "ü"}]},
        headers={"X-Campaign": "spring"},
    )
    when = datetime(2030, 5, 6, 7, 8, 9, 123000, tzinfo=UTC)
    given = reservation(mail=mail, scheduled_at=when, expires_at=when + timedelta(days=1), priority=-7, tag="t")
    with world.reservations.intake() as intake:
        assert intake.add(given) == Stored(given.id, new=True)
    row = world.reservations.get(given.id)
    assert row is not None
    for name in Mail.__slots__:
        assert getattr(row, name) == getattr(mail, name)
    assert (row.scheduled_at, row.expires_at) == (when, when + timedelta(days=1))
    assert (row.priority, row.tag, row.status) == (-7, "t", "pending")
    assert world.reservations.get(uuid4()) is None


def test_files_language_and_bounce_address_read_as_they_were_written(world):
    mail = Mail(
        recipients="ada@example.com",
        template="invoice",
        attachments=[{"path": "a.pdf", "filename": "ü.pdf"}],
        envelope_sender="<>",
        locale="pt-BR",
    )
    given = stored_once(world, mail)
    with world.reservations.intake() as intake, pytest.raises(KeyConflict, match="differs in attachments, locale"):
        intake.add(reservation(mail=replace(mail, attachments=[], locale="de"), idempotency_key="k"))
    row = world.reservations.get(given)
    assert (row.attachments, row.envelope_sender, row.locale) == (mail.attachments, "<>", "pt-BR")


def test_a_finished_message_reads_as_it_was_written(world):
    mail = Mail(recipients="ada@example.com", message=b"Subject: s\r\n\r\n\xff\x00")
    given = stored_once(world, mail)
    with world.reservations.intake() as intake, pytest.raises(KeyConflict, match="differs in message"):
        intake.add(reservation(mail=replace(mail, message=b"other"), idempotency_key="k"))
    found = world.reservations.get(given).message
    assert (found if isinstance(found, bytes) else b"".join(found.pieces())) == mail.message


def stored_once(world, mail):
    """Store ``mail`` twice under one key; its id."""
    given = reservation(mail=mail, idempotency_key="k")
    with world.reservations.intake() as intake:
        assert intake.add(given) == Stored(given.id, new=True)
        assert intake.add(reservation(mail=mail, idempotency_key="k")) == Stored(given.id, new=False)
    return given.id


def test_the_message_id_of_a_finished_message_is_shown_however_it_was_stored(world):
    mail = Mail(recipients="ada@example.com", message=b"Message-ID: <own@x.org>\r\n\r\nHi")
    with world.reservations.intake() as intake:
        known = intake.add(reservation(mail=mail, message_id="<own@x.org>"))
        results = intake.add_many(
            [reservation(), reservation(mail=mail, message_id="<own@x.org>"), reservation(mail=mail)]
        )
    ids = [known.reservation_id, *(result.reservation_id for result in results)]
    assert [world.reservations.get(own).message_id for own in ids] == [
        "<own@x.org>",
        None,
        "<own@x.org>",
        "<own@x.org>",
    ]


def test_without_a_time_it_is_due_at_once_by_the_databases_clock(world):
    add(world)
    census = world.reports.census()
    assert census.due == 1
    assert 0 <= census.oldest_due_seconds < 60


def test_the_same_key_and_content_is_the_same_reservation(world):
    given: dict[str, Any] = {
        "mail": Mail(recipients="a@example.com", template="t", context={"b": 1, "a": (1, 2.0)}, headers={}),
        "scheduled_at": TOMORROW,
        "expires_at": TOMORROW + timedelta(hours=1),
        "idempotency_key": "order-1",
    }
    first = add(world, **given)
    assert first.new
    assert add(world, **given) == Stored(first.reservation_id, new=False)
    elsewhere = TOMORROW.astimezone(tz=datetime.fromisoformat("2000-01-01T00:00+09:00").tzinfo)
    assert add(world, **{**given, "scheduled_at": elsewhere}).reservation_id == first.reservation_id


def test_a_time_that_was_left_out_matches_any(world):
    first = add(world, idempotency_key="k", scheduled_at=TOMORROW)
    assert add(world, idempotency_key="k") == Stored(first.reservation_id, new=False)


@pytest.mark.parametrize(
    ("other", "named"),
    [
        ({"mail": Mail(recipients="eve@example.com", subject="Hello", body_text="Hello.")}, "recipients"),
        ({"mail": Mail(recipients="ada@example.com", subject="Bye", body_text="Bye.")}, "subject, body_text"),
        ({"scheduled_at": TOMORROW}, "scheduled_at"),
        ({"priority": 1}, "priority"),
        ({"tag": "other"}, "tag"),
    ],
)
def test_the_same_key_with_other_content_is_refused_and_says_what_differs(world, other, named):
    first = add(world, idempotency_key="k")
    with pytest.raises(KeyConflict, match=f"'k' was used before, for .*{first.reservation_id}.* differs in {named};"):
        add(world, **{"idempotency_key": "k", **other})


def test_an_id_that_is_taken_is_refused_without_harm_to_the_transaction(world):
    taken = add(world).reservation_id
    with world.reservations.intake() as intake:
        with pytest.raises(KeyConflict, match=f"id: {taken} is taken"):
            intake.add(reservation(id=taken, idempotency_key="k"))
        other = intake.add(reservation())
    assert world.reservations.get(other.reservation_id)


def test_many_are_stored_together_and_the_bad_ones_keep_their_places(world):
    earlier = add(world, idempotency_key="old")
    many = [
        reservation(idempotency_key="new"),
        reservation(idempotency_key="old"),
        reservation(idempotency_key="old", tag="other"),
        reservation(),
        reservation(idempotency_key="new"),
    ]
    with world.reservations.intake() as intake:
        stored = intake.add_many(many)
    assert stored[0] == Stored(many[0].id, new=True)
    assert stored[1] == Stored(earlier.reservation_id, new=False)
    assert isinstance(stored[2], KeyConflict)
    assert stored[3] == Stored(many[3].id, new=True)
    assert stored[4] == Stored(many[0].id, new=False)
    assert world.reports.census().counts[Status.PENDING] == 3


def test_many_that_are_known_are_compared_and_those_between_them_stored(world):
    earlier = [add(world, idempotency_key=f"k{n}") for n in range(120)]
    many = [reservation(idempotency_key=f"k{n}", tag="other" if n == 60 else None) for n in range(125)]
    with world.reservations.intake() as intake:
        stored = intake.add_many(many)
    for n in (0, 49, 50, 119):
        assert stored[n] == Stored(earlier[n].reservation_id, new=False)
    assert "differs in tag" in str(stored[60])
    assert stored[120:] == [Stored(one.id, new=True) for one in many[120:]]
    assert world.reports.census().counts[Status.PENDING] == 125


def test_an_intake_that_raises_keeps_nothing(world):
    class Stopped(Exception):
        pass

    def store_ten_and_stop() -> None:
        with world.reservations.intake() as intake:
            intake.add_many([reservation() for _ in range(10)])
            raise Stopped

    with pytest.raises(Stopped):
        store_ten_and_stop()
    assert world.reports.census().counts[Status.PENDING] == 0


# --- listing ---


def test_a_list_is_newest_first_and_pages_without_gaps_or_repeats(world):
    states = [Status.PENDING, Status.FAILED, Status.SENT] * 4
    rows = [reservation_row(world.ago(99 - number), status=status) for number, status in enumerate(states)]
    world.put(*rows)
    ids = [row.id for row in rows]
    listed = ListReservations(world.reservations)
    assert [row.id for row in listed(Selection(), 100, ReservationSummary)] == ids[::-1]
    pages, after = [], None
    while page := world.reservations.select(Selection(), ReservationPlace, after, 5):
        pages += page
        after = page[-1]
    assert [row.id for row in pages] == ids[::-1]
    assert [row.id for row in listed(Selection(), 3, ReservationRow)] == ids[:-4:-1]
    assert [row.status for row in listed(Selection(status=Status.FAILED), 100, ReservationRow)] == ["failed"] * 4


def test_filters_take_signs_of_patterns_by_their_letter(world):
    percent = add(world, mail=Mail(recipients="100%_x@example.com", subject="s", body_text="b"), tag="a")
    add(world, mail=Mail(recipients="1000x@example.com", subject="s", body_text="b"), tag="b")
    assert [r.id for r in world.reservations.select(Selection(to="0%_X"), ReservationPlace, None, 9)] == [
        percent.reservation_id
    ]
    assert [r.id for r in world.reservations.select(Selection(tag="a"), ReservationPlace, None, 9)] == [
        percent.reservation_id
    ]
    assert world.reservations.select(Selection(tag="a", status=Status.SENT), ReservationPlace, None, 9) == []


def test_a_time_moves_finished_ones_to_the_place_of_their_end(world):
    old = reservation_row(world.ago(900), status=Status.SENT, finished_at=world.ago(10))
    new = reservation_row(world.ago(500), status=Status.FAILED, finished_at=world.ago(100))
    waits = reservation_row(world.ago(50))
    world.put(old, new, waits)
    plain, timed = Selection(), Selection(since=world.ago(200))
    assert [r.id for r in world.reservations.select(plain, ReservationPlace, None, 9)] == [waits.id, new.id, old.id]
    assert [r.id for r in world.reservations.select(timed, ReservationPlace, None, 9)] == [old.id, waits.id, new.id]


def test_counts_stop_at_their_cap_and_say_so(world):
    world.put(*(reservation_row(world.ago(n)) for n in range(4)))
    assert world.reservations.count(Selection(status=Status.PENDING), 9) == 4
    assert world.reservations.estimate(Selection(), 9) == Counted(4, exact=True)
    assert world.reservations.estimate(Selection(), 2) == Counted(3, exact=False)


def test_some_are_read_as_far_as_they_exist(world):
    row = reservation_row(world.ago(1), context={"n": 1})
    world.put(row)
    found = world.reservations.some([row.id, uuid4()], ReservationContext)
    assert found == {row.id: ReservationContext(id=row.id, context={"n": 1})}
    assert world.reservations.some([], ReservationSummary) == {}
