"""Any job by its name, and one run by its id: pause, resume, status, runs and stop at the command line."""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
import sqlalchemy as sa
from support.backlogs import database, reserve, runs, states
from support.relay import Relay
from support.waiting import wait_until

from mailbatch.batch.job import Job, make_job
from mailbatch.batch.send_all import send_all
from mailbatch.batch.stop.stop_token import CombinedStopToken
from mailbatch.bootstrap import Parts
from mailbatch.config import Settings
from mailbatch.domain.run import Counts, Pause, RunOutcome, Trigger
from mailbatch.infrastructure.db.tables import (
    batch_runs,
    batch_schedule,
    mail_attempts,
    mail_reservations,
    operator_actions,
)
from mailbatch.infrastructure.db.types import now

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from mailbatch.application.ports.runs import Run

OWN = "remind-overdue"
NAMES = [OWN, "billing: täglich 'erinnern'"]


@pytest.fixture
def say(say: Callable[..., tuple[int, str, str]], database_url: str, redis_url: str, monkeypatch: Any) -> Any:
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("MAILBATCH_DATABASE_URL", database_url)
    monkeypatch.setenv("MAILBATCH_REDIS_URL", redis_url)
    return say


@pytest.fixture
def parts(database_url: str, redis_url: str) -> Iterator[Parts]:
    made = Parts(Settings(database_url=database_url, redis_url=redis_url))
    yield made
    made.close()


def seen(say: Any, *args: str) -> Any:
    code, out, err = say(*args, "--json")
    assert code == 0, err
    return json.loads(out)


def a_job(parts: Parts, work: Callable[[Run], None] = lambda run: run.count(Counts(sent=2)), name: str = OWN) -> Job:
    return make_job(parts, name, work)


class Working:
    """A run of a job of one's own, in a thread; it works until it is told to stop."""

    def __init__(self, parts: Parts, name: str = OWN) -> None:
        self.run: Run | None = None
        self.report: Any = None
        self._thread = threading.Thread(target=self._begin, args=(parts, name), daemon=True)
        self._thread.start()
        wait_until(lambda: self.run is not None, 10, "the run has begun")

    def _begin(self, parts: Parts, name: str) -> None:
        self.report = a_job(parts, self._work, name)(Trigger.BEAT)

    def _work(self, run: Run) -> None:
        self.run = run
        wait_until(lambda: run.stop.reason() is not None, 30, "the run is told to stop")

    def ended(self) -> Any:
        self._thread.join(30)
        return self.report


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_job_of_any_name_is_paused_and_let_go_on_and_no_other_is(say, parts, name):
    a_job(parts, name=name)()
    for args, paused in ((("pause",), "ticks"), (("pause", "--all"), "all"), (("resume",), False)):
        assert say(*args, "--job", name)[0] == 0
        assert seen(say, "status", "--job", name)["paused"] == paused
        assert seen(say, "status")["paused"] is False
        ticks = a_job(parts, name=name)(Trigger.BEAT)
        assert (ticks.outcome is RunOutcome.PAUSED) == bool(paused)
    assert {run["outcome"] for run in seen(say, "runs", "--job", name)} == {"completed", "paused"}
    assert [act["target"]["job"] for act in seen(say, "actions")] == [name] * 3


def test_pause_all_ends_a_run_of_a_job_of_ones_own_and_says_how_to_go_on(say, parts):
    working = Working(parts)
    out = say("pause", "--all", "--job", OWN)[1]
    assert f"`mailbatch resume --job {OWN}`" in out
    assert working.ended().outcome is RunOutcome.PAUSED
    assert f"`mailbatch resume --job {OWN}` ends it" in say("status", "--job", OWN)[1]
    assert a_job(parts)(Trigger.MANUAL).outcome is RunOutcome.PAUSED


def test_the_status_of_another_job_tells_of_that_job_and_not_of_mail(say, parts, database_url):
    reserve(database_url, 3)
    with database(database_url) as connection:
        late = {"last_tick_at": now(-9000), "next_tick_at": now(60)}
        connection.execute(sa.insert(batch_schedule).values(name=OWN, **late))
    a_job(parts)(Trigger.BEAT)
    told = dict(line.split(maxsplit=1) for line in say("status", "--job", OWN)[1].splitlines())
    assert set(told) == {"running", "next", "last", "watch"}
    assert told["last"].endswith("completed: 2 sent")
    found = seen(say, "status", "--job", OWN)
    assert (found["last_run"]["sent"], found["warnings"], found["unanswered_seconds"]) == (2, [], None)
    assert "due" in say("status")[1]


def test_the_status_of_another_job_says_that_its_run_died(say, database_url):
    with database(database_url) as connection:
        row = {"run_id": uuid4(), "job": OWN, "trigger": "beat"}
        connection.execute(sa.insert(batch_runs).values(**row, started_at=now(-60), heartbeat_at=now(-50)))
    assert [found["name"] for found in seen(say, "status", "--job", OWN)["warnings"]] == ["run_died"]
    assert [found["name"] for found in seen(say, "status")["warnings"]] == []


@pytest.mark.parametrize("command", ["pause", "resume", "status", "runs"])
@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_job_that_nothing_is_known_of_costs_a_hint_and_is_done_all_the_same(say, parts, command):
    a_job(parts)()
    code, _, err = say(command, "--job", "remind-overdeu")
    assert (code, err) == (0, f"mailbatch: no job remind-overdeu has run or is planned; did you mean {OWN}?\n")
    for known in (OWN, "send-all", "purge"):
        assert say(command, "--job", known)[2] == ""


