"""A purge deletes old finished reservations portion by portion, and the reports of old runs."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from typing import Any

import pytest
from support.fake_files import FakeFiles, store
from support.fake_reservations import FakeInterventions
from support.fake_tables import FakeTables
from support.rows import reservation_row, run_row

from mailbatch.application.acting.purge import Purge
from mailbatch.domain.change import Purged
from mailbatch.domain.reservation import FINISHED, Status


@pytest.fixture
def stored() -> FakeInterventions:
    """One in each state since an hour, one that was sent just now, three runs of yesterday, and one of now."""
    stored = FakeInterventions()
    t = stored.tables
    for at, statuses in ((t.now - timedelta(hours=1), list(Status)), (t.now, [Status.SENT])):
        for status in statuses:
            row = reservation_row(at, status=status, finished_at=at if status in FINISHED else None)
            t.reservations[row.id] = row
    for ended in (86_400, 86_400, 86_400, 0):
        run = run_row(finished_at=t.now - timedelta(seconds=ended))
        t.runs[run.run_id] = run
    return stored


def states(stored: FakeInterventions) -> Counter[str]:
    return Counter(row.status.value for row in stored.tables.reservations.values())


def purge(stored: Any, portion: int = 200) -> Purge:
    stored.portion = portion
    return Purge(interventions=stored, files=FakeFiles(stored.tables))


def test_only_what_is_finished_and_old_is_deleted(stored):
    assert purge(stored)(1800) == 4
    assert states(stored) == {"pending": 1, "sending": 1, "in_doubt": 1, "sent": 1}
    assert len(stored.tables.runs) == 1


def test_it_is_deleted_portion_by_portion(stored):
    assert purge(stored, portion=3)(1800) == 4
    assert stored.calls == [3, 1]


def test_it_stops_after_a_portion_when_it_is_told_to(stored):
    seen = []
    assert purge(stored, portion=1)(1800, lambda deleted: seen.append(deleted) or deleted < 2) == 2
    assert seen == [1, 2]


@pytest.mark.parametrize(("go_on", "files"), [(True, 0), (False, 1)])
def test_files_are_deleted_at_the_end_if_nobody_stops_it(stored, go_on, files):
    tables = FakeTables()
    own = store(tables, b"old", None, None)
    tables.clock.now += 2 * 86_400
    assert Purge(interventions=stored, files=FakeFiles(tables))(1800, lambda _deleted: go_on) == 4
    assert len(tables.files) == files, own


def test_an_empty_portion_is_not_the_end(stored, monkeypatch):
    portions = iter([Purged(2, (1,)), Purged(0, (2,)), Purged(1, None)])
    after = []

    def portion(older_than: float, last: Purged | None) -> Purged:
        after.append(last)
        return next(portions)

    monkeypatch.setattr(stored, "purge", portion)
    assert purge(stored)(60, lambda _deleted: True) == 3
    assert after == [None, Purged(2, (1,)), Purged(0, (2,))]
