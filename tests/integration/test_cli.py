"""The commands: what they print, how they exit, and that no mistake of a user costs more than a line."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
import sqlalchemy as sa

from mailbatch.domain.reply_kinds import Concern
from mailbatch.domain.reservation import Status
from mailbatch.infrastructure.db.circuits import SqlCircuits
from mailbatch.infrastructure.db.engine import connect
from mailbatch.infrastructure.db.tables import (
    batch_runs,
    batch_schedule,
    mail_attempts,
    mail_reservations,
    run_errors,
)
from mailbatch.infrastructure.db.types import now
from mailbatch.interfaces.cli import main

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from sqlalchemy.engine import Engine
    from support.stack import Stack

LETTER = ("--to", "ada@example.com", "--subject", "Hello", "--text", "Hello.")


class Shell:
    """Runs commands in this process, as the script would."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
        self.set, self._capfd = monkeypatch.setenv, capfd
        self.out = self.err = ""

    def __call__(self, *args: str, code: int = 0) -> str:
        found = main.run(list(args))
        self.out, self.err = self._capfd.readouterr()
        assert found == code, f"exit {found}: {self.out}{self.err}"
        return self.out

    def json(self, *args: str, code: int = 0) -> Any:
        return json.loads(self(*args, "--json", code=code))

    def refused(self, *args: str, code: int = 1) -> str:
        """The one line that it costs."""
        assert self(*args, code=code) == ""
        [line] = self.err.splitlines()
        assert line.startswith("mailbatch: ")
        return line


@pytest.fixture
def shell(sqlite_url: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> Shell:
    for name in [name for name in os.environ if name.startswith("MAILBATCH_")]:
        monkeypatch.delenv(name)
    # Who runs the tests in parallel sets it; a pipe has no width.
    monkeypatch.delenv("COLUMNS", raising=False)
    monkeypatch.setenv("MAILBATCH_DATABASE_URL", sqlite_url)
    monkeypatch.setenv("MAILBATCH_SENDER", "sender@example.com")
    monkeypatch.chdir(tmp_path)
    return Shell(monkeypatch, capfd)


@pytest.fixture
def engine(sqlite_url: str) -> Iterator[Engine]:
    engine = connect(sqlite_url)
    yield engine
    engine.dispose()


def change(engine: Engine, reservation_id: str, **values: Any) -> None:
    with engine.begin() as connection:
        where = mail_reservations.c.id == reservation_id
        connection.execute(sa.update(mail_reservations).where(where).values(values))


def failed(shell: Shell, engine: Engine, **values: Any) -> str:
    reservation_id = shell("reserve", *LETTER).strip()
    change(engine, reservation_id, **{"status": "failed", "last_error": "550 5.1.1 no such user", **values})
    return reservation_id


def a_run(engine: Engine, *failures: str) -> str:
    run_id = uuid4()
    with engine.begin() as connection:
        row = {"run_id": run_id, "job": "send-all", "trigger": "beat", "outcome": "completed", "sent": 7}
        connection.execute(sa.insert(batch_runs).values(**row, failed=len(failures), finished_at=now(), duration=1.5))
        for index, reservation_id in enumerate(failures, 1):
            errors = ["550 no such user <ada@example.com>", "a\nb"]
            row = {"run_id": run_id, "item_index": index, "reservation_id": reservation_id, "errors": errors}
            connection.execute(sa.insert(run_errors).values(row))
    return str(run_id)


# --- reserve ---


def test_reserve_prints_the_id_and_show_tells_what_was_reserved(shell, tmp_path):
    (tmp_path / "page.html").write_text("<p>Grüße {{ name }}</p>")
    reservation_id = shell(
        *("reserve", *LETTER, "--to", "bob@example.com", "--html", "@page.html", "--context", '{"name": "Zoë"}'),
        *("--at", "2030-01-01T00:00:00+09:00", "--expires", "2030-01-02T00:00:00Z", "--priority", "5"),
        *("--key", "k", "--tag", "t", "--cc", "c@example.com", "--headers", '{"X-A": "1"}'),
    ).strip()
    row = shell.json("show", reservation_id)
    assert row["recipients"] == "ada@example.com, bob@example.com"
    assert (row["body_html"], row["context"]) == ("<p>Grüße {{ name }}</p>", {"name": "Zoë"})
    assert (row["scheduled_at"], row["expires_at"]) == ("2029-12-31T15:00:00Z", "2030-01-02T00:00:00Z")
    assert (row["priority"], row["idempotency_key"], row["tag"]) == (5, "k", "t")
    beside = {"files", "served_in", "returns_to", "mail_attempts"}
    assert set(row) == {column.name for column in mail_reservations.c} | beside
    assert "Grüße" in shell("show", reservation_id)


def test_the_same_key_gives_the_same_reservation_and_other_content_is_refused(shell):
    first = shell.json("reserve", *LETTER, "--key", "k")
    assert first["new"]
    assert shell.json("reserve", *LETTER, "--key", "k") == {"id": first["id"], "new": False}
    assert "differs in priority" in shell.refused("reserve", *LETTER, "--key", "k", "--priority", "1")


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("--at", "2026-01-01T00:00:00"), "has no time zone"),
        (("--expires", "2026-01-01"), "has no time zone"),
        (("--at", "10000-01-01T00:00:00Z"), "is no time in ISO 8601 up to the year 9999"),
        (("--at", "2026-01-01 09:00 Mars/Olympus"), "is no time in ISO 8601"),
        (("--at", "tomorrow"), "is no time in ISO 8601"),
        (("--context", "[1]"), "is no JSON object"),
        (("--context", "@nowhere.json"), "nowhere.json: No such file"),
        (("--text", "@latin.txt"), "latin.txt is not UTF-8 (at byte 3)"),
        (("--priority", "high"), "is not a valid integer"),
        (("--nonsense",), "No such option"),
    ],
)
def test_a_slip_of_the_pen_is_usage(shell, tmp_path, args, said):
    (tmp_path / "latin.txt").write_bytes(b"Gr\xfc\xdfe")
    assert said in shell.refused("reserve", *LETTER, *args, code=2)


