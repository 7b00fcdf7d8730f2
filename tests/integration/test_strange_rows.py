"""One row's fault is its own: whatever others store, in whichever column, the other rows are sent and shown."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections import Counter
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from support.api import MAIL, Api
from support.backlogs import database
from support.sink import Sink
from support.strange import Doors, fill, insert, quoted, reservation, stranger

from mailbatch import client
from mailbatch.batch.send_all import send_all
from mailbatch.bootstrap import Parts
from mailbatch.config import Settings
from mailbatch.domain.errors import KeyConflict
from mailbatch.domain.reservation import Status
from mailbatch.domain.run import RunOutcome, Trigger
from mailbatch.infrastructure.db.engine import connect
from mailbatch.infrastructure.db.lanes import SqlLanes
from mailbatch.infrastructure.db.runs import SqlRuns
from mailbatch.infrastructure.db.tables import batch_runs, mail_reservations

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mailbatch.domain.rows import ReservationRow

_r = mail_reservations.c


@pytest.fixture(scope="module")
def sink(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sink]:
    with Sink(tmp_path_factory.mktemp("sink")) as sink:
        yield sink


def add_good(connection: Any) -> dict[str, str]:
    """Mails that are as they should be: id and recipient."""
    good = {}
    for n, priority in enumerate((0, 5, -5, 2**31 - 1, -(2**31), 0)):
        row = reservation(Status.PENDING, recipients=quoted(f"{uuid4()}@example.org"), priority=str(priority))
        assert insert(connection, "mail_reservations", {**row, "tag": f"'good {n}'"})
        good[row["id"].strip("'")] = row["recipients"].strip("'")
    return good


def settings_of(url: str, redis_url: str, sink: Sink) -> dict[str, Any]:
    return {"database_url": url, "redis_url": redis_url, "smtp_url": sink.url, "sender": "shop@example.com"}


def opened(url: str, redis_url: str, sink: Sink) -> Doors:
    return Doors(settings_of(url, redis_url, sink))


def taken(sink: Sink) -> Counter[str]:
    """How often each recipient got a mail."""
    return Counter(to for mail in sink.accepted() for to in mail.recipients)


def status_of(url: str, ids: Any) -> list[str]:
    with database(url) as connection:
        rows = connection.execute(sa.select(_r.id, _r.status).where(_r.id.in_(list(ids))))
        return [row.status for row in rows]


def run_twice(doors: Doors) -> None:
    for _ in range(2):
        report = send_all(doors.parts, lock=False)()
        assert report.outcome == "completed", report.errors[:3]


def test_no_row_stops_hides_or_multiplies_others(database_url, redis_url, sink):
    engine = stranger(database_url)
    with engine.begin() as connection:
        ids, run_id = fill(connection, engine.dialect.name)
        good = add_good(connection)
    with opened(database_url, redis_url, sink) as doors:
        doors.everywhere()
        listed = Counter(doors.listed("/api/reservations?limit=500"))
        assert listed == Counter([*ids, *good])
        run_twice(doors)
        got = taken(sink)
        assert [got[to] for to in good.values()] == [1] * len(good)
        assert status_of(database_url, good) == ["sent"] * len(good)
        with database(database_url) as connection:
            due = sa.and_(_r.status == "pending", _r.due_at <= sa.func.current_timestamp(), _r.expires_at.is_(None))
            assert connection.execute(sa.select(_r.id, _r.priority).where(due)).all() == []
        doors.everywhere()
        timed = Counter(doors.listed("/api/reservations?limit=500&since=20000d"))
        assert set(timed) >= set(good)
        assert max(timed.values()) == 1
        for path in ("/api/runs?limit=100", "/api/actions?limit=100"):
            doors.listed(path)
        for one in ids[:: len(ids) // 12]:
            doors.at(one)
        doors.at_run(run_id)
        for act in ("cancel", "requeue", "delete"):
            doors.say(act, *ids[:: max(1, len(ids) // 200)], allowed=(0, 1))
        doors.say("requeue", "--status", "failed", allowed=(0, 1))
        doors.say("purge", "--older-than", "1")
    assert doors.faults == []


@pytest.fixture
def parts(database_url: str, redis_url: str, sink: Sink) -> Iterator[Parts]:
    made = Parts(Settings(**settings_of(database_url, redis_url, sink)))
    yield made
    made.close()


def sent_beside(parts: Parts, url: str, **columns: str) -> ReservationRow:
    """Reserve a mail with ``columns`` (as SQL) beside one that is as it should be; run; the row of the former."""
    engine = stranger(url)
    strange, good = {**reservation(Status.PENDING), **columns}, reservation(Status.PENDING)
    with engine.begin() as connection:
        assert insert(connection, "mail_reservations", strange)
        assert insert(connection, "mail_reservations", good)
    report = send_all(parts, lock=False)()
    assert report.outcome == "completed"
    assert status_of(url, [good["id"].strip("'")]) == ["sent"]
    row = parts.stores.reservations.get(UUID(strange["id"].strip("'")))
    assert row is not None
    return row


@pytest.mark.parametrize(
    "verdicts",
    ['{"bob@example.org": {}}', '{"bob@example.org": "accepted"}', '{"bob@example.org": {"kind": 5}}', '{"a": [1]}'],
)
def test_verdicts_of_another_shape_are_none(parts, database_url, verdicts):
    assert sent_beside(parts, database_url, verdicts=quoted(verdicts)).status == "sent"


def test_who_is_said_to_have_taken_it_does_not_get_it_again(parts, database_url, sink):
    to = f"{uuid4()}@example.org"
    verdicts = f'{{"{to}": {{"kind": "accepted", "code": {10**30}, "text": null}}}}'
    row = sent_beside(parts, database_url, recipients=quoted(f"{to}, bob@example.org"), verdicts=quoted(verdicts))
    assert (row.status, taken(sink)[to]) == ("sent", 0)


def test_behind_the_largest_claim_number_comes_one(parts, database_url):
    row = sent_beside(parts, database_url, claim_no=str(2**31 - 1))
    assert (row.status, row.claim_no) == ("sent", 1)


def test_a_full_count_of_attempts_stays_full(parts, database_url):
    row = sent_beside(parts, database_url, attempts=str(2**31 - 1))
    assert (row.status, row.attempts) == ("sent", 2**31 - 1)


def test_a_lease_that_ended_with_a_full_count_is_judged(parts, database_url):
    row = sent_beside(
        parts,
        database_url,
        status="'sending'",
        lease_until="'2020-01-01 00:00:00.000'",
        wire_at="'2020-01-01 00:00:00.000'",
        attempts=str(2**31 - 1),
        claim_no=str(2**31 - 1),
    )
    assert (row.status, row.attempts) == ("in_doubt", 2**31 - 1)


@pytest.mark.parametrize("columns", [{"sent_at": "'infinity'"}, {"wire_at": "'-infinity'"}])
def test_times_that_no_calendar_has_are_read(postgres_url, redis_url, sink, columns):
    ended = reservation(Status.SENT, **columns)
    with stranger(postgres_url).begin() as connection:
        assert insert(connection, "mail_reservations", ended)
    with opened(postgres_url, redis_url, sink) as doors:
        doors.everywhere()
        doors.at(ended["id"].strip("'"))
        (when,) = [doors.get(f"/api/reservations/{ended['id'].strip(chr(39))}")[name] for name in columns]
    assert doors.faults == []
    assert when == ("9999-12-30T23:59:59.999000Z" if "sent_at" in columns else "1970-01-01T00:00:00Z")


@pytest.mark.parametrize("priority", [2**62, 2**63 - 1, -(2**63), -(2**31), 2**31 - 1])
def test_every_priority_has_its_turn(sqlite_url, redis_url, sink, priority):
    with contextlib.closing(Parts(Settings(**settings_of(sqlite_url, redis_url, sink)))) as parts:
        row = sent_beside(parts, sqlite_url, priority=str(priority))
        assert (row.status, row.priority) == ("sent", priority)


def test_text_that_was_bound_as_bytes_is_text(sqlite_url, redis_url, sink):
    to = f"{uuid4()}@example.org"
    columns = {"recipients": f"CAST('{to}' AS BLOB)", "subject": "CAST('Grüße' AS BLOB)", "tag": "x'ff'"}
    with contextlib.closing(Parts(Settings(**settings_of(sqlite_url, redis_url, sink)))) as parts:
        row = sent_beside(parts, sqlite_url, **columns)
    assert (row.status, row.subject, taken(sink)[to]) == ("sent", "Grüße", 1)


@pytest.mark.parametrize("value", ["1e400", "-1e999"])
def test_a_number_that_nobody_can_read_stands_there_as_it_was_written(sqlite_url, redis_url, sink, value):
    with contextlib.closing(Parts(Settings(**settings_of(sqlite_url, redis_url, sink)))) as parts:
        row = sent_beside(parts, sqlite_url, body_text="'{{ n }}'", context=f"""'{{"n": {value}}}'""")
    assert (row.status, row.context) == ("sent", {"n": value})


def test_lists_go_on_behind_times_in_another_form(sqlite_url, redis_url, sink):
    """A list sorts by what is stored: where that is no time of ours, it goes on behind what is stored all the same."""
    forms = ["'2020-06-01T09:00:00Z'", "'2020-06-01'", "x'ff'", "5", "1e300", "'yesterday'", "''"]
    with stranger(sqlite_url).begin() as connection:
        for n, form in enumerate(forms * 3):
            row = reservation(Status.SENT, finished_at=form)
            assert insert(connection, "mail_reservations", row)
            good = reservation(Status.SENT, finished_at=f"'2020-06-01 {n:02}:00:00.000'")
            assert insert(connection, "mail_reservations", good)
    with opened(sqlite_url, redis_url, sink) as doors:
        expected = len(doors.listed("/api/reservations?limit=500&since=20000d"))
        listed = doors.listed("/api/reservations?limit=1&since=20000d")
    assert doors.faults == []
    assert len(listed) == len(set(listed)) == expected
    assert expected > 3 * len(forms)


# --- whatever there is ---

_LEAF = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
_FLAT = _LEAF | st.lists(_LEAF, max_size=3) | st.dictionaries(st.text(max_size=10), _LEAF, max_size=3)
_JSON = _FLAT | st.lists(_FLAT, max_size=3) | st.dictionaries(st.text(max_size=10), _FLAT, max_size=3)
_ANY = st.one_of(
    st.binary(max_size=40).map(lambda raw: f"x'{raw.hex()}'"),
    st.binary(max_size=40).map(lambda raw: f"CAST(x'{raw.hex()}' AS TEXT)"),
    st.integers(-(2**63), 2**63 - 1).map(str),
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=40).map(quoted),
    st.datetimes().map(lambda when: quoted(when.isoformat(" ", "milliseconds"))),
    _JSON.map(lambda value: quoted(json.dumps(value))),
    _JSON.map(lambda value: quoted(json.dumps({"ann@example.org": value}))),
)
_COLUMNS = [column.name for column in mail_reservations.c if column.computed is None and column.name != "id"]


@settings(
    max_examples=4,
    deadline=None,
    derandomize=True,
    # Not shrunk: each example is two runs and thirty pages.
    phases=[Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    rows=st.lists(
        st.tuples(st.sampled_from(Status), st.dictionaries(st.sampled_from(_COLUMNS), _ANY, min_size=1, max_size=3)),
        min_size=40,
        max_size=40,
    )
)
def test_whatever_else_sqlite_keeps(sqlite_template, tmp_path, redis_url, sink, rows):
    path = tmp_path / f"{uuid4()}.db"
    shutil.copy(sqlite_template, path)
    url = f"sqlite:///{path}"
    with stranger(url).begin() as connection:
        strange = [{**reservation(status), **columns} for status, columns in rows]
        ids = [row["id"].strip("'") for row in strange if insert(connection, "mail_reservations", row)]
        good = add_good(connection)
    with opened(url, redis_url, sink) as doors:
        run_twice(doors)
        doors.everywhere()
        for one in ids[:4]:
            doors.at(one)
    assert doors.faults == []
    got = taken(sink)
    assert [got[to] for to in good.values()] == [1] * len(good)


# --- rows that somebody asks for by name ---


@pytest.mark.parametrize("value", ["CAST(x'ff61' AS TEXT)", "x'ff61'"])
@pytest.mark.parametrize("column", ["recipients", "subject", "body_text", "cc", "tag"])
def test_a_key_whose_mail_is_no_text_is_a_conflict_for_an_application(sqlite_url, column, value):
    engine = stranger(sqlite_url)
    row = {**reservation(Status.PENDING), "idempotency_key": "'k'", column: value}
    with engine.begin() as connection:
        assert insert(connection, "mail_reservations", row)
    plain = sa.create_engine(sqlite_url, poolclass=sa.NullPool)
    said = {"recipients": "to", "body_text": "text"}.get(column, column)
    with plain.begin() as connection, pytest.raises(KeyConflict, match=rf"differs in .*\b{said}\b"):
        client.reserve(connection, to="ann@example.org", subject="s", text="t", key="k")


@pytest.mark.parametrize("columns", ["status = 'x'", "status = 99", "status = 2000", "answer = NULL"])
def test_an_answer_of_another_shape_is_none(sqlite_url, columns):
    with Api({"database_url": sqlite_url, "redis_url": "redis://127.0.0.1:1"}) as api:
        api.post("/api/reservations", MAIL, 201, **{"Idempotency-Key": "order-1"})
        with stranger(sqlite_url).begin() as connection:
            connection.exec_driver_sql(f"UPDATE api_answers SET {columns}")  # noqa: S608
        asked = api.client.post("/api/reservations", json=MAIL, headers={"Idempotency-Key": "order-1"})
        assert asked.status_code in {409, 422}
        assert len(api.get("/api/reservations")["items"]) == 1


def test_a_reason_to_stop_that_is_none_stops(database_url):
    engine = connect(database_url)
    run_id = uuid4()
    SqlRuns(engine).open(run_id, "send-all", Trigger.MANUAL, 1)
    with database(database_url) as connection:
        connection.execute(sa.update(batch_runs).values(stop="please"))
    assert SqlLanes(engine).must_stop(run_id, 10) is RunOutcome.REVOKED
    engine.dispose()


def test_a_subject_of_megabytes_holds_up_no_plan(parts, database_url):
    """The standard library takes minutes to read such a head back."""
    with stranger(database_url).begin() as connection:
        row = reservation(Status.PENDING, subject=quoted("Hello " * 400_000))
        assert insert(connection, "mail_reservations", row)
    (planned,) = parts.operating.plan_run(None, 10)
    assert (planned.errors, planned.subject) == ((), "Hello " * 400_000)
