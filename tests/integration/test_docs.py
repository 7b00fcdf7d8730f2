"""What the documentation tells people to type does what it says."""

from __future__ import annotations

import json
import re
import shlex
import sqlite3
import subprocess
import tomllib
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import psycopg
import pytest
from sqlalchemy import create_engine, update
from support.waiting import wait_until

import mailbatch.client
from mailbatch.config import PREFIX, Settings
from mailbatch.domain.own_headers import OWN_HEADERS
from mailbatch.infrastructure.db.tables import mail_reservations, metadata
from mailbatch.infrastructure.db.types import now
from mailbatch.infrastructure.redis.client import connect

if TYPE_CHECKING:
    import redis

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(page: Path, language: str, under: str | None = None) -> list[str]:
    text = page.read_text(encoding="utf-8")
    if under is not None:
        text = text.partition(f"\n## {under}\n")[2].partition("\n## ")[0]
    found = [block for name, block in _BLOCK.findall(text) if name == language]
    assert found, f"{page} has no {language} block under {under}"
    return found


@pytest.fixture
def postgres(postgres_url):
    with psycopg.connect(postgres_url.replace("+psycopg", ""), autocommit=True) as connection:
        yield connection


def test_the_psql_inserts_reserve_and_the_update_takes_back(postgres):
    minimal, full, cancel = blocks(DOCS / "how-to" / "any-language.md", "sql", "psql")
    postgres.execute(minimal)
    assert len(postgres.execute(full).fetchall()) == 1
    assert postgres.execute(full).fetchall() == [], "the key was used before"
    assert postgres.execute(cancel).rowcount == 1
    assert postgres.execute(cancel).rowcount == 0, "it is cancelled already"
    rows = postgres.execute("SELECT recipients, status FROM mail_reservations ORDER BY status DESC").fetchall()
    assert rows == [
        ("Ann Example <ann@example.com>", "pending"),
        ("Zoë Müller <zoe@bücher.example>", "cancelled"),
    ]


def test_the_useful_questions_can_be_asked(postgres):
    for block in blocks(DOCS / "reference" / "table.md", "sql"):
        for statement in filter(str.strip, block.split(";")):
            postgres.execute(statement)


def test_every_table_is_described():
    page = (DOCS / "reference" / "table.md").read_text(encoding="utf-8")
    described = set(re.findall(r"^\| `([a-z_]+)` \|", page.partition("## The other tables")[2], re.MULTILINE))
    assert described == {*metadata.tables} - {"mail_reservations"} | {"mailbatch_alembic_version"}
    columns = page.partition("## The other tables")[0]
    assert [c.name for c in metadata.tables["mail_reservations"].c if f"`{c.name}`" not in columns] == []


def test_an_application_that_only_reserves_needs_no_more_than_the_grants_named(postgres):
    role = "shop_docs"
    postgres.execute(f"CREATE ROLE {role}")
    try:
        postgres.execute(f"GRANT INSERT, SELECT (id, idempotency_key) ON mail_reservations TO {role}")
        postgres.execute(f"SET ROLE {role}")
        _, full, _ = blocks(DOCS / "how-to" / "any-language.md", "sql", "psql")
        assert len(postgres.execute(full).fetchall()) == 1
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            postgres.execute("SELECT subject FROM mail_reservations")
    finally:
        postgres.execute("RESET ROLE")
        postgres.execute(f"DROP OWNED BY {role}")
        postgres.execute(f"DROP ROLE {role}")


def test_the_sqlite_insert_reserves(sqlite_url):
    path = unquote(sqlite_url.removeprefix("sqlite:///"))
    (insert,) = blocks(DOCS / "how-to" / "any-language.md", "sql", "sqlite3")
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(insert)
        ((recipients, scheduled, due),) = connection.execute(
            "SELECT recipients, scheduled_at, due_at FROM mail_reservations"
        )
    assert recipients == "ann@example.com"
    assert scheduled == due
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}", scheduled)


@pytest.mark.parametrize("state", ["pending", "sending", "sent", "cancelled"])
def test_the_upsert_changes_what_is_pending_and_nothing_else(database_url, state):
    (upsert,) = blocks(DOCS / "how-to" / "any-language.md", "sql", "Change it before it goes")
    changed = upsert.replace("Tuesday", "Friday")
    engine = create_engine(database_url)
    with engine.begin() as connection:
        ((first,),) = connection.exec_driver_sql(upsert).all()
        lease = now() if state == "sending" else None
        connection.execute(update(mail_reservations).values(status=state, lease_until=lease))
        again = [row[0] for row in connection.exec_driver_sql(changed).all()]
        ((body, found),) = connection.exec_driver_sql("SELECT body_text, status FROM mail_reservations").all()
    engine.dispose()
    assert again == ([first] if state == "pending" else [])
    assert (body, found) == (f"It comes on {'Friday' if state == 'pending' else 'Tuesday'}.", state)