@pytest.mark.parametrize(
    "option", ["--to", "--cc", "--bcc", "--sender", "--reply-to", "--subject", "--template", "--key", "--tag"]
)
@pytest.mark.parametrize("sign", ["\r\n", "\n", "\u2028", "\x0b"], ids=ascii)
def test_a_header_cannot_be_injected(shell, option, sign):
    line = shell.refused("reserve", *LETTER, option, f"x@example.com{sign}Bcc: eve@example.com")
    assert line.isprintable()
    assert shell.json("list") == []


def test_a_header_cannot_be_injected_by_headers(shell):
    shell.refused("reserve", *LETTER, "--headers", json.dumps({"X-A": "a\r\nBcc: eve@example.com"}))
    shell.refused("reserve", *LETTER, "--headers", json.dumps({"X-A\r\nBcc": "a"}))
    shell.refused("reserve", *LETTER, "--headers", json.dumps({"Bcc": "eve@example.com"}))
    shell.refused("reserve", *LETTER, "--headers", json.dumps({"X-A": ["a", "a\r\nBcc: eve@example.com"]}))
    said = shell.refused("reserve", *LETTER, "--headers", json.dumps({"List-Id": "Bücher"}))
    assert "write Name <news.example.org>" in said


def test_a_body_over_the_limit_is_refused(shell):
    shell.set("MAILBATCH_MAX_MESSAGE_BYTES", "2000")
    assert "MAILBATCH_MAX_MESSAGE_BYTES" in shell.refused("reserve", *LETTER, "--html", "x" * 3000)


# --- import ---


def test_import_keeps_the_good_and_names_the_bad(shell, tmp_path):
    path = tmp_path / "mails.csv"
    path.write_text("recipients,subject,body_text\na@x.org,s,t\nnobody,s,t\n")
    assert shell("import", str(path), code=1) == "1 imported, 1 bad\n"
    assert shell.err.startswith('mails.csv:3: recipients: "nobody" is no address')
    found = shell.json("import", str(path), code=1)
    assert (found["imported"], found["bad"], found["errors"][0]["line"]) == (1, 1, 3)
    assert shell("import", "--strict", str(path), code=1) == "nothing imported: 1 bad\n"
    assert len(shell.json("list")) == 2


@pytest.mark.parametrize(
    ("name", "content", "said", "code"),
    [
        ("a.xlsx", b"", ".xlsx is not known; name it .csv or .jsonl", 2),
        ("a.csv", b"", "the file is empty", 1),
        ("a.csv", b"to\nx@x.org\n", "names no column recipients", 1),
        ("a.csv", "recipients\n".encode("utf-16"), "line 1: is not UTF-8", 1),
    ],
)
def test_a_file_that_cannot_be_read_costs_a_line(shell, tmp_path, name, content, said, code):
    (tmp_path / name).write_bytes(content)
    assert said in shell.refused("import", str(tmp_path / name), code=code)
    assert "does not exist" in shell.refused("import", "nowhere.csv", code=2)


