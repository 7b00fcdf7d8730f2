"""An act on all that a filter means, while the mails move on, on SQLite and PostgreSQL."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa
from support.backlogs import reserve, states
from support.operating import ACTOR, act_on, act_on_all, acting, steady

from mailbatch.application.acting import act as acts
from mailbatch.application.acting.purge import Purge
from mailbatch.domain.act import FROM, Act
from mailbatch.domain.change import ChangeResult
from mailbatch.domain.errors import StateConflict
from mailbatch.domain.reservation import FINISHED, Status
from mailbatch.domain.selection import Counted, ErrorsOf, Selection
from mailbatch.infrastructure.db import interventions
from mailbatch.infrastructure.db.files import SqlFiles
from mailbatch.infrastructure.db.interventions import SqlInterventions
from mailbatch.infrastructure.db.reservations import SqlReservations
from mailbatch.infrastructure.db.tables import batch_runs, mail_attempts, mail_reservations, run_errors
from mailbatch.infrastructure.db.types import now

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.engine import Engine

_r = mail_reservations.c
ENDS = {
    Act.CANCEL: Status.CANCELLED,
    Act.REQUEUE: Status.PENDING,
    Act.RESTORE: Status.PENDING,
    Act.RESOLVE: Status.SENT,
}
CASES = [(act, status) for act in Act for status in sorted(FROM[act])]


def put(url: str, status: Status, count: int = 1, **columns: Any) -> list[UUID]:
    """``count`` mails in that state, the first made first."""
    own = [uuid4() for _ in range(count)]
    for one in own:
        reserve(url, 1, id=one, **_columns(status), **columns)
    return own


def _columns(status: Status) -> dict[str, Any]:
    at = datetime.now(UTC)
    return {
        "status": status.value,
        "finished_at": at if status in FINISHED else None,
        "lease_until": at + timedelta(minutes=1) if status is Status.SENDING else None,
    }


class MovingOn:
    """Mails that move on between the look at a portion and the act on it."""

    def __init__(self, engine: Engine, moves: dict[UUID, Callable[[Any, UUID], None]]) -> None:
        self._engine = engine
        self._moves = dict(moves)

    def select(self, *words: Any) -> Any:
        rows = SqlReservations(self._engine).select(*words)
        with self._engine.begin() as connection:
            for row in rows:
                if move := self._moves.pop(row.id, None):
                    move(connection, row.id)
        return rows


def into(status: Status) -> Callable[[Any, UUID], None]:
    return lambda connection, own: connection.execute(
        sa.update(mail_reservations).where(_r.id == own).values(_columns(status))
    )


def gone(connection: Any, own: UUID) -> None:
    connection.execute(sa.delete(mail_reservations).where(_r.id == own))


@pytest.mark.parametrize(("act", "status"), CASES)
def test_what_moved_on_meanwhile_is_left_alone_and_counted_by_where_it_went(
    act: Act, status: Status, engine: Engine, database_url: str
) -> None:
    others = [other for other in Status if other is not status] * 2
    mails = put(database_url, status, len(others) + 5)
    moves: dict[UUID, Any] = {own: into(other) for own, other in zip(mails[1:], others, strict=False)}
    moves[mails[len(others) + 1]] = gone
    reservations: Any = MovingOn(engine, moves)
    done = acting(engine, reservations).on_all(ACTOR, act, Selection(status=status))
    assert done.changed == len(mails) - len(moves) == 4
    assert done.left == Counter(others)
    expected = Counter(others)
    if act in ENDS:
        expected[ENDS[act]] += 4
    assert states(database_url) == {state.value: n for state, n in expected.items()}


@pytest.mark.parametrize(("act", "status"), CASES)
def test_only_what_the_filter_means_is_changed_in_however_many_portions(
    act: Act, status: Status, engine: Engine, database_url: str
) -> None:
    put(database_url, status, 7, tag="spring")
    put(database_url, status, 2, tag="summer")
    which = Selection(status=status if len(FROM[act]) > 1 else None, tag="spring")
    assert acting(engine).count(act, which) == Counted(7, exact=True)
    done = act_on_all(engine, act, which)
    assert (done.changed, done.left) == (7, {})
    left = {status.value: 2} | ({ENDS[act].value: 7} if act in ENDS else {})
    assert states(database_url) == left
    assert act_on_all(engine, act, which).changed == 0


def test_a_preview_says_if_there_are_more_than_it_counts(
    engine: Engine, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(database_url, Status.PENDING, 3)
    for cap, expected in ((2, Counted(2, exact=False)), (3, Counted(3, exact=True)), (4, Counted(3, exact=True))):
        monkeypatch.setattr(acts, "CAP", cap)
        assert acting(engine).count(Act.CANCEL, Selection()) == expected


@pytest.mark.parametrize("act", Act)
def test_a_filter_names_a_state_that_goes_with_the_act(act: Act, engine: Engine, database_url: str) -> None:
    for status in Status:
        put(database_url, status)
    for status in [*Status, None]:
        if status in FROM[act] or (status is None and len(FROM[act]) == 1):
            assert acting(engine).count(act, Selection(status=status)).many == 1
            continue
        before = states(database_url)
        for ask in (acting(engine).count, partial(acting(engine).on_all, ACTOR)):
            with pytest.raises(StateConflict, match=f"{act.value} is for reservations that are "):
                ask(act, Selection(status=status))
        assert states(database_url) == before


@pytest.mark.parametrize("act", Act)
def test_single_mails_are_changed_in_their_states_only(act: Act, engine: Engine, database_url: str) -> None:
    nobody = UUID(int=99)
    expected = Counter[Status]()
    for status in Status:
        (own,) = put(database_url, status)
        fits = status in FROM[act]
        first, second, again = act_on(engine, act, [nobody, own, own])
        assert first == ChangeResult(nobody, changed=False, status=None)
        assert second.changed is fits
        assert second.status is (ENDS.get(act, status) if fits else status)
        assert again == second
        if not (fits and act is Act.DELETE):
            expected[ENDS[act] if fits else status] += 1
    assert states(database_url) == {status.value: n for status, n in expected.items()}


@pytest.mark.parametrize("status", sorted(FROM[Act.REQUEUE]))
def test_what_has_expired_is_not_requeued_and_counts_as_left(status: Status, engine: Engine, database_url: str) -> None:
    past, future = (datetime.now(UTC) + timedelta(seconds=s) for s in (-5, 600))
    late = put(database_url, status, expires_at=past)
    put(database_url, status, expires_at=future)
    put(database_url, status)
    [answer] = act_on(engine, Act.REQUEUE, late)
    assert answer == ChangeResult(late[0], changed=False, status=status, overdue=True)
    done = act_on_all(engine, Act.REQUEUE, Selection(status=status))
    assert (done.changed, done.left) == (2, {status: 1})
    [pending] = act_on(engine, Act.CANCEL, late)
    assert pending.overdue is False


def test_what_is_requeued_begins_anew_and_keeps_a_time_that_is_still_to_come(engine: Engine, database_url: str) -> None:
    soon = datetime.now(UTC) + timedelta(hours=1)
    used = {"attempts": 4, "wire_at": datetime.now(UTC), "last_error": "452 full"}
    (failed,) = put(database_url, Status.FAILED, **used)
    (cancelled,) = put(database_url, Status.CANCELLED, scheduled_at=soon, retry_at=datetime.now(UTC))
    act_on(engine, Act.REQUEUE, [failed, cancelled])
    reservations = SqlReservations(engine)
    row = reservations.get(failed)
    assert row is not None
    assert (row.attempts, row.finished_at, row.wire_at, row.last_error) == (0, None, None, "452 full")
    assert abs((row.retry_at - datetime.now(UTC)).total_seconds()) < 60
    kept = reservations.get(cancelled)
    assert kept is not None
    assert (kept.retry_at, abs((kept.due_at - soon).total_seconds()) < 1) == (None, True)


def test_what_is_resolved_went_out_when_it_was_on_the_wire(engine: Engine, database_url: str) -> None:
    wire = datetime.now(UTC) - timedelta(hours=2)
    (known,) = put(database_url, Status.IN_DOUBT, wire_at=wire)
    (unknown,) = put(database_url, Status.IN_DOUBT)
    act_on(engine, Act.RESOLVE, [known, unknown])
    rows = [SqlReservations(engine).get(own) for own in (known, unknown)]
    ages = [(datetime.now(UTC) - row.sent_at).total_seconds() for row in rows if row]
    assert ages == [pytest.approx(7200, abs=60), pytest.approx(0, abs=60)]
    assert all(row and row.finished_at > wire + timedelta(hours=1) for row in rows)


def test_tries_go_with_their_mail(engine: Engine, database_url: str) -> None:
    own = put(database_url, Status.FAILED, 2)
    with engine.begin() as connection:
        rows = [{"reservation_id": i, "claim_no": 1, "outcome": "failed"} for i in own]
        connection.execute(sa.insert(mail_attempts), rows)
    act_on(engine, Act.DELETE, own[:1])
    with engine.begin() as connection:
        assert list(connection.scalars(sa.select(mail_attempts.c.reservation_id))) == own[1:]


def test_purge_takes_what_is_finished_and_old_up_to_its_portion(engine: Engine, database_url: str) -> None:
    for status in Status:
        put(database_url, status)
    with engine.begin() as connection:
        connection.execute(sa.update(mail_reservations).values(created_at=now(-100)))
        connection.execute(sa.update(mail_reservations).where(_r.status == "failed").values(finished_at=now(-50)))
        finished = [status.value for status in FINISHED - {Status.FAILED}]
        connection.execute(sa.update(mail_reservations).where(_r.status.in_(finished)).values(finished_at=now(-5)))
    purge = Purge(interventions=SqlInterventions(engine, steady(2)), files=SqlFiles(engine))
    assert (purge(60), purge(20)) == (0, 1)
    assert "failed" not in states(database_url)
    assert (purge(1, lambda deleted: deleted < 2), purge(1), purge(1)) == (2, 1, 0)
    assert states(database_url) == {"pending": 1, "sending": 1, "in_doubt": 1}


def test_what_a_run_failed_and_has_expired_since_is_left(engine: Engine, database_url: str) -> None:
    run_id = uuid4()
    late = put(database_url, Status.FAILED, expires_at=datetime.now(UTC) - timedelta(seconds=5))
    mails = [*late, *put(database_url, Status.FAILED), *put(database_url, Status.SENT)]
    put(database_url, Status.FAILED)
    with engine.begin() as connection:
        connection.execute(sa.insert(batch_runs).values(run_id=run_id, job="send-all", trigger="beat"))
        named = [
            {"run_id": run_id, "item_index": i, "reservation_id": own, "errors": []} for i, own in enumerate(mails)
        ]
        connection.execute(sa.insert(run_errors), named)
    done = act_on_all(engine, Act.REQUEUE, ErrorsOf(run_id))
    assert (done.changed, done.left) == (1, {Status.FAILED: 1, Status.SENT: 1})


def test_nothing_that_is_not_finished_is_deleted_whoever_asks(engine: Engine, database_url: str) -> None:
    mails = [own for status in Status for own in put(database_url, status)]
    answers = SqlInterventions(engine).apply(Act.DELETE, mails, set(Status))
    assert {answer.status for answer in answers if answer.changed} == FINISHED
    assert states(database_url) == {status.value: 1 for status in Status if status not in FINISHED}


@pytest.mark.parametrize("act", Act)
def test_each_mail_has_its_answer_however_many_statements_it_takes(
    act: Act, engine: Engine, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(interventions, "_CHUNK", 2)
    past = datetime.now(UTC) - timedelta(seconds=5)
    fitting = min(FROM[act])
    (other,) = put(database_url, Status.SENDING, expires_at=past)
    mails = [*put(database_url, fitting, 2), other, *put(database_url, fitting, 2)]
    answers = act_on(engine, act, mails)
    assert [answer.reservation_id for answer in answers] == mails
    assert [answer.changed for answer in answers] == [True, True, False, True, True]
    assert (answers[2].status, answers[2].overdue) == (Status.SENDING, False)
