"""What operators do at the command line: to many by a filter, with a question before it, and a note of it after."""

from __future__ import annotations

import json
import os
import pwd
import re
import shlex
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import click
import pytest
import sqlalchemy as sa
from support.backlogs import reserve, states
from support.relay import Relay

from mailbatch.infrastructure.db.engine import connect
from mailbatch.infrastructure.db.interventions import SqlInterventions
from mailbatch.infrastructure.db.tables import batch_runs, mail_reservations, run_errors
from mailbatch.infrastructure.db.types import now
from mailbatch.infrastructure.redis.client import connect as connect_redis
from mailbatch.infrastructure.redis.keys import Keys
from mailbatch.infrastructure.redis.slots import RedisSlots
from mailbatch.interfaces.cli import caller, main
from mailbatch.interfaces.cli.catalogue import COMMANDS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy.engine import Engine

ME = f"cli:{pwd.getpwuid(os.getuid()).pw_name}"


@pytest.fixture
def say(say: Callable[..., tuple[int, str, str]], sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Commands on an SQLite database, in a wide terminal."""
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("MAILBATCH_DATABASE_URL", sqlite_url)
    monkeypatch.setenv("MAILBATCH_SENDER", "sender@example.com")
    return say


@pytest.fixture
def engine(sqlite_url: str) -> Iterator[Engine]:
    engine = connect(sqlite_url)
    yield engine
    engine.dispose()


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], int]]:
    """Puts somebody at the keyboard, who has typed this."""
    master, slave = os.openpty()
    with os.fdopen(slave) as keyboard:
        monkeypatch.setattr("sys.stdin", keyboard)
        yield lambda keys: os.write(master, keys.encode())
    os.close(master)


def refused(engine: Engine, sqlite_url: str, codes: list[int | None], **more: Any) -> list[str]:
    """Reservations that failed with these replies."""
    reserve(sqlite_url, len(codes))
    r = mail_reservations.c
    with engine.begin() as connection:
        ids = list(connection.execute(sa.select(r.id).where(r.status == "pending")).scalars())
        for reservation_id, code in zip(ids, codes, strict=True):
            values = {"status": "failed", "reply_code": code, "finished_at": now(), "last_error": "no", **more}
            connection.execute(sa.update(mail_reservations).where(r.id == reservation_id).values(values))
    return [str(reservation_id) for reservation_id in ids]


def noted(say: Any) -> list[dict[str, Any]]:
    return json.loads(say("actions", "--json")[1])


# --- by a filter ---


def test_the_failed_ones_refused_with_4xx_in_the_last_hour_go_again_and_only_those(say, engine, sqlite_url):
    temporary = refused(engine, sqlite_url, [452, 451, 550, None])[:2]
    refused(engine, sqlite_url, [421], finished_at=now(-7200))
    filtered = ("--status", "failed", "--reply", "4xx", "--since", "1h")
    assert {row["id"] for row in json.loads(say("list", *filtered, "--json")[1])} == set(temporary)
    assert say("requeue", *filtered, "--yes") == (0, "2 requeued\n", "")
    assert states(sqlite_url) == {"pending": 2, "failed": 3}


def test_nothing_is_done_to_many_where_nobody_can_be_asked(say, engine, sqlite_url):
    refused(engine, sqlite_url, [550] * 3)
    code, out, err = say("delete", "--status", "failed")
    assert (code, out) == (1, "")
    assert err == "mailbatch: delete affects 3 reservations, and there is nobody to ask; add --yes to do it\n"
    assert states(sqlite_url) == {"failed": 3}
    refused(engine, sqlite_url, [550] * 2, tag="spring", status="cancelled")
    for command in (
        ("restore", "--tag", "spring"),
        ("requeue", "--status", "failed", "--reply", "5xx"),
        ("requeue", "--status", "cancelled", "--tag", "spring"),
    ):
        code, out, err = say(*command)
        assert (code, out) == (1, ""), command
        assert err.endswith(", and there is nobody to ask; add --yes to do it\n")
    assert states(sqlite_url) == {"failed": 3, "cancelled": 2}
    assert noted(say) == []


@pytest.mark.parametrize(("typed", "code", "left"), [("n\n", 1, {"failed": 3}), ("y\n", 0, {})])
def test_who_is_there_is_asked_first_and_told_how_many(say, engine, sqlite_url, terminal, typed, code, left):
    refused(engine, sqlite_url, [550] * 3)
    terminal(typed)
    found, out, err = say("delete", "--status", "failed", "--json")
    assert found == code
    assert "delete affects 3 reservations; go on? [y/N]" in err
    assert out == ("" if code else '{\n  "deleted": 3,\n  "left": {}\n}\n')
    assert states(sqlite_url) == left


def test_cancel_and_restore_by_a_filter(say, sqlite_url):
    reserve(sqlite_url, 3, tag="spring")
    reserve(sqlite_url, 2, start=3, tag="autumn")
    assert say("cancel", "--tag", "spring", "--since", "1h", "-y")[1] == "3 cancelled\n"
    assert say("restore", "--tag", "spring", "-y")[1] == "3 restored\n"
    assert say("cancel", "--tag", "autumn", "--yes") == (0, "2 cancelled\n", "")
    assert states(sqlite_url) == {"pending": 3, "cancelled": 2}


def acts_that_asked_nobody(engine: Engine, sqlite_url: str) -> list[tuple[tuple[str, ...], int, int]]:
    """Those that did so in the version before: command, how many it means, how many are left when its turn comes."""
    run_id = uuid4()
    ids = refused(engine, sqlite_url, [550, 550])
    with engine.begin() as connection:
        row = {"run_id": run_id, "job": "send-all", "trigger": "beat", "outcome": "completed"}
        connection.execute(sa.insert(batch_runs).values(row))
        failed = {"run_id": run_id, "item_index": 1, "reservation_id": ids[0], "errors": ["no"]}
        connection.execute(sa.insert(run_errors).values(failed))
    refused(engine, sqlite_url, [None], status="sent", finished_at=now(-900_000), created_at=now(-900_000))
    reserve(sqlite_url, 3, start=20, tag="spring")
    return [
        (("cancel", "--tag", "spring"), 3, 3),
        (("requeue", "--run", str(run_id)), 1, 1),
        (("requeue", "--status", "failed"), 2, 1),
        (("purge", "--older-than", "5"), 1, 1),
    ]


def test_who_is_there_is_asked_by_every_act_that_a_filter_means(say, engine, sqlite_url, terminal):
    acts = acts_that_asked_nobody(engine, sqlite_url)
    before = states(sqlite_url)
    for command, meant, _ in acts:
        terminal("n\n")
        code, out, err = say(*command)
        assert (code, out) == (1, ""), command
        assert re.search(rf"^{command[0]} affects {meant} reservations?; go on\? \[y/N\]", err)
        assert err.endswith("mailbatch: nothing was done\n")
    assert states(sqlite_url) == before
    assert noted(say) == []
    for command, _, left in acts:
        terminal("y\n")
        code, out, err = say(*command)
        assert (code, out.split()[0]) == (0, str(left)), command
        assert f"affects {left} reservation" in err
        assert "warning" not in err


def test_where_nobody_is_there_they_go_on_for_now_with_a_warning_that_yes_will_be_needed(say, engine, sqlite_url):
    acts = acts_that_asked_nobody(engine, sqlite_url)
    for command, _, changed in acts:
        code, out, err = say(*command)
        assert (code, out.split()[0]) == (0, str(changed)), command
        [line] = err.splitlines()
        assert line.startswith("mailbatch: warning: ")
        assert line.endswith("; add --yes now")
    for command, _, _ in acts:
        assert say(*command, "--yes")[2] == ""


def test_a_retention_that_was_set_asks_nobody(say, terminal, monkeypatch):
    monkeypatch.setenv("MAILBATCH_RETENTION_DAYS", "5")
    assert say("purge") == (0, "0 deleted\n", "")


def test_doubts_are_settled_by_a_filter_too(say, engine, sqlite_url):
    refused(engine, sqlite_url, [None, None], status="in_doubt", finished_at=None)
    assert say("resolve", "--sent", "--since", "1h", "--yes")[1] == "2 resolved\n"
    assert states(sqlite_url) == {"sent": 2}


def test_by_id_each_is_told_apart_and_nobody_is_asked(say, engine, sqlite_url):
    [gone] = refused(engine, sqlite_url, [550])
    reserve(sqlite_url, 1, start=7)
    [pending] = [row["id"] for row in json.loads(say("list", "--status", "pending", "--json")[1])]
    nobody = str(uuid4())
    code, out, _ = say("delete", gone, pending, nobody, gone)
    assert code == 1
    assert out == f"{gone} deleted\n{pending} not deleted: it is pending\n{nobody} not found\n"
    assert say("restore", pending)[1] == f"{pending} is pending already\n"


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("delete", "--tag", "x"), "by a filter, delete needs --status"),
        (("requeue", "--reply", "4xx"), "by a filter, requeue needs --status"),
        (("cancel", "--tag", ""), "--tag: nothing is given"),
        (("cancel", "--tag", " ", "--to", "a"), "--tag: nothing is given"),
        (("list", "--since", "yesterday"), "--since: 'yesterday' is no time"),
        (("list", "--reply", "hello"), "--reply: 'hello' is none of 2xx, 4xx, 5xx"),
        (("delete", "--status", "pending"), "'pending' is not one of"),
        (("restore",), "say which"),
        (("resolve", "--sent"), "say which"),
        (("preview",), "say what"),
    ],
)
def test_a_filter_that_means_nothing_costs_a_line(say, args, said):
    code, out, err = say(*args)
    assert (code, out) == (2, "")
    [line] = err.splitlines()
    assert said in line


# --- what was done is noted ---


def test_every_act_is_noted_with_who_did_it_and_without_contents_or_addresses(say, engine, sqlite_url, monkeypatch):
    ids = refused(engine, sqlite_url, [550] * 4)
    doubt = refused(engine, sqlite_url, [None], status="in_doubt")[0]
    say("requeue", ids[0])
    say("cancel", ids[0], ids[1])
    say("restore", ids[0])
    say("resolve", doubt, "--sent")
    say("resolve", doubt, "--sent")
    say("delete", "--status", "failed", "--to", "Canary", "--reply", "550", "--yes")
    say("purge", "--older-than", "5")
    say("pause", "--all")
    say("resume")
    monkeypatch.setenv("SUDO_USER", "ann\x1b")
    say("cancel", "--tag", "spring")
    found = noted(say)[::-1]
    assert [(a["action"], a["affected"], a["outcome"]) for a in found] == [
        ("requeue", 1, "done"),
        ("cancel", 1, "done in part"),
        ("restore", 1, "done"),
        ("resolve", 1, "done"),
        ("resolve", 0, "done"),
        ("delete", 0, "done"),
        ("purge", 0, "done"),
        ("pause", None, "done"),
        ("resume", None, "done"),
        ("cancel", 0, "done"),
    ]
    assert {a["actor"] for a in found[:-1]} == {ME}
    assert found[-1]["actor"] == "cli:ann?"
    assert found[1]["target"] == {"ids": ids[:2], "of": 2}
    assert found[5]["target"] == {"status": "failed", "to": "***", "reply": "550"}
    shown = say("actions", "--limit", "5")[1]
    assert len(shown.splitlines()) == 6
    assert "canary" not in json.dumps(found).lower()


@pytest.mark.parametrize(
    ("login", "sudo", "actor"),
    [
        ("0", "mallory", "cli:root"),  # behind su, and whatever the environment says
        (str(2**32 - 1), "ann", "cli:ann"),
        ("4294967294", "ann", "cli:ann"),
        ("", "ann", "cli:ann"),
        (None, None, ME),
    ],
)
def test_who_acts_is_who_is_logged_in_where_that_is_known(say, sqlite_url, monkeypatch, tmp_path, login, sudo, actor):
    if login is not None:
        (tmp_path / "loginuid").write_text(login)
        monkeypatch.setattr(caller, "LOGIN", tmp_path / "loginuid")
    if sudo is not None:
        monkeypatch.setenv("SUDO_USER", sudo)
    say("pause", DATABASE_URL=sqlite_url)
    assert [a["actor"] for a in noted(say)] == [actor]


def test_a_run_by_hand_is_noted_before_it_is_done(say, monkeypatch):
    monkeypatch.setenv("MAILBATCH_SMTP_URL", "smtp://127.0.0.1:1")
    monkeypatch.setenv("MAILBATCH_LOG_LEVEL", "CRITICAL")
    say("send-all", "--here", "--no-lock")
    [act] = noted(say)
    assert (act["action"], act["outcome"], act["target"]) == ("run-now", "begun", {"where": "here", "lock": False})


def test_what_is_done_in_portions_is_noted_before_it_is_done(say, monkeypatch):
    say("reserve", "--to", "a@example.com", "--subject", "s", "--text", "t", "--tag", "spring")
    seen = []

    class Killed(BaseException):
        """As if the process were."""

    def apply(self, act, ids, states):
        seen.extend((act["action"], act["outcome"]) for act in noted(say))
        raise Killed

    monkeypatch.setattr(SqlInterventions, "apply", apply)
    with pytest.raises(Killed):
        say("cancel", "--to", "example", "--tag", "spring", "--yes")
    assert seen == [("cancel", "begun")]
    assert [act["outcome"] for act in noted(say)] == ["broken off"]


def test_what_cannot_be_noted_is_not_done(say, engine, sqlite_url):
    [gone] = refused(engine, sqlite_url, [550])
    with engine.begin() as connection:
        connection.execute(sa.text("ALTER TABLE operator_actions RENAME TO elsewhere"))
    code, out, err = say("delete", gone)
    assert (code, out) == (1, "")
    assert "no such table: operator_actions; run `mailbatch migrate`" in err
    assert states(sqlite_url) == {"failed": 1}


# --- preview and send-test ---


def test_a_preview_shows_a_reservation_or_a_thought(say, tmp_path):
    (tmp_path / "page.html").write_text("<p>\t{{ name }}</p>\n")
    parts = ("--subject", "Hi {{ name }}", "--text", "Dear {{ name }},\n\x1b[2J", "--html", "@page.html")
    given = (*parts, "--context", '{"name": "Zoë & Ann"}')
    assert say("preview", *given)[1] == (
        "subject: Hi Zoë & Ann\n\n--- text ---\nDear Zoë & Ann,\n\\x1b[2J\n\n--- html ---\n<p>    Zoë &amp; Ann</p>\n"
    )
    assert say("preview", *given, "--only", "html")[1].startswith("<p>\tZoë &amp; Ann</p>")
    reservation_id = say("reserve", "--to", "a@example.com", *given)[1].strip()
    assert json.loads(say("preview", reservation_id, "--json")[1])["subject"] == "Hi Zoë & Ann"
    code, _, err = say("preview", "--subject", "Hi {{ name }}", "--text", "{{")
    assert code == 1
    [line] = err.splitlines()
    assert line.startswith("mailbatch: --text line 1: ") or "; --text line 1: " in line
    assert "--subject line 1: " in line
    assert "no reservation" in say("preview", str(uuid4()))[2]


def test_a_test_mail_goes_once_and_a_refusal_is_told_in_the_relays_words(say, tmp_path, monkeypatch, sqlite_url):
    with Relay(tmp_path / "relay") as relay:
        monkeypatch.setenv("MAILBATCH_SMTP_URL", relay.url)
        code, out, _ = say("send-test", "--to", "me@example.com")
        assert code == 0
        assert out.startswith("sent: 250 ")
        assert len(relay.accepted()) == 1
        code, out, err = say("send-test", "--to", "refuse-me@example.com")
        assert (code, out) == (1, "")
        assert err.startswith("mailbatch: failed: 550 5.1.1 ")
        monkeypatch.setenv("MAILBATCH_SMTP_URL", "smtp://127.0.0.1:1")
        assert say("send-test", "--to", "me@example.com")[2].count("\n") == 1
        monkeypatch.setenv("MAILBATCH_SMTP_URL", relay.url)
        code, out, _ = say("send-test", "--to", "refuse-me@example.com", "--json")
        assert (code, json.loads(out)["outcome"]) == (1, "failed")
    assert states(sqlite_url) == {}
    assert [act["outcome"] for act in noted(say)] == ["failed", "relay_fault", "failed", "sent"]
    assert "me@example.com" not in json.dumps(noted(say))


# --- a run for a spreadsheet ---


def test_the_errors_of_a_run_as_csv_run_nothing(say, engine):
    run_id, mail = uuid4(), uuid4()
    with engine.begin() as connection:
        row = {"run_id": run_id, "job": "send-all", "trigger": "beat", "outcome": "completed"}
        connection.execute(sa.insert(batch_runs).values(row))
        row = {"run_id": run_id, "item_index": 1, "reservation_id": mail, "errors": ["=cmd|'/C calc'!A0", "x"]}
        connection.execute(sa.insert(run_errors).values(row))
    out = say("run", str(run_id), "--csv")[1]
    assert out == f"index,reservation_id,errors\r\n1,{mail},'=cmd|'/C calc'!A0 x\r\n"
    assert say("run", str(run_id), "--csv", "--json")[0] == 2


# --- help ---


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_each_command_gives_an_example_that_it_understands(say, name):
    assert re.search(r"^  Examples?:\n    \S", say(name, "--help")[1], re.MULTILINE)
    command = main.cli.get_command(click.Context(main.cli), name)
    words = shlex.split(COMMANDS[name].example)
    assert words[0] == name
    known = {option for param in command.params for option in param.opts}
    assert {word for word in words if word.startswith("--")} <= known


def test_a_test_mail_does_not_wait_for_ever_for_a_connection_that_others_have(say, tmp_path, monkeypatch, redis_url):
    monkeypatch.setattr("mailbatch.bootstrap.sending.WAIT_FOR_SLOT", 0.3)
    monkeypatch.setenv("MAILBATCH_REDIS_URL", redis_url)
    monkeypatch.setenv("MAILBATCH_RELAY_CONNECTIONS", "1")
    with Relay(tmp_path / "relay") as relay, connect_redis(redis_url) as client:
        monkeypatch.setenv("MAILBATCH_SMTP_URL", relay.url)
        assert RedisSlots(client, Keys().connections(relay.url.removeprefix("smtp://")), 1, 60).take()
        code, _, err = say("send-test", "--to", "me@example.com")
    assert (code, err) == (1, "mailbatch: relay fault: no connection to the relay was free in time\n")
