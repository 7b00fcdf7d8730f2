"""An import keeps the good records and names the bad ones; a strict one keeps all or none."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from support.fake_reservations import FakeIntake, FakeReservations

from mailbatch.application.acting.importing import Import, Imported
from mailbatch.application.acting.records import BadLine, Record
from mailbatch.application.acting.reserve import Draft
from mailbatch.domain.errors import InvalidReservation, StoreError
from mailbatch.domain.reservation import Mail, Reservation

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def stored() -> FakeReservations:
    return FakeReservations()


def check(draft: Draft) -> Reservation:
    if draft.mail.recipients == "nobody":
        raise InvalidReservation(["recipients: is no address", "subject: is missing"])
    return Reservation(id=uuid4(), mail=draft.mail, idempotency_key=draft.idempotency_key)


def record(line: int, recipients: str = "ann@example.org", key: str | None = None) -> Record:
    mail = Mail(recipients=recipients, subject="s", body_text="t")
    return Record(line, Draft(mail=mail, idempotency_key=key))


def run(stored: Any, records: list[Record | BadLine], *, strict: bool = False, batch: int = 2) -> tuple[Any, ...]:
    bad: list[BadLine] = []
    steps: list[Imported] = []
    checking: Any = check
    importing = Import(check=checking, reservations=stored, batch=batch)
    done = importing(records, strict=strict, on_bad=bad.append, on_progress=steps.append)
    return done, bad, steps


def test_good_records_are_stored_in_portions(stored):
    done, bad, steps = run(stored, [record(line) for line in range(1, 6)])
    assert (done, bad) == (Imported(new=5), [])
    assert steps == [Imported(new=2), Imported(new=4), Imported(new=5)]
    assert stored.committed == [2, 2, 1]


def test_each_bad_record_is_named_in_its_turn_with_every_reason(stored):
    unread = BadLine(3, ("is no JSON",))
    stored.refused = {"huge"}
    done, bad, _ = run(stored, [record(1), record(2, "nobody"), unread, record(4, key="huge"), record(5)])
    assert done == Imported(new=2, bad=3)
    assert bad == [
        BadLine(2, ("recipients: is no address", "subject: is missing")),
        unread,
        BadLine(4, ("value out of range",)),
    ]


def test_a_key_that_stored_a_reservation_before_counts_as_known(stored):
    run(stored, [record(1, key="a")])
    done, bad, _ = run(stored, [record(1, key="a"), record(2, key="b"), record(3, "bob@example.org", key="a")])
    assert done == Imported(new=1, known=1, bad=1)
    assert [(line.line, "was used before" in line.reasons[0]) for line in bad] == [(3, True)]


def test_what_a_second_import_of_the_same_file_finds_known_is_counted_over_all_portions(stored):
    records = [record(line, key=str(line)) for line in range(1, 6)]
    run(stored, records)
    done, _, steps = run(stored, records)
    assert steps == [Imported(known=2), Imported(known=4), done]
    assert done == Imported(known=5)


def test_a_strict_import_with_a_bad_record_keeps_none_and_names_all_that_are_bad(stored):
    done, bad, _ = run(stored, [record(1), record(2, "nobody"), record(3), record(4, "nobody")], strict=True)
    assert done == Imported(bad=2)
    assert [line.line for line in bad] == [2, 4]
    assert stored.tables.reservations == {}


def test_a_strict_import_without_bad_records_is_one_transaction(stored):
    done, _, steps = run(stored, [record(line) for line in range(1, 6)], strict=True)
    assert done == steps[-1] == Imported(new=5)
    assert stored.committed == [5]


def test_the_portions_before_a_database_that_fails_stay(stored, monkeypatch):
    add_many = FakeIntake.add_many

    def failing(intake: FakeIntake, reservations: list[Reservation]) -> Any:
        if stored.tables.reservations:
            raise StoreError("the database went away", transient=True)
        return add_many(intake, reservations)

    monkeypatch.setattr(FakeIntake, "add_many", failing)
    with pytest.raises(StoreError):
        run(stored, [record(line) for line in range(1, 6)])
    assert len(stored.tables.reservations) == 2


def test_an_import_reads_no_further_than_the_portion_that_it_stores(stored):
    taken = []

    def records() -> Iterator[Record]:
        for line in range(1, 6):
            taken.append((line, len(stored.tables.reservations)))
            yield record(line)

    endless: Any = records()
    run(stored, endless)
    assert taken == [(1, 0), (2, 0), (3, 2), (4, 2), (5, 4)]
