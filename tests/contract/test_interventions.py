"""One suite for the port ``Interventions``: the fake, SQLite and PostgreSQL behave alike.

``test_lifecycle`` goes through every act in every state; here is what a call for many returns, and what a purge keeps.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import pytest
from support.rows import reservation_row, run_row

from mailbatch.domain.act import Act
from mailbatch.domain.change import ChangeResult
from mailbatch.domain.reservation import FINISHED, Status

if TYPE_CHECKING:
    from support.table_worlds import World

EVERY = frozenset(Status)


def put(world: World, status: Status, ago: float = 60.0, **given: Any) -> UUID:
    """A reservation that became due, and was finished if it is, ``ago`` seconds ago."""
    at = world.ago(ago)
    ended = {"finished_at": at if status in FINISHED else None, "lease_until": at if status is Status.SENDING else None}
    row = reservation_row(at, status=status, **ended, **given)
    world.put(row)
    return row.id


def test_each_id_has_its_result_in_the_order_of_the_call(world):
    failed, sent, nobody = put(world, Status.FAILED), put(world, Status.SENT), uuid4()
    assert world.interventions.apply(Act.REQUEUE, [nobody, sent, failed], EVERY) == [
        ChangeResult(nobody, changed=False, status=None),
        ChangeResult(sent, changed=False, status=Status.SENT),
        ChangeResult(failed, changed=True, status=Status.PENDING),
    ]


def test_only_the_states_that_are_named_are_changed(world):
    failed, cancelled = put(world, Status.FAILED), put(world, Status.CANCELLED)
    results = world.interventions.apply(Act.REQUEUE, [failed, cancelled], {Status.CANCELLED, Status.SENT})
    assert [result.changed for result in results] == [False, True]


def test_what_has_expired_is_not_requeued_and_says_so(world):
    late = put(world, Status.FAILED, expires_at=world.ago(1))
    [result] = world.interventions.apply(Act.REQUEUE, [late], EVERY)
    assert result == ChangeResult(late, changed=False, status=Status.FAILED, overdue=True)


def test_a_requeued_mail_is_due_now_and_one_for_later_keeps_its_time(world):
    over, later = put(world, Status.FAILED, ago=600), put(world, Status.CANCELLED, ago=-600)
    world.interventions.apply(Act.REQUEUE, [over, later], EVERY)
    rows = {own: world.reservations.get(own) for own in (over, later)}
    assert rows[over].due_at > world.ago(60)
    assert (rows[later].retry_at, rows[later].due_at) == (None, rows[later].scheduled_at)
    assert {row.finished_at for row in rows.values()} == {None}


def test_a_deleted_one_reports_the_state_in_which_it_was(world):
    own = put(world, Status.EXPIRED)
    assert world.interventions.apply(Act.DELETE, [own], EVERY) == [
        ChangeResult(own, changed=True, status=Status.EXPIRED)
    ]
    assert world.reservations.get(own) is None


def purge(world: World, older_than: float) -> int:
    """Purge portion by portion; return how many reservations are gone."""
    portion = world.interventions.purge(older_than)
    deleted = portion.count
    while portion.place is not None:
        portion = world.interventions.purge(older_than, portion)
        deleted += portion.count
    return deleted


@pytest.mark.parametrize("rows", [1, 2, 100])
def test_a_purge_deletes_all_that_is_finished_and_old_and_nothing_else(world, rows):
    world.act_in_portions_of(rows)
    old = [put(world, status, ago=3600) for status in Status for _ in range(2)]
    fresh = [put(world, status) for status in Status]
    assert purge(world, 1800) == 2 * len(FINISHED)
    left = [own for own in old if world.reservations.get(own) is not None]
    assert len(left) == 2 * (len(Status) - len(FINISHED))
    assert all(world.reservations.get(own) for own in fresh)


def test_the_reports_of_runs_that_ended_long_ago_are_deleted(world):
    old, fresh, on = (run_row(world.ago(3600), finished_at=ended) for ended in (world.ago(3000), world.ago(60), None))
    world.put(old, fresh, on)
    assert world.interventions.purge_runs(1800) == 1
    assert [world.reports.run(run.run_id) is None for run in (old, fresh, on)] == [True, False, False]