# --- list and show ---


def test_list_json_has_the_tables_columns(shell):
    ids = [shell("reserve", *LETTER, "--tag", tag).strip() for tag in ("a", "a", "b")]
    rows = shell.json("list")
    assert [row["id"] for row in rows] == ids[::-1]
    assert all(set(row) == {column.name for column in mail_reservations.c} for row in rows)
    assert [row["id"] for row in shell.json("list", "--tag", "a", "--limit", "1")] == [ids[1]]
    assert shell.json("list", "--to", "ADA@", "--status", "sent") == []
    assert shell("list", "--status", "sent") == "no reservations\n"


def test_the_dead_list_says_why_and_when(shell, engine):
    reservation_id = failed(shell, engine, finished_at=now())
    out = shell("list", "--status", "failed")
    assert reservation_id in out
    assert "550 5.1.1 no such user" in out


def test_tables_fit_eighty_columns_and_never_cut_an_id(shell, engine, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    to = ", ".join(f'"渡邉 {i}" <very.long.address.{i}@example.com>' for i in range(20))
    reservation_id = shell("reserve", "--to", to, "--subject", "x" * 300, "--text", "x").strip()
    change(engine, reservation_id, last_error="550 " + "no " * 200)
    from rich.cells import cell_len

    run_id = a_run(engine, reservation_id)
    for args in (("list",), ("runs",)):
        lines = shell(*args).splitlines()
        assert max(map(cell_len, lines)) <= 80
        assert reservation_id in lines[1] or run_id in lines[1]
    change(engine, reservation_id, status="failed")
    assert max(map(cell_len, shell("list", "--status", "failed").splitlines())) <= 80


def test_what_a_row_holds_does_not_drive_the_terminal(shell, engine, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    evil = "\x1b]0;owned\x07\x1b[2J\x9b31m \u202egnp.exe \x7f"
    reservation_id = failed(shell, engine, subject=evil, last_error=evil, reply_text=evil, relay=evil)
    run_id = a_run(engine, reservation_id)
    for args in (
        ("list",),
        ("list", "--status", "failed"),
        ("show", reservation_id),
        ("run", run_id),
        ("list", "--json"),
        ("show", reservation_id, "--json"),
    ):
        out = shell(*args)
        assert all(line.isprintable() for line in out.splitlines()), args
        assert not re.search("[\x1b\x07\x9b\x7f\u202e]", out)
    assert shell.json("show", reservation_id)["subject"] == evil


def test_scripts_that_are_written_with_joiners_stay_whole(shell):
    text = "क्\u200dष 👩\u200d👩\u200d👧"
    shell("reserve", "--to", "a@example.com", "--subject", text, "--text", "x")
    reservation_id = shell.json("list")[0]["id"]
    assert text in shell("show", reservation_id)


def test_what_is_not_there_costs_a_line(shell):
    nobody = str(uuid4())
    assert f"no reservation {nobody}" in shell.refused("show", nobody)
    assert f"no run {nobody}" in shell.refused("run", nobody)
    assert f"no reservation {nobody}" in shell.refused("resolve", nobody, "--sent")
    assert f"no run {nobody}" in shell.refused("requeue", "--run", nobody)
    assert "'12' is not a valid UUID" in shell.refused("show", "12", code=2)


# --- cancel, requeue, resolve ---


def test_cancel_tells_each_apart(shell, engine):
    pending, sent = shell("reserve", *LETTER).strip(), failed(shell, engine, status="sent")
    nobody = str(uuid4())
    out = shell("cancel", pending, sent, nobody, code=1)
    assert out == f"{pending} cancelled\n{sent} too late: it is sent\n{nobody} not found\n"
    assert shell.json("cancel", pending) == [
        {"id": pending, "done": True, "status": "cancelled", "answer": "is cancelled already"}
    ]


def test_cancel_by_tag_counts(shell, engine):
    for _ in range(3):
        shell("reserve", *LETTER, "--tag", "spring")
    failed(shell, engine, tag="spring")
    assert shell("cancel", "--tag", "spring") == "3 cancelled; left alone: 1 failed\n"
    assert shell.json("cancel", "--tag", "spring") == {"cancelled": 0, "left": {"failed": 1}}


def test_requeue_by_id_by_run_and_by_state(shell, engine):
    ids = [failed(shell, engine) for _ in range(3)]
    assert shell("requeue", ids[0]) == f"{ids[0]} requeued\n"
    assert shell("requeue", "--run", a_run(engine, ids[0], ids[1])) == "1 requeued\n"
    assert shell.json("requeue", "--status", "failed") == {"requeued": 1, "left": {}}
    assert {row["status"] for row in shell.json("list")} == {"pending"}
    change(engine, ids[0], status="sent")
    assert shell("requeue", ids[0], code=1) == f"{ids[0]} not requeued: it is sent\n"


@pytest.mark.parametrize(
    "args",
    [
        ("cancel",),
        ("cancel", str(uuid4()), "--tag", "x"),
        ("requeue",),
        ("requeue", "--status", "failed", str(uuid4())),
    ],
)
def test_which_ones_must_be_said_in_one_way(shell, args):
    assert "say which" in shell.refused(*args, code=2)


def test_only_what_can_be_requeued_can_be_asked_for(shell):
    assert "'sent' is not one of" in shell.refused("requeue", "--status", "sent", code=2)


def test_resolve_settles_a_doubt_and_nothing_else(shell, engine):
    doubt = failed(shell, engine, status="in_doubt")
    assert shell("resolve", doubt, "--sent") == f"{doubt} sent\n"
    assert shell("resolve", doubt, "--sent") == f"{doubt} sent\n", "as all other acts it may be repeated"
    assert "is failed, not in_doubt" in shell.refused("resolve", failed(shell, engine), "--sent")


# --- runs, status, pause, purge ---


def test_runs_and_run_have_their_shape(shell, engine):
    reservation_id = failed(shell, engine)
    run_id = a_run(engine, reservation_id)
    [row] = shell.json("runs")
    assert list(row) == [
        *("run_id", "trigger", "outcome", "started_at", "finished_at", "duration"),
        *("sent", "failed", "deferred", "in_doubt", "expired", "held_back", "remaining", "running"),
    ]
    assert (row["run_id"], row["trigger"], row["outcome"], row["duration"]) == (run_id, "beat", "completed", 1.5)
    assert "7" in shell("runs")
    text = f"[error]Index:1,ReservationID:{reservation_id},Errors:[550 no such user <ada@example.com> a\\nb]"
    assert shell.json("run", run_id)["errors"] == [text]
    assert text in shell("run", run_id)
    assert shell("runs", "--job", "purge") == "no runs yet\n"


def test_show_tells_the_whole_life_of_a_mail(shell, engine):
    mail, run = shell("reserve", *LETTER).strip(), uuid4()
    verdicts = {
        "ada@example.com": {"kind": "accepted", "code": 250, "text": "2.0.0 ok"},
        "bob@example.com": {"kind": "deferred", "code": 452, "text": "4.2.2 full"},
    }
    told = {"reply_code": 452, "reply_text": "4.2.2 full", "enhanced_code": "4.2.2", "verdicts": verdicts}
    tries = [
        {"claim_no": 1, "outcome": "in_doubt", "reply_text": "no verdict", "lane": 0},
        {"claim_no": 2, "outcome": "deferred", "relay": "relay:25", "lane": 3, **told},
    ]
    with engine.begin() as connection:
        for number, row in enumerate(tries):
            whole = {"reservation_id": mail, "run_id": run, "ended_at": now(number - 9), **row}
            connection.execute(sa.insert(mail_attempts).values(whole))
    change(engine, mail, status="sent", sent_at=now(), finished_at=now(), relay="relay:25", run_id=run, lane=1)
    life = shell("show", mail).partition("its life:\n")[2].splitlines()[1:]
    whats = [line.removeprefix(line.split("Z")[0] + "Z").split()[0] for line in life]
    assert whats == ["reserved", "in_doubt", "deferred", "accepted", "deferred", "accepted", "is"]
    found = "\n".join(life)
    assert f"…{str(run)[-8:]} lane 3" in found
    assert "bob@example.com" in found
    assert "452 4.2.2 full" in found
    assert life[-1].endswith("is sent")
    assert shell.json("show", mail)["mail_attempts"][1]["enhanced_code"] == "4.2.2"


def test_what_is_in_doubt_is_listed_explained_and_settled_by_hand(shell, engine):
    mail = failed(shell, engine, status="in_doubt", last_error="no verdict", wire_at=now(-60), message_id="<1@x>")
    assert [row["id"] for row in shell.json("list", "--status", "in_doubt")] == [mail]
    assert "no verdict" in shell("list", "--status", "in_doubt")
    assert f"mailbatch resolve {mail} --sent" in shell("explain", mail)
    shell("resolve", mail, "--sent")
    assert shell.json("explain", mail)["reason"] == "sent"
    assert shell.json("list", "--status", "in_doubt") == []


def test_status_has_its_shape(shell, engine, redis_url):
    shell.set("MAILBATCH_REDIS_URL", redis_url)
    shell("reserve", *LETTER)
    a_run(engine)
    with engine.begin() as connection:
        connection.execute(sa.insert(batch_schedule).values(name="send-all", next_tick_at=now(60)))
    found = shell.json("status")
    assert list(found) == [
        *("paused", "pause", "running", "progress", "next_run_at", "last_run"),
        *("reservations", "exact", "due", "oldest_due_seconds", "under_way", "unanswered_seconds", "relay", "blocks"),
        *("warnings", "down"),
    ]
    assert (found["under_way"], found["unanswered_seconds"]) == (0, None)
    assert found["relay"] == {"name": "localhost:1025", "state": "closed", "until": None, "reason": None}
    assert found["warnings"] == []
    assert (found["paused"], found["running"], found["progress"]) == (False, False, None)
    assert found["next_run_at"].endswith("Z")
    assert found["last_run"]["sent"] == 7
    assert found["reservations"] == {s.value: int(s is Status.PENDING) for s in Status}
    assert (found["exact"], found["due"]) == (True, 1)
    assert "1 pending" in shell("status")


def test_pause_and_resume_are_there_for_all_to_see(shell, redis_url):
    shell.set("MAILBATCH_REDIS_URL", redis_url)
    for args, paused in (
        (("pause",), "ticks"),
        (("pause", "--all"), "all"),
        (("pause",), "ticks"),
        (("resume",), False),
    ):
        shell(*args)
        shell(*args)
        found = shell.json("status")
        assert (found["paused"], found["pause"]) == (paused, paused or "none")


def test_purge_needs_an_age(shell, engine):
    failed(shell, engine, created_at=now(-86400 * 3))
    assert "MAILBATCH_RETENTION_DAYS is 0" in shell.refused("purge")
    assert shell("purge", "--older-than", "5") == "0 deleted\n"
    shell.set("MAILBATCH_RETENTION_DAYS", "2")
    assert shell.json("purge") == {"deleted": 1}


# --- mistakes ---


def test_no_command_but_help_lists_them_all(shell):
    listed = shell("--help")
    for name in ("migrate", "reserve", "import", "send-all", "doctor", "demo"):
        assert f"\n  {name} " in listed
    shell(code=2)
    assert "Usage: mailbatch" in shell.err
    assert "No such command 'sned-all'. Did you mean send-all?" in shell.refused("sned-all", code=2)


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        (("SEND_ALL",), "send-all"),
        (("stauts", "--json"), "status"),
        (("reque",), "requeue"),
        (("cancle", "--tag", "x"), "cancel"),
        (("imports", "x.csv"), "import"),
        (("config", "shwo"), "show"),
        (("config", "chekc"), "check"),
    ],
)
def test_a_misspelt_command_costs_a_line_that_names_the_one_that_was_meant(shell, given, meant):
    assert f". Did you mean {meant}?" in shell.refused(*given, code=2).replace("'", "")
    assert "Did you mean" not in shell.refused("xyzzy", code=2)


