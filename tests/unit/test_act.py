"""Acts on reservations: which are changed, what is returned, and what the audit log has of it."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import pytest
from support.fake_audit_log import FakeAuditLog
from support.fake_clock import FakeClock
from support.fake_reservations import FakeInterventions, FakeReservations
from support.fake_tables import FakeReports, FakeTables
from support.rows import reservation_row, run_row

from mailbatch.application.acting import act as acts
from mailbatch.application.acting.act import ActOnReservations
from mailbatch.application.acting.audit import Audit
from mailbatch.domain.act import FROM, TO, Act
from mailbatch.domain.change import Changed, ChangeResult
from mailbatch.domain.errors import NotFound, StateConflict, StoreError
from mailbatch.domain.reservation import Status
from mailbatch.domain.run import ItemError
from mailbatch.domain.selection import Counted, ErrorsOf, Selection, Tagged

if TYPE_CHECKING:
    from mailbatch.domain.selection import Scope

ANN = "cli:ann"


class World:
    """Reservations to act on. ``moves``: states into which they change after they are selected, and before the act."""

    def __init__(self) -> None:
        self.tables = FakeTables()
        self.interventions = FakeInterventions(self.tables)
        self.moves: dict[UUID, Status] = {}

    def put(self, status: Status = Status.PENDING, **given: Any) -> UUID:
        row = reservation_row(self.tables.now, status=status, **given)
        self.tables.reservations[row.id] = row
        return row.id

    def put_errors(self, *own: UUID) -> UUID:
        """A run whose errors name these reservations."""
        run = run_row(self.tables.now)
        self.tables.runs[run.run_id] = run
        self.tables.errors[run.run_id] = [ItemError(index, one, ("no",)) for index, one in enumerate(own, 1)]
        return run.run_id

    def status(self, own: UUID) -> Status:
        return self.tables.reservations[own].status

    def states(self) -> Counter[str]:
        return Counter(row.status.value for row in self.tables.reservations.values())


class MovingOn(FakeReservations):
    """Reservations that move on between the look at a portion and the act on it."""

    def __init__(self, world: World) -> None:
        super().__init__(world.tables)
        self._moves = world.moves

    def select(self, *given: Any) -> Any:
        places, rows = super().select(*given), self.tables.reservations
        for place in places:
            if (status := self._moves.pop(place.id, None)) is not None:
                rows[place.id] = replace(rows[place.id], status=status)
        return places


@pytest.fixture
def stored() -> World:
    return World()


@pytest.fixture
def log() -> FakeAuditLog:
    return FakeAuditLog()


@pytest.fixture
def acting(stored: World, log: FakeAuditLog) -> ActOnReservations:
    return ActOnReservations(
        reservations=MovingOn(stored),
        interventions=stored.interventions,
        reports=FakeReports(stored.tables),
        audit=Audit(log, FakeClock()),
    )


# --- by id ---


@pytest.mark.parametrize("act", Act)
@pytest.mark.parametrize("status", Status)
def test_a_reservation_is_changed_only_from_the_states_of_the_act(acting, stored, log, act, status):
    own = stored.put(status)
    result, _ = acting.on_one(ANN, act, own)
    changed = status in FROM[act]
    assert result == ChangeResult(own, changed=changed, status=TO.get(act, status) if changed else status)
    assert (own in stored.tables.reservations) is not (changed and act is Act.DELETE)
    done = changed or status is TO.get(act)
    assert log.entries == [
        {"actor": ANN, "action": act.value, "target": {"id": str(own)}}
        | {"affected": int(changed), "outcome": "done" if done else "refused"}
    ]


def test_a_reservation_that_does_not_exist_is_not_found_and_the_refusal_is_recorded(acting, log):
    with pytest.raises(NotFound):
        acting.on_one(ANN, Act.CANCEL, uuid4())
    assert [(entry["affected"], entry["outcome"]) for entry in log.entries] == [(0, "refused")]


def test_of_several_each_has_a_result_in_order_in_one_transaction(acting, stored, log):
    pending, sent, nobody = stored.put(), stored.put(Status.SENT), uuid4()
    results = acting.on_ids(ANN, Act.CANCEL, [nobody, sent, pending])
    assert [(result.reservation_id, result.changed) for result in results] == [
        (nobody, False),
        (sent, False),
        (pending, True),
    ]
    assert stored.interventions.calls == [3]
    [entry] = log.entries
    assert (entry["outcome"], entry["affected"]) == ("done in part", 1)
    assert entry["target"] == {"ids": [str(nobody), str(sent), str(pending)], "of": 3}


def test_the_audit_log_names_the_first_hundred_ids(acting, stored, log):
    acting.on_ids(ANN, Act.CANCEL, [stored.put() for _ in range(101)])
    assert (len(log.entries[0]["target"]["ids"]), log.entries[0]["target"]["of"]) == (100, 101)


# --- by a scope ---


@pytest.fixture
def _small(monkeypatch: pytest.MonkeyPatch, stored: Any) -> None:
    stored.interventions.portion = 3
    monkeypatch.setattr(acts, "CAP", 5)


@pytest.mark.usefixtures("_small")
def test_all_of_a_filter_are_changed_in_portions(acting, stored, log):
    for tag in ["spring"] * 7 + ["summer"]:
        stored.put(tag=tag)
    assert acting.on_all(ANN, Act.CANCEL, Selection(tag="spring")) == Changed(7, {})
    assert stored.interventions.calls == [3, 3, 1]
    assert stored.states() == {"cancelled": 7, "pending": 1}
    assert log.entries == [
        {"actor": ANN, "action": "cancel", "target": {"tag": "spring"}, "affected": 7, "outcome": "done"}
    ]


def test_a_reservation_that_changes_meanwhile_stays_and_is_counted(acting, stored):
    first, second = stored.put(), stored.put()
    stored.moves[first] = Status.SENDING
    assert acting.on_all(ANN, Act.CANCEL, Selection()) == Changed(1, {Status.SENDING: 1})
    assert stored.status(second) is Status.CANCELLED


def test_of_a_tag_all_its_other_states_are_counted(acting, stored):
    for status in (Status.PENDING, Status.SENT, Status.SENT, Status.CANCELLED):
        stored.put(status, tag="spring")
    stored.put(Status.SENT, tag="summer")
    assert acting.on_all(ANN, Act.CANCEL, Tagged("spring")) == Changed(1, {Status.SENT: 2})


@pytest.mark.usefixtures("_small")
def test_the_errors_of_a_run_are_requeued_if_they_are_still_failed(acting, stored, log):
    failed = [stored.put(Status.FAILED) for _ in range(4)]
    sent, late = stored.put(Status.SENT), stored.put(Status.FAILED, expires_at=stored.tables.now)
    stored.put(Status.FAILED)
    run_id = stored.put_errors(*failed, sent, late, *failed)
    assert acting.count(Act.REQUEUE, ErrorsOf(run_id)) == Counted(5, exact=True)
    assert acting.on_all(ANN, Act.REQUEUE, ErrorsOf(run_id)) == Changed(4, {Status.SENT: 1, Status.FAILED: 1})
    assert stored.states() == {"pending": 4, "failed": 2, "sent": 1}
    assert max(stored.interventions.calls) == 3
    assert log.entries[0]["target"] == {"run": str(run_id)}


def test_a_run_that_does_not_exist_is_not_found(acting, log):
    for ask in (acting.count, lambda act, scope: acting.on_all(ANN, act, scope)):
        with pytest.raises(NotFound, match="mailbatch runs"):
            ask(Act.REQUEUE, ErrorsOf(uuid4()))
    assert [entry["outcome"] for entry in log.entries] == ["refused"]


@pytest.mark.usefixtures("_small")
@pytest.mark.parametrize(("many", "expected"), [(4, Counted(4, exact=True)), (6, Counted(5, exact=False))])
def test_a_count_says_if_there_may_be_more(acting, stored, many, expected):
    run_id = stored.put_errors(*(stored.put(Status.FAILED) for _ in range(many)))
    assert acting.count(Act.REQUEUE, Selection(status=Status.FAILED)) == expected
    assert acting.count(Act.REQUEUE, ErrorsOf(run_id)) == expected


@pytest.mark.parametrize(
    ("act", "scope"),
    [
        (Act.CANCEL, Selection(status=Status.SENT)),
        (Act.DELETE, Selection()),
        (Act.REQUEUE, Tagged("spring")),
        (Act.RESTORE, Selection(status=Status.FAILED)),
    ],
)
def test_a_scope_must_be_in_a_state_of_the_act(acting, stored, log, act: Act, scope: Scope):
    with pytest.raises(StateConflict, match=f"{act.value} is for reservations that are "):
        acting.count(act, scope)
    with pytest.raises(StateConflict):
        acting.on_all(ANN, act, scope)
    assert (stored.interventions.calls, log.entries[0]["outcome"]) == ([], "refused")


def test_the_audit_log_has_the_filter_but_no_part_of_an_address(acting, log):
    which = Selection(status=Status.FAILED, to="ann@", reply="4xx", run_id=UUID(int=1))
    acting.on_all(ANN, Act.DELETE, which)
    assert log.entries[0]["target"] == {"status": "failed", "to": "***", "reply": "4xx", "run": str(UUID(int=1))}


# --- the audit log ---


def test_nothing_is_done_that_cannot_be_recorded(acting, stored, log):
    log.broken = True
    own = stored.put()
    with pytest.raises(StoreError):
        acting.on_one(ANN, Act.CANCEL, own)
    assert stored.status(own) is Status.PENDING


def test_an_act_that_breaks_off_is_recorded_so(acting, stored, log, monkeypatch):
    def away(*_given: object) -> None:
        raise StoreError("the database went away", transient=True)

    monkeypatch.setattr(stored.interventions, "apply", away)
    with pytest.raises(StoreError):
        acting.on_one(ANN, Act.CANCEL, stored.put())
    assert [entry["outcome"] for entry in log.entries] == ["broken off"]


def test_the_end_of_an_act_is_recorded_again_until_the_database_accepts_it(stored, log):
    clock = FakeClock()
    with Audit(log, clock).around(ANN, "pause", {}) as entry:
        log.refusals = 3
        entry.affected = 1
    assert [e["outcome"] for e in log.entries] == ["done"]
    assert clock.now == pytest.approx(1000.0 + 0.05 + 0.1 + 0.2)


def test_an_end_that_is_never_accepted_stays_begun_after_a_minute(log, caplog):
    clock = FakeClock()
    with Audit(log, clock).around(ANN, "pause", {}):
        log.refusals = 10_000
    assert [e["outcome"] for e in log.entries] == ["begun"]
    assert 59.0 < clock.now - 1000.0 <= 60.0
    assert "the list of actions says `begun` of pause" in caplog.text
