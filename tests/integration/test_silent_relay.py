"""A relay that answers nobody is seen at once, and by every screen alike; one that refuses connections is not green."""

from __future__ import annotations

import json
import re
import socket
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa
from support.api import Api
from support.backlogs import database, ended, reserve, runs, states
from support.pages import Browser
from support.relay import Relay
from support.waiting import wait_until

from mailbatch.batch.monitor import check_once
from mailbatch.batch.send_all import send_all
from mailbatch.bootstrap import Parts, operating
from mailbatch.config import Settings
from mailbatch.domain.finding import ALL_IS_WELL, Finding
from mailbatch.domain.run import Trigger
from mailbatch.infrastructure.db.tables import mail_reservations

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

MAILS = 40
PATIENCE = 0.5
"""Seconds without an answer after which it is said, in place of 25."""
NOBODY = re.compile(r"nobody was answered for \d")


@pytest.fixture
def relay(tmp_path: Path) -> Iterator[Relay]:
    with Relay(tmp_path / "relay") as relay:
        yield relay


@pytest.fixture
def place(
    say: Any, sqlite_url: str, redis_url: str, relay: Relay, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Any, Api]]:
    """Commands and a server on one database, one Redis and that relay."""
    monkeypatch.setattr(operating, "UNANSWERED", PATIENCE)
    # The run must not give up while a busy machine looks at every screen.
    url = f"{relay.url}?timeout=300"
    given = {"database_url": sqlite_url, "redis_url": redis_url, "smtp_url": url, "sender": "s@example.com"}
    for name, value in {**given, "window": 4}.items():
        monkeypatch.setenv(f"MAILBATCH_{name.upper()}", str(value))
    with Api({**given, "window": 4}) as api:
        yield say, api


@contextmanager
def running(mails: int = MAILS) -> Iterator[None]:
    """A run of send-all with its own parts, as a worker's child has; it must end by itself."""
    parts = Parts(Settings())
    reserve(parts.settings.database_url, mails)
    thread = threading.Thread(target=lambda: send_all(parts)(Trigger.BEAT), daemon=True)
    thread.start()
    try:
        yield
    finally:
        thread.join(60)
        parts.close()
        assert not thread.is_alive()


def silent() -> Finding:
    """The finding, once the watch has it."""
    return wait_until(
        lambda: next((f for f in check_once() if f.name == "no_progress"), None), 30, "the watch finds the silence"
    )


def freeze(relay: Relay) -> Callable[[], None]:
    relay.freeze()
    return relay.thaw


def never_greet(relay: Relay) -> Callable[[], None]:
    relay.script(connect=["silence"])
    return lambda: well_again(relay)


def hang_at_the_end_of_a_body(relay: Relay) -> Callable[[], None]:
    relay.offer("DATA")
    relay.script(dot=["silence"])
    return lambda: well_again(relay)


def well_again(relay: Relay) -> None:
    relay.script()
    relay.hang_up()


@pytest.mark.parametrize("fault", [freeze, never_greet, hang_at_the_end_of_a_body])
def test_every_screen_says_that_nobody_is_answered(
    fault: Callable[[Relay], Callable[[], None]], place: tuple[Any, Api], relay: Relay, sqlite_url: str
) -> None:
    say, api = place
    mend = fault(relay)
    with running():
        try:
            found = silent()
            assert NOBODY.match(found.what)
            assert relay.url.removeprefix("smtp://") in found.what
            _look_everywhere(say, api, sqlite_url)
        finally:
            mend()
    assert "no_progress" not in [found.name for found in check_once()]
    assert ALL_IS_WELL in say("status")[1] or runs(sqlite_url)[0].outcome == "failed"