@pytest.mark.parametrize(
    "args",
    [
        ("list",),
        ("reserve", *LETTER),
        ("runs",),
        ("actions",),
        ("config", "show"),
        ("migrate",),
        ("duplicates",),
        ("plan",),
    ],
)
def test_a_misspelt_variable_is_named_by_every_command(shell, args):
    shell.set("MAILBATCH_CONECTIONS", "2")
    shell(*args)
    assert shell.err == "mailbatch: MAILBATCH_CONECTIONS is no setting; did you mean MAILBATCH_CONNECTIONS?\n"


def test_a_misspelt_variable_is_named_by_a_command_that_it_keeps_from_its_work(shell):
    shell.set("MAILBATCH_HEARTBEAT_FIL", "x")
    shell("healthcheck", code=2)
    slip, line = shell.err.splitlines()
    assert slip == "mailbatch: MAILBATCH_HEARTBEAT_FIL is no setting; did you mean MAILBATCH_HEARTBEAT_FILE?"
    assert "names no file" in line


@pytest.mark.parametrize("command", ["migrate", "reserve", "import", "list", "show", "cancel", "requeue", "resolve"])
@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_each_command_has_help(shell, command, flag):
    assert "Usage: mailbatch" in shell(command, flag)


def test_help_imports_nothing_heavy():
    code = (
        "import sys; from mailbatch.interfaces.cli.main import run; run(['--help']); "
        "print([m for m in ('sqlalchemy', 'celery', 'pydantic', 'rich', 'redis') if m in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("LEASE", "0", "MAILBATCH_LEASE=0: must be greater than or equal to 1"),
        ("TIMEZONE", "Mars/Olympus", "MAILBATCH_TIMEZONE=Mars/Olympus: must be a time zone's name"),
        ("DATABASE_URL", "oracle://u:geheim@h/x", "MAILBATCH_DATABASE_URL=oracle://u:***@h/x: must be"),
        ("SCHEDULE", "never", "MAILBATCH_SCHEDULE=never: must be seconds"),
        ("DATABASE_URL", "postgresql://u:ge@heim@h/x", "MAILBATCH_DATABASE_URL=postgresql://u:***@h/x: has more than"),
        ("DATABASE_URL", "postgresql://u:geheim@h:99999/x", "u:***@h:***: has a port that is no number"),
        ("SMTP_URL", "smtps://u:geheim@h?ca_file=/no/ca.pem", "ca_file: must be an existing PEM file"),
        ("DATABASE_URL", "postgresql://u:geheim@[::1/x", "u:***@***: has a host that cannot be read"),
        ("DATABASE_URL", "postgresql://u:geheim@h:port/x", "u:***@h:***: has a port that is no number"),
        ("REDIS_URL", "redis://:geheim@h/cache", "redis://:***@h/***: must end with the number of a database"),
        ("SMTP_URL", "smtp://u:ge heim@h", "MAILBATCH_SMTP_URL=smtp://u:***@h: url: has a blank"),
        ("SMTP_URL", "smtp://house/u:geheim@h:587", "MAILBATCH_SMTP_URL=smtp://house/u:***@h:587: path: nothing but"),
        ("SMTP_URL", "smtp://u@b.example:ge heim@h", "MAILBATCH_SMTP_URL=smtp://u@b.example:***@h: "),
        ("DATABASE_URL", "postgresql://h:99999/x?password=ge heim", "?password=***: has a port that is no number"),
        ("WEBHOOK_URL", "htps://h.example/services/geheim", "MAILBATCH_WEBHOOK_URL=htps://h.example/***: must begin"),
        ("WEBHOOK_URL", "h.example/services/geheim", "MAILBATCH_WEBHOOK_URL=***: must begin with https://"),
        ("SENDER", "a@b.example\nBcc: x@y.example", "MAILBATCH_SENDER=a@b.example\\nBcc: x@y.example: "),
    ],
)
@pytest.mark.parametrize("command", ["list", "doctor", "migrate", "send-all"])
def test_a_bad_setting_stops_every_command(shell, name, value, said, command):
    shell.set(f"MAILBATCH_{name}", value)
    line = shell.refused(command, code=2)
    assert said in line
    assert "heim" not in line