def test_the_page_on_bounces_tells_how_an_address_is_signed_and_read():
    page = DOCS / "how-to" / "bounces.md"
    (reading,) = blocks(page, "python")
    names: dict[str, object] = {}
    exec(reading, names)  # noqa: S102 - our own page
    assert str(names["reservation_id"]) == "01977420-0000-7000-8000-000000000001"
    (signing,) = [block for block in blocks(page, "sh") if "openssl" in block]
    signed = subprocess.run(["sh", "-c", signing], check=True, capture_output=True, text=True).stdout.strip()
    assert f".{signed}@" in reading


def test_the_insert_of_a_finished_message_reserves_it(postgres):
    (insert,) = blocks(DOCS / "how-to" / "finished-messages.md", "sql")
    postgres.execute(insert)
    ((message, subject),) = postgres.execute("SELECT message, subject FROM mail_reservations").fetchall()
    assert bytes(message).endswith(b"\n\nThank you.\n")
    assert subject is None


def test_the_python_example_of_a_finished_message_reserves_it_for_all_its_recipients(sqlite_url):
    (example,) = blocks(DOCS / "how-to" / "finished-messages.md", "python")
    engine = create_engine(sqlite_url)
    with engine.begin() as connection:
        names = {"session": connection, "mailbatch": mailbatch, "calendar_entry": "BEGIN:VCALENDAR\r\n"}
        exec(example, names)  # noqa: S102 - our own page
        ((to, message),) = connection.exec_driver_sql("SELECT recipients, message FROM mail_reservations").all()
    engine.dispose()
    assert to == '"Ann" <ann@example.com>, archive@example.com'
    assert b"archive" not in message
    assert b'method="REQUEST"' in message.replace(b"'", b'"')


def test_each_field_that_headers_may_not_set_is_listed_with_its_column():
    page = (DOCS / "reference" / "table.md").read_text(encoding="utf-8")
    table = page.partition("### Fields that `headers` may not have")[2].partition("\n## ")[0]
    rows = [line.split("|")[1:3] for line in table.splitlines() if line.startswith("| `")]
    listed = {name.lower(): instead for fields, instead in rows for name in re.findall(r"`([^`]+)`", fields)}
    assert listed.keys() == OWN_HEADERS.keys()
    for name, column in OWN_HEADERS.items():
        assert (f"`{column}`" in listed[name]) if column else listed[name].strip().startswith("nothing"), name


def test_every_setting_is_described_and_none_that_does_not_exist():
    page = (DOCS / "reference" / "settings.md").read_text(encoding="utf-8")
    described = re.findall(rf"^\| `({PREFIX}[A-Z_]+)` \|", page, re.MULTILINE)
    assert sorted(described) == sorted(f"{PREFIX}{name.upper()}" for name in Settings.model_fields)


def test_the_defaults_described_are_the_defaults():
    page = (DOCS / "reference" / "settings.md").read_text(encoding="utf-8")
    rows = re.findall(rf"^\| `{PREFIX}([A-Z_]+)` \| (?:`([^`]*)`|(–))", page, re.MULTILINE)
    described = {name.lower(): default if dash == "" else None for name, default, dash in rows}
    for name, field in Settings.model_fields.items():
        default = getattr(field.default, "value", field.default)
        if isinstance(default, bool):
            default = "yes" if default else "no"
        assert described[name] == (None if default is None else str(default)), name


def test_settings_named_anywhere_in_the_documentation_exist():
    known = {f"{PREFIX}{name.upper()}" for name in Settings.model_fields}
    slips = {"MAILBATCH_CONECTIONS"}  # shown as an example of one
    pages = [ROOT / "README.md", *DOCS.rglob("*.md"), *(ROOT / "deploy").rglob("*"), ROOT / "docker-compose.yml"]
    for page in filter(Path.is_file, pages):
        named = set(re.findall(rf"\b{PREFIX}[A-Z_]*[A-Z]\b", page.read_text(encoding="utf-8")))
        assert named - slips <= known, page


