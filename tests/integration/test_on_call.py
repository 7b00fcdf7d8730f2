"""The ten questions of the night: one command and one page answer each, as docs/on-call.md says."""

from __future__ import annotations

import json
import re
import shlex
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support.api import Api
from support.backlogs import reserve
from support.pages import Browser

from mailbatch.domain.finding import ALL_IS_WELL

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from support.sink import Sink

DOCS = Path(__file__).resolve().parents[2] / "docs"


def questions() -> dict[str, str]:
    """Each question of the page with what is said to it."""
    text = (DOCS / "on-call.md").read_text(encoding="utf-8")
    return dict(re.findall(r"^## (\d+\. .+?)\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL))


def commands(answer: str) -> list[str]:
    return re.findall(r"^\$ (.+)$", answer, re.MULTILINE)


def pages(answer: str) -> list[str]:
    return re.findall(r"^Page: `(/[^`]*)`", answer, re.MULTILINE)


@pytest.fixture
def say(
    say: Callable[..., tuple[int, str, str]], sqlite_url: str, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> Any:
    """Commands on an SQLite database and a Redis."""
    monkeypatch.setenv("MAILBATCH_DATABASE_URL", sqlite_url)
    monkeypatch.setenv("MAILBATCH_REDIS_URL", redis_url)
    monkeypatch.setenv("MAILBATCH_SENDER", "sender@example.com")
    return say


@pytest.fixture
def browser(sqlite_url: str, redis_url: str) -> Iterator[Browser]:
    with Api({"database_url": sqlite_url, "redis_url": redis_url}) as api:
        yield Browser(api.client)


def test_there_are_ten_each_with_one_command_one_page_and_a_picture() -> None:
    found = questions()
    assert [title.partition(".")[0] for title in found] == [str(n) for n in range(1, 11)]
    for title, answer in found.items():
        assert len(commands(answer)) == 1, title
        assert len(pages(answer)) == 1, title
        assert "](screenshots/" in answer, title
        assert "*How to read it*: " in answer, title


@pytest.mark.parametrize("title", questions())
def test_its_command_answers(
    title: str, say: Any, sqlite_url: str, smtp_sink: Sink, monkeypatch: pytest.MonkeyPatch
) -> None:
    (command,) = commands(questions()[title])
    program, *words = shlex.split(command)
    assert program == "mailbatch"
    reserve(sqlite_url, 1, recipients=words[-1] if "--to" in words else "ann@example.org", tag="newsletter")
    monkeypatch.setenv("MAILBATCH_SMTP_URL", smtp_sink.url)
    code, out, err = say(*words)
    assert code == 0, f"{command}: {out}{err}"
    assert out.strip()


@pytest.mark.parametrize("title", questions())
def test_its_page_opens(title: str, browser: Browser, sqlite_url: str) -> None:
    reserve(sqlite_url, 1)
    own = browser.client.get("/api/reservations").json()["items"][0]["id"]
    (address,) = pages(questions()[title])
    browser.open(address.replace("ID", own))


# --- what the commands say ---


def test_a_mail_is_explained_by_a_part_of_its_address(say: Any, sqlite_url: str) -> None:
    reserve(sqlite_url, 5)
    code, out, _ = say("explain", "--to", "TO3@")
    assert code == 0
    assert "to3@example.org" in out.splitlines()[0]
    assert "It is due" in out.splitlines()[1]
    code, out, _ = say("explain", "--to", "example.org", "--json")
    assert [found["status"] for found in json.loads(out)] == ["pending"] * 3
    code, out, err = say("explain", "--to", "nobody@")
    assert (code, out) == (1, "")
    assert "there is no reservation whose recipients contain nobody@" in err
    for words in ((), ("00000000-0000-4000-8000-000000000000", "--to", "ann")):
        code, _, err = say("explain", *words)
        assert (code, "either an ID or --to" in err) == (2, True)


def test_a_list_that_is_cut_says_how_many_there_are(say: Any, sqlite_url: str) -> None:
    reserve(sqlite_url, 3)
    code, out, err = say("list", "--limit", "2")
    assert (code, len(out.splitlines())) == (0, 3)
    assert err == "the newest 2 of 3; --limit shows more\n"
    code, out, err = say("list", "--limit", "3")
    assert (code, len(out.splitlines()), err) == (0, 4, "")


def test_a_search_that_ends_early_says_how_far_back_it_looked(
    say: Any, sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mailbatch.infrastructure.db.searching.FIRST", 2)
    for door in ("listing", "explain"):
        monkeypatch.setattr(f"mailbatch.interfaces.cli.{door}.PATIENCE", 0.0)
    reserve(sqlite_url, 5)
    reserve(sqlite_url, 1, start=9, created_at=datetime.now(UTC) - timedelta(hours=1))
    code, out, err = say("list", "--to", "to9@")
    assert (code, out) == (0, "no reservations so far\n")
    assert re.fullmatch(r"looked back as far as [\d-]+ \d\d:\d\d; --whole looks through all, --since .*\n", err)
    code, out, err = say("list", "--to", "nobody@", "--whole")
    assert (code, out, err) == (0, "no reservations\n", "")
    assert len(json.loads(say("list", "--to", "example.org", "--json")[1])) == 6
    code, _, err = say("explain", "--to", "nobody@")
    assert (code, "mailbatch list --to nobody@ --whole" in err) == (1, True)


def test_status_says_so_if_nothing_is_wrong(say: Any) -> None:
    assert ALL_IS_WELL in say("status")[1]


def test_the_overview_says_so_if_nothing_is_wrong(browser: Browser) -> None:
    assert f"Runs (ok) {ALL_IS_WELL}" in browser.open("/")
