"""What the documentation tells people to type does what it says."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from pathlib import Path
from urllib.parse import unquote

import psycopg
import pytest

from mailbatch.config import PREFIX, Settings

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


def test_every_setting_is_described_and_none_that_does_not_exist():
    page = (DOCS / "reference" / "settings.md").read_text(encoding="utf-8")
    described = re.findall(rf"^\| `({PREFIX}[A-Z_]+)` \|", page, re.MULTILINE)
    assert sorted(described) == sorted(f"{PREFIX}{name.upper()}" for name in Settings.model_fields)


def test_the_defaults_described_are_the_defaults():
    page = (DOCS / "reference" / "settings.md").read_text(encoding="utf-8")
    rows = re.findall(rf"^\| `{PREFIX}([A-Z_]+)` \| (?:`([^`]*)`|(–))", page, re.MULTILINE)
    described = {name.lower(): default if dash == "" else None for name, default, dash in rows}
    for name, field in Settings.model_fields.items():
        default = None if field.default is None else str(getattr(field.default, "value", field.default))
        assert described[name] == default, name


def test_settings_named_anywhere_in_the_documentation_exist():
    known = {f"{PREFIX}{name.upper()}" for name in Settings.model_fields}
    slips = {"MAILBATCH_CONECTIONS"}  # shown as an example of one
    pages = [ROOT / "README.md", *DOCS.rglob("*.md"), *(ROOT / "deploy").rglob("*"), ROOT / "docker-compose.yml"]
    for page in filter(Path.is_file, pages):
        named = set(re.findall(rf"\b{PREFIX}[A-Z_]*[A-Z]\b", page.read_text(encoding="utf-8")))
        assert named - slips <= known, page


def test_every_link_inside_the_documentation_leads_somewhere():
    for page in [ROOT / "README.md", *DOCS.rglob("*.md"), ROOT / "examples" / "README.md"]:
        for target, anchor in re.findall(
            r"\]\((?!https?:|mailto:)([^)#\s]*)(?:#([^)\s]+))?\)", page.read_text("utf-8")
        ):
            file = (page.parent / target).resolve() if target else page
            assert file.exists(), f"{page}: {target}"
            if anchor:
                titles = re.findall(r"^#+ (.+)$", file.read_text("utf-8"), re.MULTILINE)
                slugs = {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}
                assert anchor in slugs, f"{page}: {target}#{anchor}"