@pytest.mark.parametrize("name", ["", "a\nb", "\x1b[2J", "x" * 201])
@pytest.mark.parametrize("command", ["pause", "resume", "status", "runs"])
@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_what_can_be_no_jobs_name_is_refused_in_a_line(say, command, name):
    code, out, err = say(command, "--job", name)
    assert (code, out) == (2, "")
    [line] = err.splitlines()
    assert "a job's name is 1 to 200 printable characters" in line


def test_the_jobs_are_those_that_ran_are_planned_or_paused(parts, database_url):
    for name in ("b", "a", "b", "c"):
        a_job(parts, name=name)()
    parts.stores.pauses.set("d", Pause.ALL)
    with database(database_url) as connection:
        connection.execute(sa.insert(batch_schedule).values(name="a", next_tick_at=now(60)))
    found = parts.stores.reports.jobs()
    assert [job.name for job in found] == ["a", "b", "c", "d"]
    assert [job.pause for job in found] == [Pause.NONE] * 3 + [Pause.ALL]
    assert [job.next_tick_at is None for job in found] == [False, True, True, True]


# --- one run ---


def test_one_run_of_any_job_is_stopped_by_its_id_and_its_row_says_so(say, parts):
    working = Working(parts)
    assert working.run is not None
    run_id = str(working.run.id)
    code, out, err = say("stop", run_id)
    assert (code, err) == (0, "")
    assert f"run {run_id} of {OWN} was told to stop: it ends between two items, as revoked" in out
    assert f"`mailbatch pause --job {OWN}`" in out
    assert working.ended().outcome is RunOutcome.REVOKED
    shown = seen(say, "run", run_id)
    assert (shown["job"], shown["outcome"]) == (OWN, "revoked")
    assert a_job(parts)(Trigger.BEAT).outcome is RunOutcome.COMPLETED
    code, _, err = say("stop", run_id)
    assert (code, err) == (1, f"mailbatch: run {run_id} has ended: revoked\n")
    [refused, stopped] = seen(say, "actions")
    assert (stopped["action"], stopped["target"], stopped["outcome"]) == ("stop", {"run": run_id}, "done")
    assert refused["outcome"] == "refused"


def test_what_a_stopped_run_has_not_sent_is_pending_and_nothing_is_in_doubt(
    say, database_url, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Without a lock and without Redis, as `send-all --here --no-lock`."""
    heard, tell = threading.Event(), CombinedStopToken.request_stop

    def tell_and_note(stop: CombinedStopToken, reason: RunOutcome) -> None:
        tell(stop, reason)
        heard.set()

    monkeypatch.setattr(CombinedStopToken, "request_stop", tell_and_note)
    reserve(database_url, 30)
    with Relay(tmp_path / "relay") as relay:
        relay.offer("DATA")
        relay.script(dot=["hold"])
        given = {"database_url": database_url, "smtp_url": relay.url, "sender": "s@example.com"}
        parts = Parts(Settings(**given, connections=1, window=1))
        thread = threading.Thread(target=lambda: send_all(parts, lock=False)(Trigger.MANUAL), daemon=True)
        thread.start()
        relay.wait_held()
        [run] = runs(database_url)
        assert seen(say, "stop", str(run.run_id)) == {
            "run_id": str(run.run_id),
            "job": "send-all",
            "stopping": True,
            "alive": True,
        }
        assert heard.wait(10)
        relay.release()
        thread.join(30)
        parts.close()
    [run] = runs(database_url)
    assert run.outcome == "revoked"
    assert states(database_url) == {"sent": run.sent, "pending": 30 - run.sent}
    assert run.sent < 30


def test_a_run_whose_process_died_and_one_that_never_was_are_told_apart(say, database_url):
    silent, nobody = uuid4(), uuid4()
    with database(database_url) as connection:
        row = {"run_id": silent, "job": OWN, "trigger": "beat"}
        connection.execute(sa.insert(batch_runs).values(**row, started_at=now(-60), heartbeat_at=now(-50)))
    code, out, _ = say("stop", str(silent))
    assert code == 0
    assert "shows no sign of life" in out
    code, _, err = say("stop", str(nobody))
    assert (code, err) == (1, f"mailbatch: no run {nobody}; `mailbatch runs` lists them\n")
    assert say("stop", "send-all")[0] == 2


# --- lists say that there is more ---


@pytest.mark.parametrize("command", ["runs", "actions", "list", "duplicates"])
@pytest.mark.parametrize("json_too", [False, True])
@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_list_that_ends_at_its_limit_says_so_on_stderr(say, parts, database_url, command, json_too):
    mail = {"recipients": "a@example.com", "subject": "s", "body_text": "t", "status": "sent", "claim_no": 2}
    with database(database_url) as connection:
        for own in (uuid4(), uuid4(), uuid4()):
            connection.execute(sa.insert(batch_runs).values(run_id=own, job="send-all", trigger="beat"))
            act = {"actor": "a", "action": "b", "outcome": "done"}
            connection.execute(sa.insert(operator_actions).values(id=own, **act))
            connection.execute(sa.insert(mail_reservations).values(id=own, sent_at=now(), **mail))
            doubt = {"claim_no": 1, "outcome": "in_doubt"}
            connection.execute(sa.insert(mail_attempts).values(reservation_id=own, **doubt))
    shown = ["--json"] if json_too else []
    code, out, err = say(command, "--limit", "2", *shown)
    assert code == 0
    assert len(json.loads(out) if json_too else out.splitlines()[1:]) == 2
    assert err.startswith("the newest 2")
    assert "--limit shows more" in err
    code, out, err = say(command, "--limit", "3", *shown)
    assert (len(json.loads(out) if json_too else out.splitlines()[1:]), err) == (3, "")
