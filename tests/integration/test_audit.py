"""What operators do is noted alike by whichever door they come, and the note is kept while the database is busy."""

from __future__ import annotations

import json
import logging
import sqlite3
import threading
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa
from support.api import Api
from support.backlogs import database, reserve, states
from support.pages import Browser

from mailbatch.application.acting import audit
from mailbatch.application.acting.audit import Audit
from mailbatch.domain.act import FROM, TO, Act
from mailbatch.domain.errors import StateConflict
from mailbatch.domain.reservation import FINISHED, Status
from mailbatch.infrastructure.db import engine as engines
from mailbatch.infrastructure.db.audit_log import SqlAuditLog
from mailbatch.infrastructure.db.tables import mail_reservations, operator_actions
from mailbatch.infrastructure.system.clock import SystemClock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

NOBODY = UUID(int=0)


@pytest.fixture
def say(
    say: Callable[..., tuple[int, str, str]], sqlite_url: str, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> Any:
    for name, value in {"DATABASE_URL": sqlite_url, "REDIS_URL": redis_url, "SENDER": "s@example.com"}.items():
        monkeypatch.setenv(f"MAILBATCH_{name}", value)
    return say


@pytest.fixture
def api(sqlite_url: str, redis_url: str) -> Iterator[Api]:
    with Api({"database_url": sqlite_url, "redis_url": redis_url}) as api:
        yield api


@pytest.fixture
def doors(say: Any, api: Api) -> dict[str, Callable[[Act, UUID], bool]]:
    """Each door does an act to one mail, and returns whether it said that this is done."""
    browser = Browser(api.client)

    def cli(act: Act, own: UUID) -> bool:
        return bool(say(act.value, str(own), *(["--sent"] if act is Act.RESOLVE else []))[0] == 0)

    def http(act: Act, own: UUID) -> bool:
        path = f"/api/reservations/{own}"
        verb = ("DELETE", path) if act is Act.DELETE else ("POST", f"{path}/{act.value}")
        return api.client.request(*verb).status_code == 200

    def console(act: Act, own: UUID) -> bool:
        (csrf,) = {form.fields["csrf"] for form in browser.open("/").forms if "csrf" in form.fields}
        done = api.client.post(f"/reservations/{own}/{act.value}", data={"csrf": csrf})
        if done.status_code == 404:
            return False
        return 'class="notice good"' in browser.open(done.headers["Location"]).html

    return {"cli": cli, "http": http, "console": console}


def put(url: str, status: Status) -> UUID:
    """A mail in that state."""
    own = uuid4()
    more: dict[str, Any] = {"finished_at": datetime.now(UTC)} if status in FINISHED else {}
    if status is Status.SENDING:
        more = {"lease_until": datetime.now(UTC) + timedelta(minutes=1)}
    reserve(url, 1, id=own, status=status.value, **more)
    return own


def noted_of(url: str) -> list[tuple[str, str, int | None, Any]]:
    """What is noted, newest first: the door, the outcome, how many were changed, and of what."""
    with database(url) as connection:
        o = operator_actions.c
        rows = connection.execute(sa.select(operator_actions).order_by(o.at.desc(), o.id.desc()))
        return [(row.actor.partition(":")[0], row.outcome, row.affected, row.target) for row in rows]


@pytest.mark.parametrize("act", Act)
def test_every_door_notes_the_same(act: Act, doors: dict[str, Callable[[Act, UUID], bool]], sqlite_url: str) -> None:
    """It is done if the mail was changed, or stands already where the act would bring it; otherwise it is refused."""
    for status in [*Status, None]:
        changes = status in FROM[act]
        done = changes or (status is not None and status is TO.get(act))
        for door, do in doors.items():
            own = put(sqlite_url, status) if status else NOBODY
            assert do(act, own) is done, (status, door)
            by, *came = noted_of(sqlite_url)[0]
            assert came == ["done" if done else "refused", int(changes), {"id": str(own)}], (status, door)
            assert by == {"http": "api"}.get(door, door)


def test_of_several_some_are_done(say: Any, sqlite_url: str) -> None:
    mails = [put(sqlite_url, status) for status in (Status.PENDING, Status.CANCELLED, Status.SENT)]
    assert say("cancel", *map(str, mails))[0] == 1
    assert noted_of(sqlite_url) == [("cli", "done in part", 1, {"ids": [str(own) for own in mails], "of": 3})]


# --- a database that is busy ---


class Busy:
    """Another program that writes to the database, and lets go after so many refusals."""

    def __init__(self, path: str) -> None:
        self._other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self.refusals = 0

    def take(self) -> None:
        self._other.execute("BEGIN IMMEDIATE")

    def discard(self) -> None:
        self._other.execute("ROLLBACK")
        self._other.close()


@pytest.fixture
def busy(sqlite_url: str) -> Busy:
    return Busy(sqlite_url.removeprefix("sqlite:///"))


@contextmanager
def actions_of(url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Audit]:
    """Notes in a database that waits for nobody."""
    monkeypatch.setattr(engines, "BUSY_TIMEOUT", 0.05)
    engine = engines.connect(url)
    try:
        yield Audit(SqlAuditLog(engine), SystemClock())
    finally:
        engine.dispose()


class FreedByRefusals(logging.Handler):
    """Lets the database go when a note was refused for the third time."""

    def __init__(self, busy: Busy) -> None:
        super().__init__()
        self._busy = busy

    def emit(self, record: logging.LogRecord) -> None:
        assert "kept, and tried again" in record.getMessage()
        self._busy.refusals += 1
        if self._busy.refusals == 3:
            self._busy.discard()


@pytest.fixture
def freed(busy: Busy) -> Iterator[None]:
    handler = FreedByRefusals(busy)
    audit.log.addHandler(handler)
    yield
    audit.log.removeHandler(handler)


@pytest.mark.usefixtures("freed")
def test_the_end_of_an_act_is_noted_although_the_database_was_busy_then(
    sqlite_url: str, busy: Busy, monkeypatch: pytest.MonkeyPatch
) -> None:
    with actions_of(sqlite_url, monkeypatch) as actions, actions.around("cli:ann", "cancel", {"tag": "x"}) as entry:
        entry.affected = 7
        busy.take()
    assert busy.refusals >= 3
    assert noted_of(sqlite_url) == [("cli", "done", 7, {"tag": "x"})]


@pytest.mark.usefixtures("freed")
def test_so_is_what_was_refused(sqlite_url: str, busy: Busy, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        with actions_of(sqlite_url, monkeypatch) as actions, actions.around("cli:ann", "cancel", {"tag": "x"}):
            busy.take()
            raise StateConflict("no")

    with pytest.raises(StateConflict):
        refuse()
    assert noted_of(sqlite_url) == [("cli", "refused", None, {"tag": "x"})]


@pytest.mark.usefixtures("freed")
def test_so_is_what_is_noted_in_one_word(sqlite_url: str, busy: Busy, monkeypatch: pytest.MonkeyPatch) -> None:
    busy.take()
    with actions_of(sqlite_url, monkeypatch) as actions:
        actions.record("cli:ann", "run-now", {"where": "here"}, "begun")
    assert noted_of(sqlite_url) == [("cli", "begun", None, {"where": "here"})]


def test_a_note_that_is_never_taken_says_begun_and_the_log_says_the_rest(
    sqlite_url: str, busy: Busy, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(audit, "KEPT_FOR", 0.2)
    with actions_of(sqlite_url, monkeypatch) as actions, actions.around("cli:ann", "cancel", {"tag": "x"}):
        busy.take()
    busy.discard()
    assert noted_of(sqlite_url) == [("cli", "begun", None, {"tag": "x"})]
    (line,) = [r.getMessage() for r in caplog.records if r.levelno == logging.ERROR]
    assert "the list of actions says `begun` of cancel {'tag': 'x'} by cli:ann, which is done: database" in line


@pytest.mark.parametrize("command", [("cancel", "{own}"), ("cancel", "--tag", "x"), ("pause",), ("resume",)])
def test_a_command_that_cannot_be_noted_does_nothing_and_says_so(
    command: tuple[str, ...], say: Any, sqlite_url: str, busy: Busy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "BUSY_TIMEOUT", 0.05)
    own = put(sqlite_url, Status.PENDING)
    busy.take()
    code, _, err = say(*(word.format(own=own) for word in command))
    busy.discard()
    assert code == 1
    assert "database is locked" in err
    assert states(sqlite_url) == {"pending": 1}
    assert json.loads(say("status", "--json")[1])["paused"] is False


def test_a_command_says_on_stderr_what_could_not_be_noted(
    say: Any, sqlite_url: str, busy: Busy, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(engines, "BUSY_TIMEOUT", 0.05)
    monkeypatch.setattr(audit, "KEPT_FOR", 0.2)
    end = SqlAuditLog.end

    def taken_meanwhile(self: SqlAuditLog, *words: Any) -> None:
        if threading.current_thread() is threading.main_thread() and not (tmp_path / "taken").exists():
            (tmp_path / "taken").touch()
            busy.take()
        end(self, *words)

    monkeypatch.setattr(SqlAuditLog, "end", taken_meanwhile)
    own = put(sqlite_url, Status.PENDING)
    assert say("cancel", str(own))[0] == 0
    busy.discard()
    with database(sqlite_url) as connection:
        assert connection.scalar(sa.select(mail_reservations.c.status)) == "cancelled"
    assert noted_of(sqlite_url)[0][1] == "begun"
