"""An import keeps the good records and names the bad ones; a strict one keeps all or none."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from support.fake_reservations import FakeIntake, FakeReservations

from mailbatch.application.acting.imported_files import ImportedFiles
from mailbatch.application.acting.importing import Import, Imported
from mailbatch.application.acting.records import BadLine, Record
from mailbatch.application.acting.reserve import Draft
from mailbatch.domain.content import ContentInMemory
from mailbatch.domain.errors import CannotCompose, InvalidReservation, StoreError
from mailbatch.domain.reservation import Mail, Reservation

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def stored() -> FakeReservations:
    return FakeReservations()


class Check:
    """Finds nobody and nothing else."""

    max_message_bytes = 1_000

    def __call__(self, draft: Draft) -> Reservation:
        if draft.mail.recipients == "nobody":
            raise InvalidReservation(["recipients: is no address", "subject: is missing"])
        return Reservation(id=uuid4(), mail=draft.mail, idempotency_key=draft.idempotency_key)


def record(line: int, recipients: str = "ann@example.org", key: str | None = None) -> Record:
    mail = Mail(recipients=recipients, subject="s", body_text="t")
    return Record(line, Draft(mail=mail, idempotency_key=key))


def run(stored: Any, records: list[Record | BadLine], *, strict: bool = False, batch: int = 2) -> tuple[Any, ...]:
    bad: list[BadLine] = []
    steps: list[Imported] = []
    checking: Any = Check()
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


def test_results_of_portions_add_up():
    assert Imported(new=1, known=2, bad=3) + Imported(new=4, known=5, bad=6) == Imported(new=5, known=7, bad=9)


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


# --- files and messages ----------------------------------------------------------------------------------------------


@dataclass
class Disk:
    """Files in memory: the port ``Folder``."""

    files: dict[str, bytes]
    read: list[str] = field(default_factory=list)

    @contextmanager
    def open(self, path: str) -> Iterator[Any]:
        if path not in self.files:
            raise CannotCompose([f"attachments: {path}: is not there"])
        self.read.append(path)
        yield ContentInMemory(self.files[path])


def with_files(line: int, *entries: Any, recipients: str = "ann@example.org") -> Record:
    one = record(line, recipients)
    return replace(one, draft=replace(one.draft, mail=replace(one.draft.mail, attachments=list(entries))))


def take(stored: Any, disk: Any, *records: Record, batch: int = 2) -> tuple[Imported, list[BadLine]]:
    bad: list[BadLine] = []
    checking: Any = Check()
    files = ImportedFiles(folder=disk, max_bytes=1_000)
    importing = Import(check=checking, reservations=stored, files=files, batch=batch)
    return importing(iter(records), strict=False, on_bad=bad.append, on_progress=lambda _: None), bad


def test_a_file_that_many_records_name_is_read_and_stored_once(stored):
    disk = Disk({"a/terms.pdf": b"%PDF"})
    entry = {"path": "a/terms.pdf", "content_type": "application/pdf"}
    done, bad = take(stored, disk, *(with_files(line, entry) for line in range(1, 8)))
    assert (done, bad, disk.read) == (Imported(new=7), [], ["a/terms.pdf"])
    [kept] = stored.tables.files.values()
    assert (kept.content, kept.row.filename) == (b"%PDF", "terms.pdf")
    named = {"file": kept.row.id, "filename": "terms.pdf", "content_type": "application/pdf"}
    assert all(row.attachments == [named] for row in stored.tables.reservations.values())


def test_a_record_whose_file_is_not_there_is_bad_and_stores_no_other_file(stored):
    disk = Disk({"a.pdf": b"a", "b.pdf": b"b"})
    missing = with_files(1, {"path": "b.pdf"}, {"path": "no.pdf"}, {"path": "nor.pdf"})
    done, bad = take(stored, disk, missing, with_files(2, {"path": "a.pdf"}))
    assert done == Imported(new=1, bad=1)
    assert bad == [BadLine(1, ("attachments: no.pdf: is not there", "attachments: nor.pdf: is not there"))]
    assert [kept.row.filename for kept in stored.tables.files.values()] == ["a.pdf"]


def test_a_bad_record_does_not_keep_the_next_one_from_its_file(stored):
    disk = Disk({"a.pdf": b"a"})
    bad_one = with_files(1, {"path": "a.pdf"}, recipients="nobody")
    done, _ = take(stored, disk, bad_one, with_files(2, {"path": "a.pdf"}), with_files(3, {"path": "a.pdf"}), batch=1)
    assert done == Imported(new=2, bad=1)
    assert len(stored.tables.files) == 1


def test_a_record_is_bad_if_its_files_are_too_large_together_or_not_stored(stored):
    disk = Disk({"a": b"a" * 400, "b": b"b" * 400, "c": b"c" * 800})
    with stored.intake() as intake:
        own = intake.store_file(b"x" * 800, None, None)
    done, bad = take(
        stored,
        disk,
        with_files(1, {"path": "a"}, {"path": "b"}),
        with_files(2, {"path": "c"}),
        with_files(3, {"file": own}),
        with_files(4, {"file": "0" * 64}),
        with_files(5, {"path": "a"}),
        with_files(6, {"path": "a"}, {"path": "a"}),
    )
    assert done == Imported(new=1, bad=5)
    assert [line.line for line in bad] == [1, 2, 3, 4, 6]
    assert bad[0].reasons[0].startswith("attachments: b: has 400 bytes, 552 on the wire; with it the message is larger")
    assert "there is no file 0000" in bad[3].reasons[0]
    assert len(stored.tables.files) == 2


def test_large_messages_fill_a_portion_before_it_has_its_records(stored):
    mail = Mail(recipients="ann@example.org", message=b"x" * 5 * 2**20)
    records: list[Any] = [Record(line, Draft(mail=mail), f"{line}.eml") for line in range(1, 6)]
    run(stored, records, batch=100)
    assert stored.committed == [2, 2, 1]


def test_a_bad_message_is_named_by_its_file(stored):
    _, bad, _ = run(stored, [replace(record(1, "nobody"), file="a.eml")])
    assert bad == [BadLine(1, ("recipients: is no address", "subject: is missing"), "a.eml")]