def test_a_broker_that_is_away_is_named_with_what_to_check(shell):
    shell.set("MAILBATCH_REDIS_URL", "redis://:geheim@127.0.0.1:1/0")
    line = shell.refused("send-all")
    assert line.startswith("mailbatch: Redis: ")
    assert "check MAILBATCH_REDIS_URL" in line
    assert "geheim" not in line


@pytest.mark.parametrize("args", [("list",), ("reserve", *LETTER), ("pause",), ("send-all", "--here", "--no-lock")])
def test_a_database_without_tables_says_what_to_run(shell, tmp_path, args):
    shell.set("MAILBATCH_DATABASE_URL", f"sqlite:///{tmp_path / 'other.db'}")
    assert f"{tmp_path / 'other.db'} has no mailbatch tables; run `mailbatch migrate`" in shell.refused(*args)
    shell("migrate")
    assert "already" in shell("migrate")
    shell("list")


@pytest.mark.parametrize("url", ["postgresql://u:geheim@127.0.0.1:1/x", "sqlite:////nowhere/at/all.db"])
def test_a_database_out_of_reach_costs_a_line(shell, url):
    shell.set("MAILBATCH_DATABASE_URL", url)
    assert "geheim" not in shell.refused("list")


@pytest.mark.parametrize("args", [("send-all",), ("send-all", "--here")])
def test_redis_out_of_reach_costs_a_line(shell, args):
    shell.set("MAILBATCH_REDIS_URL", "redis://:geheim@127.0.0.1:1/0")
    shell.set("MAILBATCH_LOG_LEVEL", "CRITICAL")
    line = shell.refused(*args)
    assert "127.0.0.1:1" in line
    assert "geheim" not in line


