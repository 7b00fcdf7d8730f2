"""The port ``AuditLog``: what operators did, newest first."""

from __future__ import annotations

from datetime import timedelta

import pytest
from support.fake_audit_log import FakeAuditLog
from support.table_worlds import empty

from mailbatch.domain.rows import ActionPlace
from mailbatch.infrastructure.db.audit_log import SqlAuditLog


@pytest.fixture(params=["fake", "sqlite", "postgresql"])
def log(request: pytest.FixtureRequest) -> FakeAuditLog | SqlAuditLog:
    if request.param == "fake":
        return FakeAuditLog()
    engine = request.getfixturevalue({"sqlite": "kept_sqlite", "postgresql": "kept_postgres"}[request.param])
    empty(engine)
    return SqlAuditLog(engine)


def test_an_act_that_was_done_is_listed_with_its_actor_target_and_outcome(log):
    log.record("cli:ann", "cancel", {"id": "1", "tag": "ü"}, 3, "done")
    [row] = log.list(9)
    assert (row.actor, row.action, row.target) == ("cli:ann", "cancel", {"id": "1", "tag": "ü"})
    assert (row.affected, row.outcome) == (3, "done")


def test_an_act_that_begins_says_so_until_it_ends(log):
    entry = log.begin("api:operate", "requeue", {"status": "failed"})
    [row] = log.list(9)
    assert (row.id, row.affected, row.outcome) == (entry, None, "begun")
    log.end(entry, {"status": "failed", "run": "r"}, 12, "done")
    [row] = log.list(9)
    assert (row.target, row.affected, row.outcome) == ({"status": "failed", "run": "r"}, 12, "done")


def test_entries_are_listed_newest_first_and_pages_go_on_behind_a_place(log):
    for number in range(5):
        log.record("cli:ann", f"act {number}", {}, None, "done")
    seen, before = [], None
    while page := log.list(2, before):
        seen += [row.action for row in page]
        before = ActionPlace(at=page[-1].at, id=page[-1].id)
    assert seen == [f"act {number}" for number in (4, 3, 2, 1, 0)]
    first = log.list(1)[0]
    assert log.list(9, ActionPlace(at=first.at - timedelta(days=1), id=first.id)) == []


def test_what_no_database_can_store_is_written_as_an_escape(log):
    if isinstance(log, FakeAuditLog):
        pytest.skip("memory stores any text")
    log.record("cli:ann", "cancel", {"tag": "a\x00b"}, None, "refused: \x00")
    [row] = log.list(9)
    assert (row.target, row.outcome) == ({"tag": "a\\x00b"}, "refused: \\x00")