def test_every_link_inside_the_documentation_leads_somewhere():
    for page in [*ROOT.glob("*.md"), *DOCS.rglob("*.md"), ROOT / "examples" / "README.md"]:
        for target, anchor in re.findall(
            r"\]\((?!https?:|mailto:)([^)#\s]*)(?:#([^)\s]+))?\)", page.read_text("utf-8")
        ):
            file = (page.parent / target).resolve() if target else page
            assert file.exists(), f"{page}: {target}"
            if anchor:
                titles = re.findall(r"^#+ (.+)$", file.read_text("utf-8"), re.MULTILINE)
                slugs = {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}
                assert anchor in slugs, f"{page}: {target}#{anchor}"


def test_every_page_of_the_documentation_is_reached_by_links_from_the_readme():
    reached, ahead = set(), [ROOT / "README.md"]
    while ahead:
        page = ahead.pop()
        reached.add(page)
        links = [link.partition("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text())]
        pages = {(page.parent / link).resolve() for link in links if link.endswith(".md") and "//" not in link}
        ahead += pages - reached - set(ahead)
    assert set(DOCS.rglob("*.md")) <= reached


def test_every_direct_dependency_has_its_reason():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    asked = [*project["project"]["dependencies"]]
    for group in (*project["project"]["optional-dependencies"].values(), *project["dependency-groups"].values()):
        asked += [line for line in group if isinstance(line, str) and not line.startswith("mailbatch")]
    reasons = (DOCS / "dependencies.md").read_text(encoding="utf-8")
    for name in [re.match(r"[\w-]+", line)[0] for line in asked]:
        assert re.search(rf"^\|.*\b{name}\b.*\|$", reasons, re.MULTILINE), name


# --- with a real worker ---


def raw_message() -> dict[str, Any]:
    (message,) = blocks(DOCS / "how-to" / "any-language.md", "json", "Send now, without waiting for the tick")
    return json.loads(message)


def ended(client: redis.Redis, task: str) -> dict[str, Any]:
    """The stored result of ``task``, once it has ended."""

    def asked() -> dict[str, Any] | None:
        found = json.loads(client.get(f"mailbatch:celery-task-meta-{task}") or "{}")
        return found if found.get("status") in {"SUCCESS", "FAILURE"} else None

    return wait_until(asked, 30, f"task {task} has ended")


@pytest.fixture
def redis_client(redis_url):
    with connect(redis_url) as client:
        yield client


def test_the_raw_redis_message_calls_send_all(sqlite_stack, redis_client):
    message = raw_message()
    sqlite_stack.worker("-c", "1")
    redis_client.lpush("mailbatch:mailbatch", json.dumps(message))
    result = ended(redis_client, message["headers"]["id"])
    assert result["status"] == "SUCCESS", result
    assert (result["result"]["outcome"], result["result"]["trigger"]) == ("completed", "manual")


def test_the_redis_cli_line_pushes_the_same_message():
    line = next(line for line in blocks(DOCS / "how-to" / "any-language.md", "sh")[0].splitlines() if "LPUSH" in line)
    pushed = json.loads("".join(shlex.split(line)[3:]).replace("$ID", raw_message()["headers"]["id"]))
    assert pushed == raw_message()


def test_the_batch_of_ones_own_runs_as_written(sqlite_stack, redis_client):
    program, schedule = blocks(DOCS / "how-to" / "own-batch.md", "python")
    sqlite_stack.folder.mkdir(parents=True, exist_ok=True)
    (sqlite_stack.folder / "overdue.py").write_text(program, encoding="utf-8")
    (sqlite_stack.folder / "celeryconfig.py").write_text(schedule, encoding="utf-8")
    path = unquote(sqlite_stack.database_url.removeprefix("sqlite:///"))
    with closing(sqlite3.connect(path)) as connection, connection:
        (table,) = blocks(DOCS / "how-to" / "own-batch.md", "sql")
        connection.execute(table)
        connection.executemany(
            "INSERT INTO invoices VALUES (?, ?, ?, ?)",
            [
                ("10000000-0000-4000-8000-000000000001", "A-1", "ann@example.com", "2020-01-01"),
                ("10000000-0000-4000-8000-000000000002", "A-2", "no address", "2020-01-01"),
                ("10000000-0000-4000-8000-000000000003", "A-3", "bob@example.com", "2999-01-01"),
            ],
        )
    sqlite_stack.worker("-c", "1")
    task = sqlite_stack.call("remind-overdue")
    report = ended(redis_client, task)["result"]
    assert (report["outcome"], report["sent"], report["failed"]) == ("completed", 1, 1)
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT recipients FROM mail_reservations").fetchall() == [("ann@example.com",)]
        assert connection.execute("SELECT job, outcome FROM batch_runs").fetchall() == [("remind-overdue", "completed")]
        ((errors,),) = connection.execute("SELECT errors FROM run_errors").fetchall()
    assert "to: " in errors
