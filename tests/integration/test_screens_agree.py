"""What goes on, on every screen: each situation is made of rows and keys, and all screens say the same of it."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa
from support.api import Api
from support.backlogs import database
from support.pages import Browser, Page

from mailbatch.bootstrap.operating import Operating
from mailbatch.domain.finding import ALL_IS_WELL
from mailbatch.domain.reply_kinds import Concern
from mailbatch.domain.run import Pause
from mailbatch.infrastructure.db.tables import batch_lanes, batch_runs, batch_schedule, mail_reservations, metadata
from mailbatch.infrastructure.db.types import now
from mailbatch.infrastructure.redis.client import connect
from mailbatch.interfaces.console.formatting import local

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from mailbatch.infrastructure.redis.embedded import EmbeddedRedis

JOB, RELAY = "send-all", "relay.example:25"
NOWHERE = "redis://127.0.0.1:1/0"
Say = Any


@dataclass
class World:
    """What there is; ``api`` serves it."""

    url: str
    api: Api
    redis: Any

    def put(self, table: sa.Table, **row: Any) -> None:
        with database(self.url) as connection:
            connection.execute(sa.insert(table).values(row))

    def mail(self, due: float = 5.0, **columns: Any) -> UUID:
        """A reservation due ``due`` seconds ago."""
        row = {"id": uuid4(), "recipients": "ann@example.org", "subject": "s", "body_text": "t", **columns}
        self.put(mail_reservations, scheduled_at=now(-due), **row)
        return row["id"]  # type: ignore[no-any-return]

    def claimed(self, run_id: UUID, lease: float = 50.0, lane: int = 0) -> UUID:
        """A mail that a run has in hand."""
        return self.mail(status="sending", lease_until=now(lease), wire_at=now(-9), run_id=run_id, lane=lane)

    def run(self, beat: float = 1.0, age: float | None = None, **columns: Any) -> UUID:
        """A run that began ``age`` seconds ago and beat ``beat`` seconds ago."""
        row = {"run_id": uuid4(), "job": JOB, "trigger": "beat", **columns}
        began = now(-(beat if age is None else age))
        self.put(batch_runs, started_at=began, heartbeat_at=now(-beat), **row)
        return row["run_id"]  # type: ignore[no-any-return]

    def tick(self, seconds: float = 100.0, pause: Pause = Pause.NONE) -> None:
        row = {"name": JOB, "last_tick_at": now(seconds - 300), "next_tick_at": now(seconds), "paused": pause.value}
        self.put(batch_schedule, **row)

    def lock(self, left: float | None = 29.0, database: str = "") -> None:
        """Somebody holds the lock for so many seconds more."""
        value = f"web1:77:{uuid4().hex}{database}"
        self.redis.set(self.api.parts.keys.lock(JOB), value, px=int(left * 1000) if left else None)

    def board(self, run_id: UUID, sent: int, elapsed: float = 10.0, state: str = "running") -> None:
        self.api.parts.status_board.put(JOB, {"run_id": run_id, "sent": sent, "elapsed": elapsed, "state": state})

    def circuit(self, seconds: float, concern: Concern | None = None) -> None:
        self.api.parts.stores.circuits.open(RELAY, "421 4.3.2 busy", seconds, concern)


@dataclass(frozen=True)
class Situation:
    """``reason``: what ``explain`` says of the mail that ``build`` returns; ``findings``: what the watch finds."""

    build: Callable[[World], UUID]
    reason: str
    running: bool = False
    findings: tuple[str, ...] = ()
    redis: bool = True
    progress: tuple[int, int] | None = None


def _waits(world: World, tick: float = 100.0, **columns: Any) -> UUID:
    world.tick(tick)
    return world.mail(**columns)


def _nobody(world: World) -> UUID:
    return world.mail(due=2000)


def _paused(world: World, pause: Pause) -> UUID:
    world.tick(-30, pause)
    world.run(beat=500, outcome="paused", finished_at=now(-500))
    return world.mail(due=900)


def _paused_while_it_runs(world: World, pause: Pause = Pause.TICKS) -> UUID:
    world.tick(-30, pause)
    world.run(age=20)
    return world.mail()


def _sends(world: World, *, locked: bool = True) -> UUID:
    world.tick()
    run = world.run(age=10, sent=28)
    if locked:
        world.lock()
        world.board(run, sent=30)
    world.claimed(run)
    return world.mail()


def _under_way(world: World) -> UUID:
    world.tick()
    run = world.run(age=10)
    world.lock()
    return world.claimed(run)


def _begins(world: World, *, after_a_kill: bool = False) -> UUID:
    world.tick()
    ended = world.run(beat=200, outcome="failed" if after_a_kill else "completed", finished_at=now(-200))
    world.board(ended, sent=70, state="running" if after_a_kill else "finished")
    # Longer than a lock lasts: it counts as new until a busy machine has read all screens.
    world.lock(left=60)
    return world.mail()


def _killed(world: World) -> UUID:
    world.tick()
    run = world.run(beat=15, age=60, sent=30)
    world.lock(left=12)
    world.board(run, sent=31)
    world.mail()
    return world.claimed(run)


def _killed_and_closed(world: World, lease: float = 20.0) -> UUID:
    world.tick()
    error = "[JOB EXEC ERROR] the run's process died: no heartbeat, no end"
    run = world.run(beat=45, age=60, outcome="failed", finished_at=now(-2), error=error)
    return world.claimed(run, lease=lease)


def _helper_killed(world: World) -> UUID:
    world.tick()
    run = world.run(age=20)
    world.lock()
    world.put(batch_lanes, run_id=run, lane=1, joined_at=now(-20), heartbeat_at=now(-15))
    return world.claimed(run, lane=1)


def _relay_hangs(world: World, *, under_way: bool) -> UUID:
    world.tick()
    run = world.run(age=60, sent=5)
    world.lock()
    world.board(run, sent=5, elapsed=60)
    claimed, waits = world.claimed(run), world.mail()
    return claimed if under_way else waits


def _circuit(world: World, seconds: float, concern: Concern | None = None) -> UUID:
    world.circuit(seconds, concern)
    return _waits(world)


def _idle_lock(world: World) -> UUID:
    world.lock(left=None)
    return _waits(world)


def _foreign_lock(world: World) -> UUID:
    mine = world.api.parts.identify()
    world.lock(database=f" {replace(mine, number=mine.number + 1).encode()}")
    return _waits(world)


def _board_of_the_run_before(world: World) -> UUID:
    world.tick()
    world.board(uuid4(), sent=900, state="finished")
    world.lock()
    world.run(age=10, sent=7)
    return world.mail()


def _runs_without_redis(world: World) -> UUID:
    world.tick()
    world.run(age=10, sent=40)
    return world.mail()


def _ended(world: World, status: str, **columns: Any) -> UUID:
    world.tick()
    ended = {} if status == "in_doubt" else {"finished_at": now(-5)}
    return world.mail(status=status, message_id="<1@x>", **{**ended, **columns})


SITUATIONS: dict[str, Situation] = {
    "nothing is due": Situation(lambda w: _waits(w, due=-900), "not_due"),
    "a tick is to come": Situation(_waits, "waits_for_run"),
    "a tick has just come": Situation(lambda w: _waits(w, -3), "waits_for_run"),
    "no beat has run yet": Situation(lambda w: w.mail(), "waits_for_run"),
    "beat is away": Situation(lambda w: _waits(w, -60), "no_tick", findings=("no_tick",)),
    "beat is away for long": Situation(lambda w: _waits(w, -400), "no_tick", findings=("no_tick",)),
    "nobody runs": Situation(_nobody, "no_run", findings=("no_run",)),
    "the ticks are paused": Situation(lambda w: _paused(w, Pause.TICKS), "paused"),
    "all is paused": Situation(lambda w: _paused(w, Pause.ALL), "paused"),
    "paused while a run goes on": Situation(_paused_while_it_runs, "run_in_progress", running=True),
    "stopped while a run goes on": Situation(
        lambda w: _paused_while_it_runs(w, Pause.ALL), "paused", running=True
    ),
    "a run sends": Situation(_sends, "run_in_progress", running=True, progress=(30, 32)),
    "a run sends without the lock": Situation(
        lambda w: _sends(w, locked=False), "run_in_progress", running=True, progress=(28, 30)
    ),
    "a mail is under way": Situation(_under_way, "being_sent", running=True, progress=(0, 1)),
    "a run begins": Situation(_begins, "run_in_progress", running=True, progress=(0, 1)),
    "a run begins after one that was killed": Situation(
        lambda w: _begins(w, after_a_kill=True), "run_in_progress", running=True, progress=(0, 1)
    ),
    "the run was killed": Situation(_killed, "sender_died", findings=("run_died",)),
    "the run was killed and closed": Situation(_killed_and_closed, "sender_died", findings=("run_died",)),
    "the lease of a killed run is over": Situation(
        lambda w: _killed_and_closed(w, -10), "sender_died", findings=("run_died",)
    ),
    "a helper was killed": Situation(_helper_killed, "sender_died", running=True),
    "the relay hangs, a mail waits": Situation(
        lambda w: _relay_hangs(w, under_way=False), "relay_silent", running=True, findings=("no_progress",),
        progress=(5, 7),
    ),
    "the relay hangs, a mail is under way": Situation(
        lambda w: _relay_hangs(w, under_way=True), "relay_silent", running=True, findings=("no_progress",)
    ),
    "the relay is left alone": Situation(lambda w: _circuit(w, 60), "relay_away", findings=("relay_away",)),
    "the relay is to be probed": Situation(lambda w: _circuit(w, -1), "waits_for_run", findings=("relay_away",)),
    "the quota is used up": Situation(
        lambda w: _circuit(w, 60, Concern.QUOTA), "relay_away", findings=("relay_refuses",)
    ),
    "Redis is away": Situation(_waits, "redis_away", findings=("redis_away",), redis=False),
    "Redis is away while a run goes on": Situation(
        _runs_without_redis, "run_in_progress", running=True, findings=("redis_away",), redis=False, progress=(40, 41)
    ),
    "a lock was set by hand": Situation(_idle_lock, "locked", findings=("lock_without_run",)),
    "another database has the lock": Situation(_foreign_lock, "locked", findings=("lock_of_another_database",)),
    "the board shows the run before": Situation(
        _board_of_the_run_before, "run_in_progress", running=True, progress=(7, 8)
    ),
    "a mail is in doubt": Situation(lambda w: _ended(w, "in_doubt", wire_at=now(-50)), "in_doubt"),
    "a mail was cancelled": Situation(lambda w: _ended(w, "cancelled"), "cancelled"),
    "a mail's time has passed": Situation(lambda w: _waits(w, expires_at=now(-1)), "expires"),
    "a mail waits for its next try": Situation(
        lambda w: _waits(w, attempts=1, retry_at=now(300), last_error="450 4.2.0 later"), "waits_for_retry"
    ),
}  # fmt: skip


# --- the screens ---


@dataclass
class Screens:
    """What each of them shows."""

    world: World
    say: Say
    mail: UUID
    text: str = field(init=False)
    found: dict[str, Any] = field(init=False)
    top: str = field(init=False)
    page: Page = field(init=False)

    def __post_init__(self) -> None:
        self.text = self._said("status")
        self.found = json.loads(self._said("status", "--json"))
        self.top = self._said("top", "--once")
        self.world.api.app.state.snapshots = None
        self.page = Browser(self.world.api.client).open("/")

    def _said(self, *command: str) -> str:
        code, out, err = self.say(*command)
        assert (code, err) == (0, ""), command
        return out  # type: ignore[no-any-return]

    def field(self, name: str) -> str:
        """One line of ``status``."""
        found = re.search(rf"^{name} +(.*)$", self.text, re.MULTILINE)
        return found[1] if found else ""

    def explained(self) -> dict[str, Any]:
        """What ``explain`` says, and the API, and the page of the mail."""
        told: dict[str, Any] = json.loads(self._said("explain", str(self.mail), "--json"))
        by_api = self.world.api.get(f"/api/reservations/{self.mail}/explain")
        assert _steady(by_api) == _steady(told)
        page = Browser(self.world.api.client).open(f"/reservations/{self.mail}").text
        assert _steady(local(told["sentence"])) in _steady(page), "with its times as the page writes all times"
        return told


_MOVING = frozenset(
    {"elapsed", "rate", "seconds_left", "oldest_due_seconds", "unanswered_seconds", "since", "due_for_seconds"}
)


def _steady(value: Any) -> Any:
    """``value`` without what a clock moves between two looks."""
    if isinstance(value, dict):
        return {k: (v is None if k in _MOVING else _steady(v)) for k, v in value.items()}
    if isinstance(value, list):
        return [_steady(one) for one in value]
    return re.sub(r"\d+(\.\d+)?", "N", value) if isinstance(value, str) else value


@pytest.fixture(scope="module")
def house(
    sqlite_template: Path, redis_server: EmbeddedRedis, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[bool], World]]:
    """A world with Redis, and the same without."""
    path = tmp_path_factory.mktemp("screens") / "mailbatch.db"
    shutil.copy(sqlite_template, path)
    url = f"sqlite:///{path}"
    settings = {"database_url": url, "smtp_url": f"smtp://{RELAY}"}
    with (
        connect(redis_server.url) as client,
        Api({**settings, "redis_url": redis_server.url}) as sighted,
        Api({**settings, "redis_url": NOWHERE}) as blind,
    ):

        def empty(redis: bool) -> World:  # noqa: FBT001 - with it or without it
            client.flushall()
            with database(url) as connection:
                for table in reversed(metadata.sorted_tables):
                    connection.execute(sa.delete(table))
            return World(url, sighted if redis else blind, client)

        yield empty


@pytest.fixture
def screens(
    house: Callable[[bool], World], say: Say, redis_server: EmbeddedRedis, monkeypatch: pytest.MonkeyPatch
) -> Callable[[Situation], Screens]:
    def look(situation: Situation) -> Screens:
        world = house(situation.redis)
        for name, value in {
            "DATABASE_URL": world.url,
            "REDIS_URL": redis_server.url if situation.redis else NOWHERE,
            "SMTP_URL": f"smtp://{RELAY}",
            "SENDER": "shop@example.com",
        }.items():
            monkeypatch.setenv(f"MAILBATCH_{name}", value)
        monkeypatch.setenv("COLUMNS", "400")
        # One process that renders is enough for all commands.
        renderer = world.api.parts.operating.subprocess_renderer
        monkeypatch.setattr(Operating, "subprocess_renderer", property(lambda _operating: renderer))
        return Screens(world, say, situation.build(world))

    return look


@pytest.mark.parametrize("situation", SITUATIONS.values(), ids=SITUATIONS)
def test_all_screens_say_the_same_of(situation: Situation, screens: Callable[[Situation], Screens]) -> None:
    seen = screens(situation)
    found, api = seen.found, seen.world.api.get("/api/status")
    assert (found["running"], tuple(w["name"] for w in found["warnings"])) == (situation.running, situation.findings)
    assert _steady(api) == _steady(found)
    _is_running_everywhere(seen)
    _progress_is_the_same(seen, situation)
    _runs_are_as_the_look_says(seen)
    _findings_stand_everywhere(seen)
    _next_run_is_the_same(seen)
    told = seen.explained()
    assert told["reason"] == situation.reason
    _explained_as_the_others_say(told, seen)


def _is_running_everywhere(seen: Screens) -> None:
    found, page = seen.found, seen.page
    run_id = found["progress"] and found["progress"]["run_id"]
    asked = seen.world.api.get("/api/is-running")
    assert asked == {"run_id": run_id, **{name: found[name] for name in ("running", "paused", "pause")}}
    assert (seen.field("running") != "no") is found["running"]
    assert ("no run now" not in seen.top) is found["running"]
    assert ("No run now" not in page) is found["running"]
    silent = any(w["name"] == "no_progress" for w in found["warnings"])
    assert ("A run is sending" in page) is (found["running"] and not silent)
    assert ("A run waits for the relay" in page) is silent
    assert seen.field("relay").endswith(", silent") is silent
    assert (found["paused"] or "") == seen.field("paused").partition(" ")[0]
    assert ("paused:" in seen.top) is bool(found["paused"])
    assert ("The ticks are paused." in page or "Everything is stopped." in page) is bool(found["paused"])


def _progress_is_the_same(seen: Screens, situation: Situation) -> None:
    progress = seen.found["progress"]
    assert (progress is not None) is seen.found["running"]
    if progress is None:
        return
    if situation.progress is not None:
        assert (progress["done"], progress["whole"]) == situation.progress
    said = f"{progress['done']} of {progress['whole']}"
    for screen in (seen.field("running"), seen.top, seen.page.text):
        assert said in screen
    pace = r"\d/s(, .* to go)?", r"\d/s(, .* to go)?", r"\d+ a second"
    for screen, words in zip((seen.field("running"), seen.top.split("STARTED")[0], seen.page.text), pace, strict=True):
        assert bool(re.search(words, screen)) is (progress["rate"] is not None), screen


def _runs_are_as_the_look_says(seen: Screens) -> None:
    """A run that died is none that goes on, in any list of runs, also while nobody has closed its row."""
    page = Browser(seen.world.api.client).open("/runs?every=1").text
    for run in seen.world.api.get("/api/runs")["items"]:
        goes_on = seen.found["running"] and run["run_id"] == seen.found["progress"]["run_id"]
        assert run["running"] is goes_on
        assert seen.world.api.get(f"/api/runs/{run['run_id']}")["running"] is goes_on
        word = run["outcome"] or ("running" if goes_on else "silent")
        [row] = [line for line in seen.say("runs")[1].splitlines() if line.startswith(run["run_id"])]
        assert f" {word} " in row
        assert f" {word} " in seen.top.split("OTHER")[1]
        assert f" {word} " in page
        assert f" {word} " in f" {Browser(seen.world.api.client).open('/runs/' + run['run_id']).text} "


def _findings_stand_everywhere(seen: Screens) -> None:
    warnings = seen.found["warnings"]
    page = _steady(seen.page.text).lower()
    for found in warnings:
        what, on_page = _steady(found["what"]), _steady(local(found["what"])).lower()
        if found["name"] != "relay_away":  # which has its own line
            assert what in _steady(seen.text)
        assert what in _steady(seen.top)
        assert on_page in page
    for screen in (seen.text, seen.page.text):
        assert (ALL_IS_WELL in screen) is (not warnings)
    assert ("redis" in seen.found["down"]) is ("Redis (error)" in seen.page.text)
    assert ("redis" in seen.found["down"]) is any(w["name"] == "redis_away" for w in warnings)


def _next_run_is_the_same(seen: Screens) -> None:
    late = any(w["name"] == "no_tick" for w in seen.found["warnings"])
    for screen in (seen.field("next run"), seen.top):
        assert ("that is over: is a beat running?" in screen) is late or seen.found["running"]
    assert ("Beat (error)" in seen.page) is late
    due_now = seen.field("next run") == "due now"
    if not seen.found["running"]:
        assert ("The next run should have begun" in seen.page) is late
        assert ("The next is due now" in seen.page) is due_now
        assert ("the next is due now" in seen.top) is due_now
    if seen.found["paused"] or seen.found["next_run_at"] is None:
        assert seen.field("next run").startswith(("none while it is paused", "not known"))


def _explained_as_the_others_say(told: dict[str, Any], seen: Screens) -> None:
    found, names = seen.found, [w["name"] for w in seen.found["warnings"]]
    reason, sentence = told["reason"], told["sentence"]
    if reason in {"being_sent", "run_in_progress", "relay_silent"}:
        assert found["running"]
    if reason in {"no_run", "no_tick", "redis_away"}:
        assert reason in names
    assert (reason == "relay_silent") is ("no_progress" in names)
    assert "is being sent" not in sentence or "run_died" not in names
    if reason == "waits_for_run" and found["next_run_at"]:
        now_or_then = seen.field("next run") == "due now"
        assert ("which is due now" in sentence) is now_or_then
    assert told["facts"].get("next_run_at") in {None, found["next_run_at"]}


def test_a_database_that_is_away_is_said_by_every_screen(say: Say, redis_url: str, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/nowhere/mailbatch.db"
    for command in (("status",), ("status", "--json"), ("top", "--once"), ("explain", str(uuid4()))):
        code, out, err = say(*command, DATABASE_URL=url, REDIS_URL=redis_url)
        assert (code, out, err.count("\n")) == (1, "", 1), command
        assert "nowhere/mailbatch.db" in err
    with Api({"database_url": url, "redis_url": redis_url}) as api:
        for path in ("/api/status", "/api/is-running", f"/api/reservations/{uuid4()}/explain"):
            assert "nowhere/mailbatch.db" in api.get(path, 503)["detail"]
        assert "nowhere/mailbatch.db" in Browser(api.client).open("/", 503)


# --- what they advise can be done ---


@pytest.mark.parametrize("overdue", [False, True], ids=["in time", "overdue"])
@pytest.mark.parametrize("status", ["failed", "cancelled", "in_doubt"])
def test_what_is_advised_of_a_mail_can_be_done(
    status: str,
    overdue: bool,  # noqa: FBT001 - a parameter of the test
    screens: Callable[[Situation], Screens],
) -> None:
    late = {"expires_at": now(-60)} if overdue else {}
    seen = screens(Situation(lambda w: _ended(w, status, **late), status))
    advice = seen.explained()["advice"]
    commands = re.findall(r"`mailbatch ([^`]+)`", advice)
    assert ("reserve it again" in advice) is overdue
    assert (status == "cancelled" and not overdue) is any(command.startswith("restore") for command in commands)
    for command in commands:
        with database(seen.world.url) as connection:
            connection.execute(sa.update(mail_reservations).values(status=status))
        code, out, err = seen.say(*command.split())
        assert (code, err) == (0, ""), (command, out)


def test_a_call_while_all_is_paused_says_so_and_counts_nothing(screens: Callable[[Situation], Screens]) -> None:
    seen = screens(SITUATIONS["all is paused"])
    code, out, _ = seen.say("send-all", "--here", LOG_LEVEL="CRITICAL")
    assert (code, out) == (1, "paused: nothing was sent; 1 are due; `mailbatch resume` ends that\n")


def test_a_call_while_a_dead_run_holds_the_lock_says_that_none_goes_on(
    screens: Callable[[Situation], Screens],
) -> None:
    seen = screens(SITUATIONS["the run was killed"])
    said = r"o run shows a sign of life, but the lock is held for \d+ s more; then one can begin"
    code, out, _ = seen.say("send-all", "--here", LOG_LEVEL="CRITICAL")
    assert (code, bool(re.match(f"skipped: n{said}", out))) == (0, True)
    assert re.match(f"n{said}", seen.world.api.post("/api/run-now", status=409)["detail"])
    browser = Browser(seen.world.api.client)
    assert re.search(f"N{said}", browser.press(browser.open("/schedule"), "Send now").text)


def test_a_tick_that_waited_for_the_end_of_a_pause_is_not_late(screens: Callable[[Situation], Screens]) -> None:
    seen = screens(SITUATIONS["the ticks are paused"])
    seen.say("resume")
    found = json.loads(seen.say("status", "--json")[1])
    assert [w["name"] for w in found["warnings"]] == []
    assert "due now" in seen.say("status")[1]
