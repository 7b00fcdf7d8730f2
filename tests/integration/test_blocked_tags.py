"""Blocked tags by every door, and in a run that goes on."""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa
from support.api import OPERATE, READ, Api
from support.backlogs import database, reserve, runs, states
from support.pages import Browser
from support.relay import Relay

from mailbatch.application.sending.gates import blocked_tags, gates
from mailbatch.batch.send_all import send_all
from mailbatch.bootstrap import Parts
from mailbatch.config import Settings
from mailbatch.domain.run import Trigger
from mailbatch.infrastructure.db.tables import mail_reservations

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

WHY = "the tag news is blocked"


@pytest.fixture
def relay(tmp_path: Path) -> Iterator[Relay]:
    with Relay(tmp_path / "relay") as relay:
        relay.offer("DATA")
        yield relay


@pytest.fixture
def parts(database_url: str, relay: Relay) -> Iterator[Parts]:
    given = {"database_url": database_url, "smtp_url": relay.url, "sender": "s@example.com"}
    made = Parts(Settings(**given, connections=1, window=1))
    yield made
    made.close()


def of_tag(url: str, tag: str) -> list[Any]:
    with database(url) as connection:
        mails = sa.select(mail_reservations).where(mail_reservations.c.tag == tag)
        return list(connection.execute(mails.order_by(mail_reservations.c.id)))


def test_a_block_takes_hold_in_a_run_and_lifted_lets_each_mail_go_once(
    parts: Parts, relay: Relay, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gates, "VALID_FOR", 0.0)
    monkeypatch.setattr(blocked_tags, "READ_EVERY", 0.0)
    reserve(database_url, 20, tag="news", priority=1)
    reserve(database_url, 5, tag="orders", start=20)
    relay.script(dot=["hold"])
    thread = threading.Thread(target=send_all(parts, lock=False), args=(Trigger.BEAT,), daemon=True)
    thread.start()
    relay.wait_held()
    assert parts.acting.block_tag.block("cli:ann", "news", "wrong prices")
    reserve(database_url, 3, tag="news", start=25)
    relay.release()
    thread.join(30)
    sent = len([row for row in of_tag(database_url, "news") if row.status == "sent"])
    held = [row for row in of_tag(database_url, "news") if row.status == "pending"]
    assert 1 <= sent <= 3
    assert {(row.attempts, row.waits_for, row.last_error) for row in held} == {(0, WHY, None)}
    assert {row.status for row in of_tag(database_url, "orders")} == {"sent"}
    [first] = runs(database_url)
    assert (first.outcome, first.sent, first.held_back, first.remaining) == (
        "completed",
        sent + 5,
        len(held),
        len(held),
    )
    assert [row.claim_no for row in held] == [1] * len(held)
    send_all(parts, lock=False)(Trigger.BEAT)
    assert {row.claim_no for row in of_tag(database_url, "news")} == {1}, "no run writes a blocked mail again"
    assert parts.acting.block_tag.lift("cli:ann", "news")
    send_all(parts, lock=False)(Trigger.BEAT)
    assert states(database_url) == {"sent": 28}
    assert len(relay.accepted()) == 28


@pytest.fixture
def cli(say: Callable[..., tuple[int, str, str]], sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("COLUMNS", "200")
    given = {"DATABASE_URL": sqlite_url, "SENDER": "s@example.com", "SMTP_URL": "smtp://127.0.0.1:1"}

    def run(*args: str, code: int = 0) -> str:
        found, out, err = say(*args, **given)
        assert found == code, err
        return out if not code else err

    return run


def test_the_command_line_blocks_lists_and_unblocks(cli: Any, sqlite_url: str) -> None:
    reserve(sqlite_url, 2, tag="news")
    own = str(of_tag(sqlite_url, "news")[0].id)
    assert cli("block") == "no tag is blocked\n"
    assert cli("block", "news", "--note", "wrong prices") == "blocked: news; `mailbatch unblock news` ends it\n"
    assert "it was blocked already: news" in cli("block", "news")
    assert "wrong prices" in cli("block")
    assert WHY in cli("explain", own)
    assert f"2 held back: {WHY}" in cli("plan")
    assert "the tag news: 0 held back so far" in cli("status")
    assert json.loads(cli("block", "--json"))[0]["tag"] == "news"
    assert cli("unblock", "news") == "unblocked: news\n"
    assert cli("unblock", "news") == "it was not blocked: news\n"
    assert WHY not in cli("explain", own)
    assert [one["action"] for one in json.loads(cli("actions", "--json"))] == ["unblock", "unblock", "block", "block"]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("block", " "), "tag: must not be empty"),
        (("block", "a\nb"), "tag: has a line break"),
        (("block", "x" * 256), "tag: has 256 characters; at most 255 are allowed"),
        (("unblock", ""), "tag: must not be empty"),
        (("block", "news", "--note", "x" * 501), "note: has 501 characters; at most 500 are allowed"),
    ],
)
def test_a_tag_that_no_mail_can_have_is_refused_in_one_line(cli: Any, given: tuple[str, ...], said: str) -> None:
    err = cli(*given, code=1)
    assert said in err
    assert err.count("\n") == 1


def test_the_api_does_the_same_for_who_may_act(sqlite_url: str) -> None:
    with Api({"database_url": sqlite_url, "api_token": OPERATE, "api_read_token": READ}, OPERATE) as api:
        tag = "a/b c&d"
        for _ in range(2):
            answer = api.client.put("/api/blocks", params={"tag": tag}, json={"note": "why"})
            assert [(one["tag"], one["note"], one["waiting"]) for one in answer.json()["items"]] == [(tag, "why", 0)]
        assert [one["tag"] for one in api.get("/api/blocks")["items"]] == [tag]
        assert [one["tag"] for one in api.get("/api/status")["blocks"]] == [tag]
        assert api.client.put("/api/blocks", params={"tag": "a\nb"}).status_code == 422
        lifted = [api.client.delete("/api/blocks", params={"tag": tag}).json()["unblocked"] for _ in range(2)]
        assert lifted == [True, False]
        api.client.headers["Authorization"] = f"Bearer {READ}"
        assert api.client.put("/api/blocks", params={"tag": tag}).status_code == 403
        assert api.get("/api/blocks") == {"items": []}


def test_the_console_shows_who_blocked_a_tag_and_lifts_the_block(sqlite_url: str, redis_url: str) -> None:
    reserve(sqlite_url, 1, tag="news")
    with Api({"database_url": sqlite_url, "redis_url": redis_url}) as api:
        browser = Browser(api.client)
        page = browser.press(browser.open("/schedule"), "Block this tag", tag="news", note="<b>prices</b>")
        assert "Blocked: the mails of the tag news wait" in page.text
        page = browser.open("/schedule")
        assert "<b>prices</b>" in page.text
        own = of_tag(sqlite_url, "news")[0].id
        assert WHY in browser.open(f"/reservations/{own}").text
        assert WHY in browser.open("/schedule/plan").text
        browser.press(page, "Unblock")
        assert "No tag is blocked." in browser.open("/schedule").text