def test_without_redis_it_is_sent_from_here_without_a_lock(shell, smtp_sink):
    shell.set("MAILBATCH_REDIS_URL", "redis://127.0.0.1:1/0")
    shell.set("MAILBATCH_SMTP_URL", smtp_sink.url)
    shell.set("MAILBATCH_LOG_LEVEL", "CRITICAL")
    shell("reserve", *LETTER)
    report = shell.json("send-all", "--here", "--no-lock")
    assert (report["outcome"], report["sent"], report["trigger"]) == ("completed", 1, "manual")
    assert "--no-lock only goes with --here" in shell.refused("send-all", "--no-lock", code=2)


def test_an_unreachable_relay_fails_the_run_and_no_mail(shell):
    shell.set("MAILBATCH_SMTP_URL", "smtp://127.0.0.1:1")
    shell.set("MAILBATCH_LOG_LEVEL", "CRITICAL")
    shell("reserve", *LETTER)
    report = shell.json("send-all", "--here", "--no-lock", code=1)
    assert (report["outcome"], report["remaining"]) == ("failed", 1)
    [row] = shell.json("list")
    assert (row["status"], row["attempts"]) == ("pending", 0)


def test_no_worker_is_said_soon_and_nothing_is_queued(shell, redis_url):
    shell.set("MAILBATCH_REDIS_URL", redis_url)
    assert "no worker answered" in shell.refused("send-all")
    from mailbatch.infrastructure.redis.client import connect as redis

    with redis(redis_url) as client:
        assert not [key for key in client.scan_iter() if client.type(key) == "list"]


