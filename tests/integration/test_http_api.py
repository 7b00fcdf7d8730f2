"""The HTTP API on both databases: what it does, and how it refuses."""

from __future__ import annotations

import base64
import csv
import json
import re
import socket
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa
from support.api import MAIL, Api
from support.waiting import wait_until

from mailbatch.domain.errors import StoreError
from mailbatch.domain.reservation import Status
from mailbatch.domain.run import Counts, ItemError, Trigger
from mailbatch.domain.selection import Selection
from mailbatch.infrastructure.db.audit_log import SqlAuditLog
from mailbatch.infrastructure.db.idempotency import LEFT, SqlIdempotencyKeys
from mailbatch.infrastructure.db.interventions import SqlInterventions
from mailbatch.infrastructure.db.priorities import levels
from mailbatch.infrastructure.db.selecting import Scan
from mailbatch.infrastructure.db.tables import (
    api_answers,
    batch_runs,
    mail_attempts,
    mail_reservations,
    operator_actions,
)
from mailbatch.infrastructure.redis.client import connect
from mailbatch.interfaces.http.app import create_app

_TABLES = (mail_attempts, mail_reservations, operator_actions, api_answers, batch_runs)


@pytest.fixture(scope="module")
def served(module_database_url, redis_server):
    """One server for all tests here."""
    with Api(
        {"database_url": module_database_url, "redis_url": redis_server.url, "smtp_url": "smtp://127.0.0.1:1"}
    ) as api:
        yield api


@pytest.fixture
def api(served, redis_url):
    """The server, with nothing in its database, nor in Redis."""
    with served.parts.engine.begin() as connection:
        for table in _TABLES:
            connection.execute(sa.delete(table))
    return served


def put(api, ids, **values):
    """Bring reservations into a state that only a run would bring them into."""
    with api.parts.engine.begin() as connection:
        statement = sa.update(mail_reservations).where(mail_reservations.c.id.in_([UUID(i) for i in ids]))
        connection.execute(statement.values(values))


def ids_of(page):
    return [item["id"] for item in page["items"]]


# --- reserving ---


def test_a_mail_reserved_over_http_reads_as_it_was_sent(api):
    given = MAIL | {
        "recipients": ["ann@example.com", "Bob <bob@example.com>"],
        "context": {"n": 1, "name": "Zoë"},
        "scheduled_at": "2030-12-24T09:00:00+09:00",
        "priority": 3,
        "tag": "orders",
    }
    stored = api.post("/api/reservations", given, 201)
    row = api.get(f"/api/reservations/{stored['id']}")
    assert stored["new"]
    assert row["recipients"] == "ann@example.com, Bob <bob@example.com>"
    assert (row["context"], row["priority"], row["tag"]) == ({"n": 1, "name": "Zoë"}, 3, "orders")
    assert row["scheduled_at"] == "2030-12-24T00:00:00Z"
    assert (row["status"], row["mail_attempts"]) == ("pending", [])


def test_an_answer_is_json_whatever_number_somebody_inserted(api):
    with api.parts.engine.begin() as connection:
        connection.exec_driver_sql(
            "INSERT INTO mail_reservations (recipients, subject, body_text, context) "
            "VALUES ('a@example.com', 's', 't', '{\"n\": [1e999]}')"
        )
    (mail,) = ids_of(api.get("/api/reservations"))
    answer = api.client.get(f"/api/reservations/{mail}")
    assert json.loads(answer.text, parse_constant=pytest.fail)["context"]["n"] in ([10**999], ["1e999"])


def test_a_key_used_before_gives_the_mail_that_it_stored(api):
    first = api.post("/api/reservations", MAIL | {"idempotency_key": "order-1"}, 201)
    again = api.post("/api/reservations", MAIL | {"idempotency_key": "order-1"}, 200)
    assert again == {"id": first["id"], "new": False}
    problem = api.post("/api/reservations", MAIL | {"idempotency_key": "order-1", "subject": "Other"}, 409)
    assert "differs in subject" in problem["detail"]


def test_each_of_many_is_answered_in_its_place_and_a_bad_one_keeps_no_other_out(api):
    mails = [MAIL, {"recipients": "nobody"}, MAIL | {"idempotency_key": "k"}, 5, MAIL | {"idempotency_key": "k"}]
    answer = api.post("/api/reservations", mails)
    assert (answer["reserved"], answer["known"], answer["refused"]) == (2, 1, 2)
    ids = [result.get("id") for result in answer["results"]]
    assert ids[2] == ids[4] != ids[0]
    assert any("recipients" in problem for problem in answer["results"][1]["problems"])
    assert len(api.get("/api/reservations")["items"]) == 2