def _look_everywhere(say: Any, api: Api, url: str) -> None:
    standing = json.loads(say("status", "--json")[1])
    assert standing["unanswered_seconds"] > PATIENCE
    under_way = standing["under_way"]
    assert under_way >= 1
    assert standing["due"] + under_way == MAILS
    told = say("status")[1]
    assert NOBODY.search(told)
    assert ALL_IS_WELL not in told
    assert f"; {under_way} under way" in told
    assert re.search(r"^relay .*, silent$", told, re.MULTILINE)

    frame = say("top", "--once")[1]
    assert NOBODY.search(frame)
    assert f" 0 of {MAILS}" in frame
    assert f"{under_way} under way" in frame

    _, out, _ = say("doctor")
    assert NOBODY.search(re.search(r"^\w+ +runs .*$", out, re.MULTILINE)[0])  # type: ignore[index]

    with database(url) as connection:
        ids = dict(connection.execute(sa.select(mail_reservations.c.status, mail_reservations.c.id)).all())  # type: ignore[arg-type]
    for own in ids.values():
        explained = json.loads(say("explain", str(own), "--json")[1])
        assert explained["reason"] == "relay_silent"
        assert NOBODY.search(explained["sentence"])

    status = api.get("/api/status")
    assert status["unanswered_seconds"] > PATIENCE
    assert [w["name"] for w in status["warnings"]] == ["no_progress"]
    for own in ids.values():
        assert api.get(f"/api/reservations/{own}/explain")["reason"] == "relay_silent"
    metrics = api.client.get("/metrics").text
    assert float(re.search(r"^mailbatch_unanswered_seconds (\S+)$", metrics, re.MULTILINE)[1]) > PATIENCE  # type: ignore[index]

    page = Browser(api.client).open("/").text
    assert f"0 of {MAILS}" in page
    assert f"{under_way} under way" in page
    assert re.search(r"Relay \(error\) nobody was answered", page)
    assert "Runs (warning)" in page


def test_a_relay_that_freezes_in_the_middle_is_seen_although_mails_were_accepted(
    place: tuple[Any, Api], relay: Relay, sqlite_url: str
) -> None:
    say, _ = place
    relay.offer("DATA")
    relay.script(dot=[["go_on"]] * 10 + [["hold"]] * 100)
    with running():
        relay.wait_held(4)
        relay.freeze()
        try:
            assert NOBODY.match(silent().what)
            wait_until(lambda: states(sqlite_url).get("sent") == 10, 10, "what was accepted is written")
            standing = json.loads(say("status", "--json")[1])
            assert standing["due"] + standing["under_way"] == MAILS - 10
            # The progress of a run is shown once a second.
            wait_until(lambda: f" 10 of {MAILS}" in say("top", "--once")[1], 10, "top counts them")
        finally:
            relay.thaw()
            relay.release()
    assert states(sqlite_url) == {"sent": MAILS}
    assert ALL_IS_WELL in say("status")[1]


def test_a_name_server_that_hangs_is_seen(
    place: tuple[Any, Api], relay: Relay, monkeypatch: pytest.MonkeyPatch, sqlite_url: str
) -> None:
    say, _ = place
    go_on, resolve = threading.Event(), socket.getaddrinfo

    def hanging(host: Any, port: Any, *args: Any, **named: Any) -> Any:
        if port == relay.port:
            go_on.wait(60)
        return resolve(host, port, *args, **named)

    monkeypatch.setattr(socket, "getaddrinfo", hanging)
    with running():
        try:
            silent()
            assert NOBODY.search(say("status")[1])
        finally:
            go_on.set()
    assert states(sqlite_url) == {"sent": MAILS}


@pytest.mark.parametrize("fault", ["refuses", "says 421"])
def test_a_relay_that_takes_no_connection_is_never_green(
    fault: str, place: tuple[Any, Api], relay: Relay, sqlite_url: str
) -> None:
    say, api = place
    if fault == "refuses":
        relay.stop()
    else:
        relay.script(connect=["say", "421 4.3.2 too many connections"])
    with running():
        # First nobody is answered, then the run gives up and the relay is left alone: there is no gap between.
        silent()
        while not ended(sqlite_url):
            assert check_once()
    [found] = check_once()
    assert found.name == "relay_away"
    told = say("status")[1]
    assert ALL_IS_WELL not in told
    assert "is left alone until" in told
    assert "is left alone" in say("top", "--once")[1]
    page = Browser(api.client).open("/").text
    assert "Relay (error)" in page
    assert ALL_IS_WELL not in page


def test_what_an_application_cancels_meanwhile_is_no_answer(place: tuple[Any, Api], relay: Relay) -> None:
    say, api = place
    relay.freeze()
    with running():
        try:
            silent()
            (own,) = api.reserve(scheduled_at="2099-01-01T00:00:00Z")
            assert say("cancel", own)[0] == 0
            assert "no_progress" in [found.name for found in check_once()]
        finally:
            relay.thaw()