# --- doctor ---


def test_doctor_finds_nothing_wrong_where_nothing_is(shell, redis_url, smtp_sink):
    shell.set("MAILBATCH_REDIS_URL", redis_url)
    shell.set("MAILBATCH_SMTP_URL", smtp_sink.url)
    found = shell.json("doctor")
    checks = ("settings", "folders", "database", "redis", "celery", "smtp", "workers", "runs", "mails")
    assert [(f["check"], f["ok"]) for f in found] == [(check, True) for check in checks]


def test_status_and_doctor_tell_of_a_relay_that_is_left_alone_and_of_a_run_that_died(shell, engine, redis_url):
    shell.set("MAILBATCH_REDIS_URL", redis_url)
    SqlCircuits(engine).open("localhost:1025", "421 too busy for ada@example.com", 600)
    with engine.begin() as connection:
        row = {
            "run_id": uuid4(),
            "job": "send-all",
            "trigger": "beat",
            "started_at": now(-99),
            "heartbeat_at": now(-99),
        }
        connection.execute(sa.insert(batch_runs).values(**row))
    found = shell.json("status")
    assert (found["relay"]["state"], found["relay"]["reason"]) == ("open", "421 too busy for ***@example.com")
    assert found["relay"]["until"].endswith("Z")
    assert [(w["name"], w["level"]) for w in found["warnings"]] == [("run_died", "error"), ("relay_away", "warning")]
    assert set(found["warnings"][0]) == {"name", "level", "what", "since", "advice"}
    shown = shell("status")
    assert "localhost:1025 is left alone until" in shown
    assert f"run {row['run_id']} of send-all is silent" in shown
    [said] = [f["found"] for f in shell.json("doctor", code=1) if f["check"] == "runs"]
    assert "is silent: its process died" in said


def test_status_and_doctor_say_loudly_that_a_relay_takes_no_mail_over_a_quota(shell, engine, redis_url):
    shell.set("MAILBATCH_REDIS_URL", redis_url)
    reason = "our quota there is used up: 454 4.7.0 Throttling failure: Daily message quota exceeded."
    SqlCircuits(engine).open("localhost:1025", reason, 3600, Concern.QUOTA)
    [warning] = shell.json("status")["warnings"]
    assert (warning["name"], warning["level"]) == ("relay_refuses", "error")
    shown = shell("status")
    assert "error" in shown
    assert "takes no mail and is left alone until" in shown
    assert "Daily message quota exceeded" in shown
    [said] = [f["found"] for f in shell.json("doctor", code=1) if f["check"] == "runs"]
    assert "takes no mail and is left alone until" in said