def test_more_than_five_hundred_at_once_are_refused_whole(api):
    assert len(api.reserve(500)) == 500
    problem = api.post("/api/reservations", [MAIL] * 501, 422)
    assert "501" in problem["detail"]
    assert api.post("/api/reservations", [], 422)["status"] == 422


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("subject", "a\r\nBcc: eve@example.com", "line break"),
        ("subject", "a\x00", "NUL"),
        ("body_text", "\ud800", "surrogate"),
        ("priority", 2**31, "32-bit"),
        ("scheduled_at", "2030-01-01T00:00:00", "time zone"),
        ("scheduled_at", "99999-01-01T00:00:00Z", "no time"),
        ("id", "4711", "no UUID"),
        ("status", "sent", "mailbatch's own"),
        ("headers", {"Date": "now"}, "set by mailbatch"),
        ("headers", {"References": "<ü@example.com>"}, "is no message id"),
        ("headers", {"X-Tag": ["a", 5]}, "nor a list of texts"),
        ("recipients", "a@example.com; b@example.com", "put commas between addresses"),
        ("sender", "o\u2019brien@example.com", "write o'brien@example.com"),
    ],
)
def test_what_could_never_be_sent_is_refused_by_its_field(api, field, value, said):
    body = json.dumps(MAIL | {field: value})
    answer = api.client.post("/api/reservations", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 422
    assert any(problem.startswith(field) and said in problem for problem in answer.json()["problems"])


def test_a_list_as_the_value_of_a_header_is_kept(api):
    headers = {"X-Tag": ["a", "b"], "List-Unsubscribe": "https://bücher.example/ä"}
    made = api.post("/api/reservations", MAIL | {"headers": headers}, 201)
    assert api.get(f"/api/reservations/{made['id']}")["headers"] == headers


# --- Idempotency-Key ---


def test_the_same_request_with_its_key_is_answered_as_before_and_does_nothing_more(api):
    first = api.client.post("/api/reservations", json=[MAIL, MAIL], headers={"Idempotency-Key": "k-1"})
    again = api.client.post("/api/reservations", json=[MAIL, MAIL], headers={"Idempotency-Key": "k-1"})
    assert (again.status_code, again.text) == (first.status_code, first.text)
    assert again.headers["Idempotency-Replayed"] == "true"
    assert "Idempotency-Replayed" not in first.headers
    assert len(api.get("/api/reservations")["items"]) == 2


def test_a_key_for_another_request_is_refused(api):
    api.post("/api/reservations", MAIL, 201, **{"Idempotency-Key": "k-2"})
    problem = api.post("/api/reservations", MAIL | {"subject": "Other"}, 422, **{"Idempotency-Key": "k-2"})
    assert "another request" in problem["detail"]


def test_a_refused_request_may_be_mended_under_its_key_by_asking_again(api):
    api.post("/api/reservations", {"recipients": "nobody"}, 422, **{"Idempotency-Key": "k-3"})
    api.post("/api/reservations", MAIL, 201, **{"Idempotency-Key": "k-3"})


def test_while_a_request_is_worked_on_its_key_waits_and_what_was_left_may_begin_anew(api):
    api.post("/api/reservations", MAIL, 201, **{"Idempotency-Key": "k-4"})
    with api.parts.engine.begin() as connection:
        connection.execute(sa.update(api_answers).values(status=None, answer=None))
    api.post("/api/reservations", MAIL, 409, **{"Idempotency-Key": "k-4"})
    with api.parts.engine.begin() as connection:
        left = datetime.now(UTC) - timedelta(seconds=LEFT + 5)
        connection.execute(sa.update(api_answers).values(created_at=left))
    api.post("/api/reservations", MAIL, 201, **{"Idempotency-Key": "k-4"})


def test_reserving_needs_no_second_transaction_for_its_answer(api, monkeypatch):
    class CutOff(SqlIdempotencyKeys):
        def finish(self, key, owner, status, answer):
            raise StoreError("the process died here", transient=True)

    monkeypatch.setattr(api.parts.stores, "idempotency_keys", CutOff(api.parts.engine))
    for mails, status in ((MAIL, 201), ([MAIL, MAIL], 200)):
        key = {"Idempotency-Key": f"k-{status}"}
        first = api.post("/api/reservations", mails, status, **key)
        assert api.post("/api/reservations", mails, status, **key) == first


def test_an_answer_is_remembered_only_with_what_it_tells_of(api):
    api.parts.stores.idempotency_keys.begin("k-5", "owner", "digest")

    def cut_off():
        with api.parts.stores.reservations.intake() as intake:
            intake.remember("k-5", "owner", 201, "{}")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        cut_off()
    with api.parts.engine.connect() as connection:
        assert connection.execute(sa.select(api_answers.c.status)).scalar_one() is None


def test_who_was_slow_and_taken_for_left_reserves_nothing_beside_its_twin(api, monkeypatch):
    twins = []

    class Slow(SqlIdempotencyKeys):
        def begin(self, *asked):
            begun = super().begin(*asked)
            if not twins:
                twins.append(None)
                with self.engine.begin() as connection:
                    left = datetime.now(UTC) - timedelta(seconds=LEFT + 5)
                    connection.execute(sa.update(api_answers).values(created_at=left))
                twins[0] = api.post("/api/reservations", [MAIL, MAIL], 200, **key_6)
            return begun

    key_6 = {"Idempotency-Key": "k-6"}
    monkeypatch.setattr(api.parts.stores, "idempotency_keys", Slow(api.parts.engine))
    problem = api.post("/api/reservations", [MAIL, MAIL], 409, **key_6)
    assert "another with its key" in problem["detail"]
    assert len(api.get("/api/reservations")["items"]) == 2
    assert api.post("/api/reservations", [MAIL, MAIL], 200, **key_6) == twins[0], "nor did it touch the twin's answer"


# --- lists ---


def test_pages_show_each_reservation_once_the_newest_first(api):
    ids = api.reserve(7)
    put(api, ids[:3], status="failed", finished_at=datetime.now(UTC))
    seen, cursor = [], None
    while True:
        page = api.get("/api/reservations", limit=2, **({"cursor": cursor} if cursor else {}))
        seen += ids_of(page)
        if (cursor := page["next"]) is None:
            break
    assert sorted(seen) == sorted(ids)
    assert seen == ids_of(api.get("/api/reservations", limit=50))


def test_a_page_of_a_search_that_ends_early_may_be_short_and_the_next_goes_on(api, monkeypatch):
    monkeypatch.setattr("mailbatch.interfaces.http.request_params.PATIENCE", 0.0)
    monkeypatch.setattr("mailbatch.infrastructure.db.searching.FIRST", 3)
    wanted, *_ = [api.reserve(1, recipients=to)[0] for to in ("zoe@example.com", *["ann@example.com"] * 6)]
    pages = [api.get("/api/reservations", to="zoe@")]
    while pages[-1]["next"]:
        pages.append(api.get("/api/reservations", to="zoe@", cursor=pages[-1]["next"]))
    assert [ids_of(page) for page in pages] == [[], [], [wanted]]


def test_a_timed_list_goes_by_when_mails_were_finished(api):
    ids = api.reserve(6)
    now = datetime.now(UTC)
    for minutes, reservation_id in enumerate(ids):
        # The first made is the last finished.
        put(api, [reservation_id], status="sent", finished_at=now - timedelta(minutes=10 * minutes + 5))
    seen, cursor = [], None
    while True:
        page = api.get("/api/reservations", since="40m", limit=3, **({"cursor": cursor} if cursor else {}))
        seen += ids_of(page)
        if (cursor := page["next"]) is None:
            break
    assert seen == ids[:4]
    until = (now - timedelta(minutes=20)).isoformat()
    assert ids_of(api.get("/api/reservations", since="40m", until=until)) == ids[2:4]


def test_filters_tell_mails_apart(api):
    now = datetime.now(UTC)
    soft, hard, odd, other = api.reserve(4, tag="spring")
    put(api, [soft], status="failed", reply_code=451, finished_at=now)
    put(api, [hard], status="failed", reply_code=550, finished_at=now)
    put(api, [odd], status="failed", finished_at=now)
    put(api, [other], tag="autumn", recipients="100%_bob@example.com")
    assert ids_of(api.get("/api/reservations", status="failed", reply="4xx")) == [soft]
    assert ids_of(api.get("/api/reservations", reply="550")) == [hard]
    assert ids_of(api.get("/api/reservations", status="failed", reply="none")) == [odd]
    assert ids_of(api.get("/api/reservations", tag="autumn")) == [other]
    assert ids_of(api.get("/api/reservations", to="0%_B")) == [other]
    assert set(ids_of(api.get("/api/reservations", status="failed", since="1h"))) == {soft, hard, odd}


def test_a_run_lists_what_it_had_in_hand(api):
    run_id = a_run(api)
    sent, put_off, other, doubtful = api.reserve(4)
    put(api, [sent], status="sent", run_id=run_id, finished_at=datetime.now(UTC))
    put(api, [put_off], run_id=run_id)
    put(api, [other], status="sent", run_id=uuid4(), finished_at=datetime.now(UTC))
    put(api, [doubtful], status="in_doubt", run_id=run_id)
    api.parts.stores.runs.errors(run_id, [ItemError(2, UUID(put_off), ("451 not now",))])
    assert set(ids_of(api.get("/api/reservations", run=str(run_id)))) == {sent, put_off, doubtful}


def plan_of(api, statement):
    """How the database means to run ``statement``, if it need not sort or read a table whole."""
    with api.parts.engine.connect() as connection:
        dialect = connection.dialect
        compiled = statement.compile(dialect=dialect, compile_kwargs={"render_postcompile": True})
        if dialect.name == "postgresql":
            connection.exec_driver_sql(
                "; ".join(f"SET LOCAL enable_{way} = off" for way in ("seqscan", "sort", "bitmapscan"))
            )
            explain = "EXPLAIN (COSTS off) "
        else:
            explain = "EXPLAIN QUERY PLAN "
        given = compiled.construct_params()
        given = {n: v if (b := compiled._bind_processors.get(n)) is None else b(v) for n, v in given.items()}
        parameters = given if dialect.name == "postgresql" else tuple(given[n] for n in compiled.positiontup)
        return "\n".join(row[-1] for row in connection.exec_driver_sql(explain + str(compiled), parameters))


def test_priorities_are_looked_up_in_the_index_of_what_is_due(api):
    told = plan_of(api, sa.select(levels("level").c.priority))
    assert "ix_mail_reservations_due" in told
    assert "ix_mail_reservations_status" not in told


@pytest.mark.parametrize(
    "which",
    [
        Selection(),
        Selection(status=Status.FAILED),
        Selection(tag="spring"),
        Selection(to="ann"),
        Selection(since=datetime(2026, 1, 1, tzinfo=UTC)),
        Selection(status=Status.SENT, since=datetime(2026, 1, 1, tzinfo=UTC), until=datetime(2026, 1, 2, tzinfo=UTC)),
        Selection(run_id=UUID(int=1)),
    ],
)
def test_no_list_reads_or_sorts_the_whole_table(api, which):
    scan = Scan(which, None, after=(datetime.now(UTC), UUID(int=1)), rows=50)
    told = plan_of(api, scan.page((mail_reservations.c.id,), 50))
    assert "mail_reservations" in told
    if api.parts.engine.dialect.name == "postgresql":
        assert "Seq Scan on mail_reservations" not in told
        assert which.run_id or not re.search(r"->\s+Sort\b", told)
    else:
        assert "SCAN mail_reservations" not in told


@pytest.mark.parametrize(
    "query",
    [
        {"cursor": "junk"},
        {"cursor": "WzFd"},
        {"cursor": "éé"},
        {"status": "gone"},
        {"reply": "999"},
        {"since": "yesterday"},
        {"since": "999999w"},
        {"run": "4711"},
        {"tag": "a\x00"},
        {"to": "a\nb"},
        {"limit": "0"},
        {"limit": "501"},
    ],
)
def test_a_filter_that_means_nothing_is_refused_in_a_line(api, query):
    problem = api.get("/api/reservations", 422, **query)
    assert next(iter(query)) in problem["detail"]


@pytest.mark.parametrize(
    ("method", "path", "line"),
    [
        ("GET", "/api/reservations?sttaus=failed", "sttaus: is no parameter of this request; did you mean status?"),
        ("GET", "/api/runs?limt=1&jbo=x", "limt: is no parameter of this request; did you mean limit?; jbo: is no"),
        ("GET", "/api/status?name=purge", "name: is no parameter of this request; it takes job"),
        ("POST", "/api/pause?jbo=purge", "jbo: is no parameter of this request; did you mean job?"),
        ("POST", "/api/bulk/cancel?tag=x", "tag: is no parameter of this request; it takes none"),
        ("POST", "/api/reservations?tag=x", "a query goes only with message/rfc822; write the columns into the JSON"),
    ],
)
def test_a_misspelt_parameter_widens_no_list_and_no_act(api, method, path, line):
    body = {"filter": {"status": "pending"}} if "bulk" in path else MAIL if "reservations" in path else None
    answer = api.client.request(method, path, json=body)
    assert answer.status_code == 422
    assert answer.json()["detail"].startswith(line)
    assert api.get("/api/status")["pause"] == "none"


def test_a_misspelt_key_of_a_request_is_named(api):
    assert api.post("/api/pause", {"al": True}, 422)["detail"] == "al: is no key of this request; see /docs"
    tga = {"filter": {"tga": "x"}}
    assert api.post("/api/bulk/cancel", tga, 422)["detail"] == "filter.tga: is no key of this request; see /docs"


def cursor(*values):
    """A cursor as somebody may forge it."""
    return base64.urlsafe_b64encode(json.dumps(values).encode()).decode().rstrip("=")


GOOD = {"id": str(uuid4()), "run_id": str(uuid4()), "status": "sent", "after": 1}
PARTS_OF_CURSORS = (
    *(None, True, False, 0, -1, 1.5, 10**30, -(10**30), "", "x", "1", "²", "sent", "\ud800", "a\x00b", [], [1], {}),
    *({"hex": 5}, {"hex": "zz"}, {"hex": "ff"}, {"stored": None}, {"stored": True}, {"stored": []}, {"stored": {}}),
    *(
        {"stored": 2**70},
        {"stored": "infinity"},
        {"stored": "x"},
        {"stored": 5},
        {"stored": float("inf")},
        {"other": 1},
    ),
    *({"stored": "x", "hex": "ff"}, {"stored": "2026-02-30 00:00:00+00"}, {"stored": "\ud800"}, {"stored": "a\x00"}),
    *("2026-01-01", "2026-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", "0001-01-01T00:00:00+23:59"),
    *(GOOD["id"], "2026-12-01T00:00:00Z"),
)


@pytest.mark.parametrize(
    ("path", "names"),
    [
        ("/api/reservations", ("id", "status", "created_at", "finished_at")),
        ("/api/reservations?since=1w&until=1s", ("id", "status", "created_at", "finished_at")),
        ("/api/runs", ("started_at", "run_id")),
        ("/api/actions", ("at", "id")),
        ("/api/runs/{run}/errors", ("after",)),
    ],
)
def test_a_forged_cursor_is_a_place_or_is_refused_in_a_line(api, path, names):
    path = path.format(run=a_run(api))
    api.reserve(1)
    forged = [cursor(), cursor(*[None] * len(names)), cursor(*range(len(names) + 1))]
    forged += ["e30", "NQ", "bnVsbA", "ImFiIg", "W1tbW1tbW1tbW1tb", "====", "W251bGxd"]
    place = [GOOD.get(name, "2026-12-01T00:00:00Z") for name in names]
    for nth in range(len(names)):
        forged += [cursor(*place[:nth], value, *place[nth + 1 :]) for value in PARTS_OF_CURSORS]
    refused = 0
    for one in forged:
        answer = api.client.get(path, params={**dict(api.client.build_request("GET", path).url.params), "cursor": one})
        assert answer.status_code in {200, 422}, (one, answer.text)
        assert answer.status_code == 200 or answer.json()["detail"].startswith("cursor: "), (one, answer.text)
        refused += answer.status_code == 422
    assert refused > len(forged) / 2
    assert api.get(path, cursor=cursor(*place))["next"] is None


def test_a_forged_cursor_breaks_no_page_either(api):
    for path in ("/reservations", "/runs"):
        for one in (
            "W251bGxd",
            cursor(None, None),
            cursor(None, None, None, None),
            cursor({}, {}),
            cursor([], [], [], []),
        ):
            assert api.client.get(path, params={"cursor": one}).status_code == 422, (path, one)


# --- acting on one ---


def test_the_life_of_a_mail_under_an_operators_hands(api):
    (mail,) = api.reserve()
    address = f"/api/reservations/{mail}"
    assert api.post(f"{address}/cancel") == {"id": mail, "done": True, "status": "cancelled", "answer": "cancelled"}
    assert api.post(f"{address}/cancel")["answer"] == "is cancelled already"
    assert api.post(f"{address}/restore")["status"] == "pending"
    put(api, [mail], status="failed")
    assert "it is failed" in api.post(f"{address}/restore", status=409)["detail"]
    assert api.post(f"{address}/requeue")["status"] == "pending"
    put(api, [mail], status="in_doubt")
    assert api.post(f"{address}/resolve")["status"] == "sent"
    assert "too late" in api.post(f"{address}/cancel", status=409)["detail"]
    assert api.client.delete(address).json()["answer"] == "deleted"
    for verb in ("cancel", "restore", "requeue", "resolve"):
        api.post(f"{address}/{verb}", status=404)
    assert api.client.delete(address).status_code == 404


def test_only_finished_mails_are_deleted(api):
    (mail,) = api.reserve()
    problem = api.client.delete(f"/api/reservations/{mail}")
    assert (problem.status_code, "it is pending" in problem.json()["detail"]) == (409, True)
    api.get(f"/api/reservations/{mail}")


def test_a_mail_explains_itself(api):
    (mail,) = api.reserve()
    told = api.get(f"/api/reservations/{mail}/explain")
    assert (told["id"], told["status"]) == (mail, "pending")
    assert told["sentence"]
    api.get(f"/api/reservations/{uuid4()}/explain", 404)


# --- acting on many ---


def test_a_preview_does_nothing_and_its_token_does_it_once_asked(api):
    spring, autumn = api.reserve(3, tag="spring"), api.reserve(2, tag="autumn")
    wanted = {"filter": {"tag": "spring"}}
    preview = api.post("/api/bulk/cancel", wanted)
    assert (preview["affects"], preview["exact"]) == (3, True)
    assert api.get("/api/reservations", status="cancelled")["items"] == []
    assert api.post("/api/bulk/cancel", wanted | {"confirm": preview["confirm"]}) == {"changed": 3, "left": {}}
    assert sorted(ids_of(api.get("/api/reservations", status="cancelled"))) == sorted(spring)
    assert sorted(ids_of(api.get("/api/reservations", status="pending"))) == sorted(autumn)


def test_a_token_confirms_nothing_but_what_was_previewed(api):
    api.reserve(2, tag="spring")
    preview = api.post("/api/bulk/cancel", {"filter": {"tag": "spring"}})
    for act, which in (("cancel", {}), ("cancel", {"tag": "autumn"}), ("delete", {"tag": "spring"})):
        api.post(f"/api/bulk/{act}", {"filter": which, "confirm": preview["confirm"]}, 422)
    api.post("/api/bulk/cancel", {"filter": {"tag": "spring"}, "confirm": preview["confirm"] + "x"}, 422)
    assert len(api.get("/api/reservations", status="pending")["items"]) == 2


def test_the_failed_ones_refused_with_4xx_are_sent_again_and_only_those(api):
    soft, hard = api.reserve(400) + api.reserve(200), api.reserve(5)
    for start in range(0, 600, 200):
        put(api, soft[start : start + 200], status="failed", reply_code=451, finished_at=datetime.now(UTC))
    put(api, hard, status="failed", reply_code=550, finished_at=datetime.now(UTC))
    wanted = {"filter": {"status": "failed", "reply": "4xx", "since": "1h"}}
    preview = api.post("/api/bulk/requeue", wanted)
    assert preview["affects"] == 600
    assert api.post("/api/bulk/requeue", wanted | {"confirm": preview["confirm"]})["changed"] == 600
    assert sorted(ids_of(api.get("/api/reservations", status="failed"))) == sorted(hard)


def test_what_is_overdue_is_left_and_counted(api):
    (mail,) = api.reserve()
    put(api, [mail], status="failed", expires_at=datetime.now(UTC) - timedelta(hours=1))
    wanted = {"filter": {"status": "failed"}}
    preview = api.post("/api/bulk/requeue", wanted)
    assert api.post("/api/bulk/requeue", wanted | {"confirm": preview["confirm"]}) == {
        "changed": 0,
        "left": {"failed": 1},
    }


def test_an_act_that_does_not_go_with_the_state_is_refused(api):
    assert "must say which" in api.post("/api/bulk/requeue", {"filter": {}}, 409)["detail"]
    assert "not sent" in api.post("/api/bulk/cancel", {"filter": {"status": "sent"}}, 409)["detail"]
    api.post("/api/bulk/burn", {"filter": {}}, 422)


# --- runs ---


def a_run(api, *, job="send-all"):
    run_id = uuid4()
    api.parts.stores.runs.open(run_id, job, Trigger.BEAT, 256)
    return run_id


def test_runs_are_listed_and_shown_with_their_errors(api):
    ids = [str(a_run(api)) for _ in range(3)]
    api.parts.stores.runs.beat(UUID(ids[2]), Counts(sent=2, failed=1))
    (mail,) = api.reserve()
    api.parts.stores.runs.errors(UUID(ids[2]), [ItemError(n, UUID(mail), (f"550 no {n}",)) for n in range(1, 6)])
    with api.parts.engine.begin() as connection:
        connection.execute(
            sa.insert(mail_attempts).values(
                reservation_id=UUID(mail),
                claim_no=1,
                run_id=UUID(ids[2]),
                outcome="failed",
                reply_code=550,
                enhanced_code="5.1.1",
                reply_text="550 5.1.1 no such user",
            )
        )
    page = api.get("/api/runs", limit=2)
    rest = api.get("/api/runs", limit=2, cursor=page["next"])
    assert sorted(r["run_id"] for r in page["items"] + rest["items"]) == sorted(ids)
    run = api.get(f"/api/runs/{ids[2]}")
    assert (run["sent"], run["failed"], run["bound"]) == (2, 1, 256)
    assert run["error_groups"] == [
        {"outcome": "failed", "reply_code": 550, "enhanced_code": "5.1.1", "count": 1}
        | {"example": "550 5.1.1 no such user"}
    ]
    assert [e["index"] for e in run["errors"]] == [1, 2, 3, 4, 5]
    first = api.get(f"/api/runs/{ids[2]}/errors", limit=2)
    second = api.get(f"/api/runs/{ids[2]}/errors", limit=2, cursor=first["next"])
    assert [e["index"] for e in first["items"] + second["items"]] == [1, 2, 3, 4]
    api.get(f"/api/runs/{uuid4()}", 404)


def test_a_spreadsheet_runs_nothing_of_an_exported_error(api):
    run_id = a_run(api)
    harmful = ('=HYPERLINK("http://evil")', "+1", "-1", "@SUM(A1)", " =1", "\uff1d1", "550 no;=1", '550 no; "=1"')
    texts = (*harmful, '550 said "no", really', "550 5.1.1 no; a-b = c")
    api.parts.stores.runs.errors(run_id, [ItemError(n, uuid4(), (text,)) for n, text in enumerate(texts, 1)])
    answer = api.client.get(f"/api/runs/{run_id}/errors.csv")
    cells = [row[2] for row in list(csv.reader(answer.text.splitlines()))[1:]]
    assert answer.headers["Content-Type"].startswith("text/csv")
    assert "attachment" in answer.headers["Content-Disposition"]
    # In half of Europe a semicolon ends a cell.
    assert all(re.match("'|550 no;'", cell) for cell in cells[: len(harmful)])
    assert cells[len(harmful) :] == list(texts[len(harmful) :])


def test_run_now_names_the_run_that_is_running(api):
    run_id = a_run(api)
    lock = api.parts.lock("send-all")
    assert lock.acquire()
    problem = api.post("/api/run-now", status=409)
    assert problem["run_id"] == str(run_id)
    assert api.get("/api/is-running") == {"running": True, "run_id": str(run_id), "paused": False, "pause": "none"}
    lock.release()
    assert api.get("/api/is-running")["running"] is True, "its heartbeat says so, as on every screen"
    with api.parts.engine.begin() as connection:
        connection.execute(sa.update(batch_runs).values(outcome="completed", finished_at=datetime.now(UTC)))
    assert api.get("/api/is-running") == {"running": False, "run_id": None, "paused": False, "pause": "none"}


def test_without_a_worker_nothing_is_queued(api, redis_url, monkeypatch):
    monkeypatch.setenv("MAILBATCH_REDIS_URL", redis_url)
    problem = api.client.post("/api/run-now")
    assert (problem.status_code, "no worker answered" in problem.json()["detail"]) == (503, True)
    with connect(redis_url) as client:
        assert client.llen("mailbatch:mailbatch") == client.llen("mailbatch") == 0


# --- operating ---


def test_a_template_name_of_any_length_is_refused_without_a_path_of_this_machine(api, tmp_path):
    with Api({**api.settings, "template_dir": tmp_path}) as other:
        for name in ("a" * 5_000, "a" * 256, "\ud800" * 5_000, "a/" * 2_500):
            body = json.dumps({"template": name})
            answer = other.client.post("/api/preview", content=body, headers={"Content-Type": "application/json"})
            assert answer.status_code == 422, answer.text
            assert "is no template name" in answer.json()["detail"]
            assert str(tmp_path) not in answer.text
            assert len(answer.text) < 1_000


def test_an_act_on_something_with_a_strange_name_is_noted_all_the_same(api):
    for strange in ("\ud800", "a\x00b"):
        answer = api.client.post(
            "/api/test-send",
            content=json.dumps({"to": "me@example.com", "template": strange}),
            headers={"Content-Type": "application/json"},
        )
        assert answer.status_code == 422, answer.text
        assert api.get("/api/actions", limit=1)["items"][0]["action"] == "test-send"


def test_a_pause_is_seen_and_ends(api):
    assert api.post("/api/pause") == {"paused": "ticks", "pause": "ticks"}
    assert api.post("/api/pause", {"all": True}) == {"paused": "all", "pause": "all"}
    assert (standing := api.get("/api/status"))["paused"] == standing["pause"] == "all"
    assert api.post("/api/resume") == {"paused": False, "pause": "none"}
    assert api.get("/api/is-running")["paused"] is False


def test_any_job_is_paused_and_looked_at_by_its_name(api):
    name = "billing: täglich"
    assert api.client.post("/api/pause", params={"job": name}, json={"all": True}).json()["paused"] == "all"
    for address in ("/api/status", "/api/is-running"):
        assert api.get(address, job=name)["paused"] == "all"
        assert api.get(address)["paused"] is False
    assert api.client.post("/api/resume", params={"job": name}).json()["paused"] is False
    assert api.get("/api/runs", job=name)["items"] == []
    for wrong in ("", "a\nb", "x" * 201):
        api.get("/api/status", 422, job=wrong)
    assert {act["target"]["job"] for act in api.get("/api/actions")["items"]} == {name}


def test_one_run_is_stopped_by_its_id(api):
    run_id = a_run(api)
    told = {"run_id": str(run_id), "job": "send-all", "stopping": True, "alive": True}
    for _ in range(2):
        assert api.post(f"/api/runs/{run_id}/stop", status=202) == told
    assert api.parts.stores.runs.stop_request(run_id) == "revoked"
    with api.parts.engine.begin() as connection:
        connection.execute(sa.update(batch_runs).values(outcome="revoked"))
    assert "has ended: revoked" in api.post(f"/api/runs/{run_id}/stop", status=409)["detail"]
    api.post(f"/api/runs/{uuid4()}/stop", status=404)
    assert api.get(f"/api/runs/{run_id}")["job"] == "send-all"
    outcomes = [act["outcome"] for act in api.get("/api/actions")["items"] if act["action"] == "stop"]
    assert outcomes == ["refused", "refused", "done", "done"]


def test_the_status_is_told_without_redis_too_and_names_it(api, private_redis):
    with Api({**api.settings, "redis_url": private_redis.url}) as other:
        assert other.get("/api/status")["down"] == []
        private_redis.kill()
        api.reserve(2)
        status = other.get("/api/status")
        assert (status["down"], status["due"], status["running"], status["progress"]) == (["redis"], 2, False, None)
        own = str(a_run(api))
        status = other.get("/api/status")
        assert (status["running"], status["progress"]["run_id"]) == (True, own), "its heartbeat says so"
        assert other.get("/api/is-running") == {"running": True, "run_id": own, "paused": False, "pause": "none"}
        # It takes reservations all the while, so a balancer should let it.
        other.post("/api/reservations", MAIL, 201)
        assert other.get("/readyz", 503) == {"ok": False, "database": True, "redis": False}
        assert other.get("/readyz", of="database") == {"ok": True, "database": True}


def test_the_status_counts_what_is_due(api):
    api.reserve(3)
    status = api.get("/api/status")
    assert (status["due"], status["reservations"]["pending"], status["exact"]) == (3, 3, True)
    assert (status["running"], status["last_run"]) == (False, None)


def test_every_act_is_noted_without_contents_or_addresses(api):
    (mail,) = api.reserve(recipients="canary@example.com", subject="canary subject")
    api.post(f"/api/reservations/{mail}/cancel")
    api.post(f"/api/reservations/{mail}/resolve", status=409)
    wanted = {"filter": {"to": "canary@example.com"}}
    api.post("/api/bulk/restore", wanted | {"confirm": api.post("/api/bulk/restore", wanted)["confirm"]})
    api.post("/api/pause")
    api.post("/api/resume")
    api.post("/api/test-send", MAIL | {"to": "canary@example.com"} | {"recipients": None}, 422)
    api.post("/api/test-send", {"to": "canary@example.com", "subject": "canary", "body_text": "canary"})
    noted = api.get("/api/actions", limit=3)
    noted["items"] += api.get("/api/actions", cursor=noted["next"])["items"]
    told = [(item["action"], item["outcome"], item["affected"]) for item in reversed(noted["items"])]
    assert told == [
        ("cancel", "done", 1),
        ("resolve", "refused", 0),
        ("restore", "done", 1),
        ("pause", "done", None),
        ("resume", "done", None),
        ("test-send", "relay_fault", 1),
    ]
    assert {item["actor"] for item in noted["items"]} == {"api:operate"}
    assert "canary" not in json.dumps(noted)


def test_an_act_on_many_that_breaks_off_is_noted_with_what_it_was(api, monkeypatch):
    api.reserve(500, tag="spring")
    api.reserve(1, tag="spring")

    class Away(SqlInterventions):
        calls = 0

        def apply(self, act, ids, states):
            Away.calls += 1
            if Away.calls > 1:
                raise StoreError("the database went away", transient=True)
            return super().apply(act, ids, states)

    monkeypatch.setattr(api.parts.stores, "interventions", Away(api.parts.engine))
    wanted = {"filter": {"tag": "spring"}}
    wanted["confirm"] = api.post("/api/bulk/cancel", wanted)["confirm"]
    api.post("/api/bulk/cancel", wanted, 503)
    assert api.get("/api/reservations", status="cancelled", limit=1)["items"], "a portion is done"
    (noted,) = api.get("/api/actions")["items"]
    assert (noted["action"], noted["outcome"], noted["target"]) == ("cancel", "broken off", {"tag": "spring"})


def test_an_act_is_noted_before_it_is_done(api, monkeypatch):
    (mail,) = api.reserve()
    seen = []

    class Looking(SqlInterventions):
        def apply(self, act, ids, states):
            seen.append([(item["action"], item["outcome"]) for item in api.get("/api/actions")["items"]])
            return super().apply(act, ids, states)

    monkeypatch.setattr(api.parts.stores, "interventions", Looking(api.parts.engine))
    api.post(f"/api/reservations/{mail}/cancel")
    assert seen == [[("cancel", "begun")]]
    assert [item["outcome"] for item in api.get("/api/actions")["items"]] == ["done"]


def test_nothing_is_done_that_cannot_be_noted(api, monkeypatch):
    (mail,) = api.reserve()

    class Full(SqlAuditLog):
        def begin(self, actor, action, target):
            raise StoreError("disk full", transient=True)

    monkeypatch.setattr(api.parts.stores, "audit_log", Full(api.parts.engine))
    api.post(f"/api/reservations/{mail}/cancel", status=503)
    assert api.get(f"/api/reservations/{mail}")["status"] == "pending"


def test_a_preview_shows_a_mail_as_it_would_be_or_every_line_that_is_wrong(api):
    mail = {"subject": "Hi {{ name }}", "body_text": "{{ n }}", "body_html": "<b>{{ name }}</b>"}
    shown = api.post("/api/preview", mail | {"context": {"name": "<Ann>", "n": 1}})
    body = {"subject": "Hi <Ann>", "text": "1", "html": "<b>&lt;Ann&gt;</b>"}
    assert shown == {**body, "locale": None, "served_in": []}
    problem = api.post("/api/preview", mail | {"context": {"name": "Ann"}}, 422)
    assert problem["problems"] == ["body_text line 1: 'n' is undefined"]
    (stored,) = api.reserve(subject="Hi {{ name }}", context={"name": "Bob"})
    assert api.get(f"/api/reservations/{stored}/preview")["subject"] == "Hi Bob"
    api.get(f"/api/reservations/{uuid4()}/preview", 404)


def test_a_relay_that_is_away_is_told_as_such(api):
    tried = api.post("/api/test-send", {"to": "me@example.com", "subject": "Hi", "body_text": "Hi"})
    assert tried["outcome"] == "relay_fault"
    assert "refused" in tried["reply"]


# --- refusing ---


@pytest.mark.parametrize(
    ("method", "path", "headers", "body", "status"),
    [
        ("GET", "/api/nowhere", {}, b"", 404),
        ("GET", "/api/reservations/4711", {}, b"", 422),
        ("GET", f"/api/reservations/{UUID(int=0)}", {}, b"", 404),
        ("PUT", "/api/reservations", {}, b"", 405),
        ("POST", "/api/reservations", {"Content-Type": "application/json"}, b"{", 400),
        ("POST", "/api/reservations", {"Content-Type": "application/json"}, b'{"a": NaN}', 400),
        ("POST", "/api/reservations", {"Content-Type": "application/json"}, b"[" * 100_000, 400),
        ("POST", "/api/reservations", {"Content-Type": "application/json"}, b"\xff\xfe\x00", 400),
        ("POST", "/api/reservations", {"Content-Type": "text/plain"}, b"{}", 415),
        ("POST", "/api/pause", {"Content-Type": "application/json"}, b'{"all": 5}', 422),
        ("POST", "/api/bulk/cancel", {"Content-Type": "application/json"}, b"[]", 422),
    ],
)
def test_every_refusal_is_a_problem_with_the_id_of_its_request(api, method, path, headers, body, status):
    answer = api.client.request(method, path, headers={"X-Request-ID": "night-1", **headers}, content=body)
    problem = answer.json()
    assert (answer.status_code, problem["status"]) == (status, status), problem
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.headers["X-Request-ID"] == problem["request_id"] == "night-1"
    assert problem["detail"]
    assert "Traceback" not in answer.text


def test_a_method_that_does_not_fit_is_told_which_do(api):
    assert api.client.put("/api/reservations").headers["Allow"] == "GET, POST"
    assert api.client.post(f"/api/reservations/{uuid4()}").headers["Allow"] == "DELETE, GET"


def test_a_body_beyond_the_limit_is_refused_whether_it_says_its_length_or_not(api):
    size = 2 * api.parts.settings.max_message_bytes + 1
    with socket.create_connection(("localhost", api.port), 10) as raw:
        raw.sendall(b"POST /api/reservations HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % size)
        assert raw.recv(65_536).startswith(b"HTTP/1.1 413 ")

    def stream():
        for _ in range(size // 2**20 + 2):
            yield b" " * 2**20

    headers = {"Content-Type": "application/json"}
    answer = api.client.post("/api/reservations", content=stream(), headers=headers)
    assert (answer.status_code, answer.json()["status"]) == (413, 413)


def test_a_database_that_is_away_is_a_503_and_a_fault_of_ours_a_500_without_its_text(api, caplog):
    name = "canary"

    class Broken:
        settings = api.parts.settings

        @property
        def reports(self):
            raise ZeroDivisionError(f"{name}@example.com")

    with Api(api.settings) as other:
        other.app.state.parts = Broken()
        answer = other.client.get("/api/runs")
        assert answer.status_code == 500
        assert "canary" not in answer.text
        assert "Traceback" not in answer.text
        assert answer.json()["request_id"] in caplog.text
        assert "canary@" not in caplog.text
    with Api({**api.settings, "database_url": "postgresql://nobody@127.0.0.1:1/none"}) as away:
        problem = away.get("/api/runs", 503)
        assert "127.0.0.1:1" in problem["detail"]
        assert away.client.get("/readyz").json() == {"ok": False, "database": False, "redis": True}
        assert away.client.get("/healthz").status_code == 200


def test_a_server_with_all_it_needs_is_ready(api):
    assert api.get("/readyz") == {"ok": True, "database": True, "redis": True}


def test_nothing_in_a_page_comes_from_elsewhere(api):
    for path in ("/docs", "/openapi.json", "/api/status"):
        answer = api.client.get(path)
        policy = answer.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
    page = api.client.get("/docs").text
    assert "<script" not in page
    assert "style=" not in page
    assert "//" not in page.replace("://localhost", "")
    for path in create_app(api.parts).openapi()["paths"]:
        assert path in page


def test_an_error_of_the_database_does_not_repeat_what_it_was_given(api):
    values = {"recipients": "canary@example.com", "subject": "canary", "body_text": "canary"}
    with pytest.raises(sa.exc.IntegrityError) as caught, api.parts.engine.begin() as connection:
        connection.execute(sa.insert(mail_reservations).values(values | {"status": "nonsense"}))
    # A job that breaks on such an error writes its text into its report, the log and Flower. (PostgreSQL's own words
    # are another matter: our errors quote the first line of them.)
    assert "canary" not in re.sub("DETAIL:.*", "", str(caught.value))


def test_the_query_of_a_request_is_not_logged(api, caplog):
    with caplog.at_level("INFO"):
        api.get("/api/reservations", to="canary@example.com")
        wait_until(lambda: "GET /api/reservations 200" in caplog.text, 5, "the line of the request")
    assert not [r for r in caplog.records if r.name.startswith("mailbatch") and "canary" in r.getMessage()]