def test_doctor_says_all_that_is_wrong_and_what_to_do(shell, tmp_path):
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        shell.set("MAILBATCH_SMTP_URL", f"smtp://127.0.0.1:{silent.getsockname()[1]}")
        shell.set("MAILBATCH_REDIS_URL", "redis://:geheim@127.0.0.1:1/0")
        shell.set("MAILBATCH_DATABASE_URL", f"sqlite:///{tmp_path / 'none.db'}")
        shell.set("MAILBATCH_SENDR", "x")
        lines = shell("doctor", code=1).splitlines()
    folders = lines.pop(1)
    assert folders.split()[:2] == ["ok", "folders"]
    assert [line.split()[:2] for line in lines] == [
        ["wrong", check] for check in ("settings", "database", "redis", "celery", "smtp", "workers")
    ]
    assert "MAILBATCH_SENDR is no setting; did you mean MAILBATCH_SENDER?" in lines[0]
    assert "run `mailbatch migrate`" in lines[1]
    assert "check MAILBATCH_REDIS_URL" in lines[2]
    assert "check MAILBATCH_REDIS_URL" in lines[3]
    assert "check MAILBATCH_SMTP_URL" in lines[4]
    assert "cannot be asked without their broker" in lines[5]
    assert "geheim" not in "".join(lines)


# --- as a process ---


def test_the_script_itself_fails_without_a_traceback(sqlite_stack: Stack):
    for args, code in ((("reserve", "--to", "x"), 1), (("show", "x"), 2), (("list", "--limit", "0"), 2)):
        done = sqlite_stack.cli(*args)
        assert (done.returncode, done.stdout) == (code, "")
        assert re.fullmatch(r"mailbatch: .*\n", done.stderr)


def test_a_reader_that_has_seen_enough_gets_no_complaint(sqlite_stack: Stack):
    rows = "".join(f"u{i}@example.com,{'x' * 200},t\n" for i in range(2000))
    (sqlite_stack.folder).mkdir(exist_ok=True)
    (sqlite_stack.folder / "m.csv").write_text(f"recipients,subject,body_text\n{rows}")
    assert sqlite_stack.cli("import", "m.csv").returncode == 0
    done = sqlite_stack.run("bash", "-c", "mailbatch list --limit 2000 --json | head -1")
    assert (done.stdout, done.stderr) == ("[\n", "")


def test_output_in_another_encoding_is_escaped_and_json_stays_json(sqlite_stack: Stack):
    reservation_id = sqlite_stack.cli("reserve", *LETTER, "--tag", "Grüße 🎉").stdout.strip()
    done = sqlite_stack.run("bash", "-c", f"PYTHONIOENCODING=latin-1 mailbatch show {reservation_id} --json")
    assert json.loads(done.stdout)["tag"] == "Grüße 🎉"
    done = sqlite_stack.run("bash", "-c", f"PYTHONIOENCODING=latin-1 mailbatch show {reservation_id} | iconv -f latin1")
    assert "Grüße \\U0001f389" in done.stdout


def test_bodies_come_from_stdin_too(sqlite_stack: Stack):
    done = sqlite_stack.cli("reserve", "--to", "a@example.com", "--subject", "s", "--text", "-", stdin="Grüße\n")
    assert sqlite_stack.json("show", done.stdout.strip())["body_text"] == "Grüße\n"


@pytest.mark.parametrize(
    ("line", "code", "said"),
    [
        ("mailbatch list >&-", 0, ""),
        ("mailbatch list 2>&-", 0, "no reservations\n"),
        ("mailbatch cancel --to x <&-", 0, "0 cancelled\n"),
        ("mailbatch reserve --to x >&- 2>&-", 1, ""),
        ("mailbatch list >/dev/full", 1, "mailbatch: [Errno 28] No space left on device\n"),
    ],
)
def test_streams_that_are_closed_or_full_cost_no_traceback(sqlite_stack: Stack, line, code, said):
    done = sqlite_stack.run("bash", "-c", line)
    assert (done.returncode, done.stdout + done.stderr) == (code, said)


@pytest.mark.parametrize(
    "args",
    [(c, "--limit", "9" * 30) for c in ("list", "runs", "actions", "duplicates", "plan")],
)
def test_more_than_any_number_is_all(shell, args):
    shell("reserve", *LETTER)
    shell(*args)


@pytest.mark.parametrize("args", [("purge", "--older-than"), ("top", "--interval"), ("healthcheck", "--within")])
@pytest.mark.parametrize("number", ["nan", "inf"])
def test_what_is_no_amount_is_refused(shell, args, number):
    assert "is no" in shell.refused(*args, number, code=2)


def test_a_pipe_is_imported_too(sqlite_stack: Stack):
    sqlite_stack.folder.mkdir(exist_ok=True)
    rows = "recipients,subject,body_text\\na@example.com,s,t\\n"
    done = sqlite_stack.run("bash", "-c", f"mkfifo pipe.csv; printf '{rows}' >pipe.csv & mailbatch import pipe.csv")
    assert (done.stdout, done.stderr) == ("1 imported\n", "")
