"""What a person on call sees and does in the console, with a browser that runs no JavaScript."""

from __future__ import annotations

import re
import socket
import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from urllib.parse import quote
from uuid import uuid4
from zoneinfo import ZoneInfo

import pytest
import sqlalchemy as sa
from support.api import OPERATE, READ, Api
from support.backlogs import database, reserve, states
from support.pages import Browser, Page, ids

from mailbatch.infrastructure.db.migrate import upgrade
from mailbatch.infrastructure.db.tables import (
    batch_runs,
    batch_schedule,
    mail_attempts,
    mail_reservations,
    operator_actions,
    relay_circuits,
    run_errors,
)
from mailbatch.interfaces.console import subjects as subjects_on_pages
from mailbatch.interfaces.console.overview import prepare, snapshots_of
from mailbatch.interfaces.console.reservations import PAGE
from mailbatch.interfaces.console.snapshot import Cached
from mailbatch.interfaces.visible import HIDDEN

_r = mail_reservations.c


def now():
    return datetime.now(UTC)


@pytest.fixture
def api(sqlite_url, redis_url):
    with Api({"database_url": sqlite_url, "redis_url": redis_url}) as api:
        yield api


@pytest.fixture
def browser(api):
    return Browser(api.client)


@pytest.fixture
def on_either(database_url, redis_url):
    """The console on SQLite, and once more on PostgreSQL."""
    with Api({"database_url": database_url, "redis_url": redis_url}) as api:
        yield Browser(api.client)


@pytest.fixture
def locked(sqlite_url, redis_url):
    """A server that wants tokens."""
    with Api({"database_url": sqlite_url, "redis_url": redis_url, "api_token": OPERATE, "api_read_token": READ}) as api:
        yield api


def add(url, **columns):
    """One reservation; its id."""
    own = uuid4()
    defaults = {"recipients": "ann@example.org", "subject": "Hello", "body_text": "Hello"}
    with database(url) as connection:
        connection.execute(sa.insert(mail_reservations).values({"id": own, **defaults, **columns}))
    return own


def add_run(url, **columns):
    own = uuid4()
    ended = {"outcome": "completed", "started_at": now() - timedelta(minutes=2), "finished_at": now(), "duration": 1.5}
    with database(url) as connection:
        connection.execute(
            sa.insert(batch_runs).values(
                {"run_id": own, "job": "send-all", "trigger": "beat", "heartbeat_at": now(), **ended, **columns}
            )
        )
    return own


def failed(url, code=550, **columns):
    """A mail that the relay refused."""
    said = {"reply_code": code, "reply_text": "5.1.1 no such user", "last_error": f"{code} 5.1.1 no such user"}
    ended = {"status": "failed", "attempts": 1, "claim_no": 1, "finished_at": now(), "relay": "mx:25"}
    return add(url, **{**ended, **said, **columns})


def actions(url):
    with database(url) as connection:
        return [dict(row) for row in connection.execute(sa.select(operator_actions)).mappings()]


# --- looking ---


def test_every_page_opens_and_has_nothing_inline(on_either, database_url):
    run_id = add_run(database_url, sent=3, failed=1)
    own = failed(database_url, run_id=run_id)
    with database(database_url) as connection:
        connection.execute(
            sa.insert(run_errors).values(run_id=run_id, item_index=1, reservation_id=own, errors=["550 no such user"])
        )
    pages = ("/", "/live", "/reservations", f"/reservations/{own}", "/bulk/requeue?status=failed", "/runs")
    for address in (*pages, f"/runs/{run_id}", "/schedule", "/schedule/plan", "/duplicates"):
        page = on_either.open(address)
        policy = page.answer.headers["Content-Security-Policy"]
        assert "unsafe" not in policy, address
        assert "default-src 'none'" in policy, address
        for tag, attributes in page.elements:
            assert not [name for name in attributes if name == "style" or name.startswith("on")], (address, tag)
            assert tag != "style", address
            assert tag != "script" or attributes.get("src"), address
        for form in page.forms:
            assert form.method == "post", address
            assert form.fields["csrf"], (address, form.action)


def test_the_overview_says_how_things_stand(browser, api, sqlite_url):
    reserve(sqlite_url, 12, scheduled_at=now() - timedelta(minutes=3))
    failed(sqlite_url)
    run_id = add_run(sqlite_url, sent=1204, failed=2)
    with database(sqlite_url) as connection:
        connection.execute(
            sa.insert(batch_schedule).values(
                name="send-all", next_tick_at=now() + timedelta(minutes=2), last_tick_at=now()
            )
        )
        connection.execute(
            sa.insert(relay_circuits).values(
                relay=api.parts.sending.relay.name, state="open", failures=3,
                reason="421 4.3.2 busy for ann@example.org",
                opened_at=now(), open_until=now() + timedelta(minutes=1),
            )
        )  # fmt: skip
    page = browser.open("/")
    assert "No run now" in page
    assert "Due 12 oldest 3 min" in page
    assert "1,204 sent, 2 failed" in page
    assert page.links["Failed"] == "/reservations?status=failed"
    assert f"/runs/{run_id}" in page.html
    assert "is left alone until" in page
    assert "421 4.3.2 busy" in page
    assert "ann@example.org" not in page, "what a relay says may hold an address"
    assert "Redis (ok) answers" in page
    assert "next tick in" in page
    assert "1,204 sent, 0 deferred, 2 failed or in doubt in 1 run" in page


def test_a_run_in_progress_shows_its_progress_and_a_button_that_stops_it(browser, api, sqlite_url):
    reserve(sqlite_url, 30)
    run_id = add_run(sqlite_url, outcome=None, started_at=now(), finished_at=None, duration=None)
    shown = {"state": "running", "run_id": str(run_id), "sent": 65, "failed": 5, "elapsed": 7.0}
    lock = api.parts.lock("send-all")
    assert lock.acquire()
    try:
        api.parts.status_board.put("send-all", shown)
        page = browser.open("/")
        assert ("progress", "100", "70") in [(t, a.get("max"), a.get("value")) for t, a in page.elements]
        assert "70 of 100 · 10 a second · about 3.0 s to go" in page
        page = browser.press(page, "Stop it")
    finally:
        lock.release()
    assert "Everything is stopped." in page
    assert "Send now" not in [form.label for form in page.forms]
    page = browser.press(page, "Resume")
    assert "Everything is stopped." not in page


def test_a_redis_that_is_away_costs_the_overview_its_line_and_no_more(sqlite_url, private_redis):
    with Api({"database_url": sqlite_url, "redis_url": private_redis.url}) as api:
        reserve(sqlite_url, 2)
        private_redis.kill()
        page = Browser(api.client).open("/")
    assert "Due 2" in page
    assert re.search(r"Redis \(error\)", page.text)


def test_a_redis_that_hangs_is_waited_for_once(sqlite_url, monkeypatch):
    monkeypatch.setattr("mailbatch.infrastructure.redis.client.TIMEOUT", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as mute:
        mute.setblocking(False)
        url = f"redis://127.0.0.1:{mute.getsockname()[1]}"
        with Api({"database_url": sqlite_url, "redis_url": url}) as api:
            page = Browser(api.client).open("/")
        asked = 0
        with suppress(BlockingIOError):
            while True:
                mute.accept()[0].close()
                asked += 1
    assert re.search(r"Redis \(error\)", page.text)
    assert asked == 1


def test_the_first_page_is_read_before_somebody_opens_it(api, browser, sqlite_url):
    snapshots_of(api.app).now.fresh = 60
    reserve(sqlite_url, 2)
    prepare(api.app)
    reserve(sqlite_url, 3)
    assert "Due 2" in browser.open("/")


def test_a_first_page_that_cannot_be_read_yet_is_read_when_it_is_opened(tmp_path, redis_url):
    url = f"sqlite:///{tmp_path}/mail.db"
    with Api({"database_url": url, "redis_url": redis_url}) as api:
        prepare(api.app)
        upgrade(url)
        reserve(url, 2)
        assert "Due 2" in Browser(api.client).open("/")


def test_a_database_without_tables_is_told_on_a_page(tmp_path, redis_url):
    with Api({"database_url": f"sqlite:///{tmp_path}/empty.db", "redis_url": redis_url}) as api:
        for address in ("/", "/reservations", "/runs", "/schedule"):
            answer = api.client.get(address)
            assert answer.status_code in {500, 503}, address
            assert answer.headers["Content-Type"].startswith("text/html"), address
            assert "Traceback" not in answer.text


def test_what_is_not_there_is_a_page_too(api):
    browser = Browser(api.client)
    for address in (f"/reservations/{uuid4()}", f"/runs/{uuid4()}", "/reservations/nonsense", "/bulk/nonsense"):
        assert "Overview" in browser.open(address, 404).links, address
    page = browser.open("/reservations?reply=9xx", 422)
    assert "reply: '9xx' is none of" in page


def test_a_list_is_paged_to_its_end_and_misses_nobody(on_either, database_url):
    reserve(database_url, 2 * PAGE + 3)
    page = on_either.open("/reservations?status=pending")
    seen = ids(page)
    for _ in range(2):
        page = on_either.follow(page, "Older")
        seen += ids(page)
    assert "Older" not in page.links
    assert len(seen) == len(set(seen)) == 2 * PAGE + 3


def test_filters_narrow_a_list(on_either, database_url):
    wanted = failed(database_url, 452, tag="spring")
    failed(database_url, 550, tag="spring")
    failed(database_url, 452, finished_at=now() - timedelta(hours=3))
    page = on_either.open("/reservations?status=failed")
    page = on_either.press(page, "Show these", tag="spring", reply="4xx", since="1h")
    assert ids(page) == [str(wanted)]
    assert page.answer.url.query == b"status=failed&tag=spring&since=1h&reply=4xx"


def test_a_list_says_how_many_there_are(on_either, database_url):
    reserve(
        database_url, PAGE + 1, tag="spring", status="sent", finished_at=datetime.now(UTC), sent_at=datetime.now(UTC)
    )
    reserve(database_url, 2, start=PAGE + 1)
    assert f"{PAGE + 1} reservations." in on_either.open("/reservations?status=sent&since=1h")
    page = on_either.open("/reservations?status=sent&tag=spring")
    assert f"{PAGE + 1} reservations." in page
    assert "reservations." not in on_either.follow(page, "Older")
    assert "2 reservations." in on_either.press(on_either.open("/reservations?status=pending"), "Show these", to="to5")


def test_an_address_that_was_searched_for_stands_in_no_link(browser, sqlite_url, caplog):
    caplog.set_level("DEBUG")
    one, _ = add(sqlite_url, recipients="zoe.canary@example.org"), add(sqlite_url)
    page = browser.press(browser.open("/reservations"), "Show these", to="Canary@example")
    assert ids(page) == [str(one)]
    assert "canary" not in str(page.answer.url).lower()
    assert not [link for link in page.links.values() if "canary" in link.lower()]
    assert "canary" not in caplog.text.lower()
    page = browser.follow(page, "Pending")
    assert ids(page) == [str(one)], "the search goes along from tab to tab"
    assert "forgotten" in browser.open("/reservations?find=unknown", 410)


def test_a_search_that_nobody_types_is_not_remembered(browser):
    form = browser.open("/reservations").form("Show these")
    answer = browser.client.post("/reservations/search", data={**form.fields, "to": "x" * 501})
    assert (answer.status_code, "500 are enough" in answer.text) == (422, True)


def test_what_people_wrote_is_shown_and_not_run(browser, sqlite_url):
    evil = "<script>alert(1)</script>\"'"
    own = add(sqlite_url, recipients=f'"{evil[:8]}" <a@example.org>', subject=evil, tag=evil, context={"x": evil})
    for address in ("/reservations", f"/reservations/{own}"):
        assert "<script>alert" not in browser.open(address).html


def test_a_mail_is_explained_and_its_life_told_in_the_relays_words(browser, sqlite_url):
    own = failed(sqlite_url)
    with database(sqlite_url) as connection:
        for number, outcome in enumerate(("deferred", "failed"), 1):
            connection.execute(
                sa.insert(mail_attempts).values(
                    reservation_id=own, claim_no=number, outcome=outcome, ended_at=now(), relay="mx:25", reply_code=451,
                    reply_text=f"4.7.1 try again, number {number}",
                )
            )  # fmt: skip
    page = browser.open(f"/reservations/{own}")
    assert "It failed for good" in page
    assert "Deferred" in page
    assert "451 4.7.1 try again, number 1" in page
    assert "451 4.7.1 try again, number 2" in page


def test_a_preview_is_rendered_in_a_sandbox_with_a_policy_of_its_own(browser, sqlite_url):
    html = '<p style="color:red">Dear {{ name }}</p><script>top.location="/logout"</script>'
    own = add(sqlite_url, subject="To {{ name }}", body_text="Hi {{ name }}", body_html=html, context={"name": "Zoë"})
    page = browser.open(f"/reservations/{own}")
    assert "To Zoë" in page
    assert "Hi Zoë" in page
    (frame,) = [attributes for tag, attributes in page.elements if tag == "iframe"]
    assert frame["sandbox"] == ""
    shown = browser.open(frame["src"]).answer
    assert "Dear Zoë" in shown.text
    policy = shown.headers["Content-Security-Policy"]
    assert policy.startswith("sandbox;")
    assert "script-src" not in policy
    assert "default-src 'none'" in policy


def test_a_mail_that_cannot_be_rendered_says_why(browser, sqlite_url):
    own = add(sqlite_url, body_text="Dear {{ nobody }}")
    page = browser.open(f"/reservations/{own}")
    assert "nobody" in page
    assert not [tag for tag, _ in page.elements if tag == "iframe"]


def test_a_run_shows_its_errors_by_kind_and_one_by_one(on_either, database_url):
    run_id = add_run(database_url, sent=7, failed=2)
    for number in (1, 2):
        own = failed(database_url, run_id=run_id, finished_at=now() - timedelta(minutes=1))
        with database(database_url) as connection:
            connection.execute(
                sa.insert(mail_attempts).values(
                    reservation_id=own, claim_no=1, run_id=run_id, outcome="failed", reply_code=550,
                    enhanced_code="5.1.1", reply_text="5.1.1 no such user", ended_at=now() - timedelta(minutes=1),
                )
            )  # fmt: skip
            connection.execute(
                sa.insert(run_errors).values(
                    run_id=run_id, item_index=number, reservation_id=own, errors=["550 5.1.1 no such user"]
                )
            )
    page = on_either.follow(on_either.open("/runs"), browser_time(run_id, on_either))
    assert "2 failed 550 5.1.1" in page
    assert len(ids(page)) == 2
    assert on_either.client.get(page.links["CSV"]).headers["Content-Type"].startswith("text/csv")
    assert len(ids(on_either.follow(page, "These"))) == 2
    page = on_either.follow(page, "Requeue the failed…")
    assert "Requeue 2 reservations?" in page
    assert "2 reservations requeued." in on_either.press(page, "Yes, requeue them")
    assert states(database_url) == {"pending": 2}


def browser_time(run_id, browser):
    """What the link to a run says in the list of runs."""
    return next(said for said, link in browser.open("/runs").links.items() if link == f"/runs/{run_id}")


def test_who_may_have_got_a_mail_twice_is_listed(on_either, database_url):
    twice = add(database_url, status="sent", sent_at=now(), finished_at=now(), claim_no=2, message_id="<m@x>")
    resolved = add(database_url, status="sent", sent_at=now(), finished_at=now(), claim_no=1)
    failed_then = failed(database_url, claim_no=2)
    with database(database_url) as connection:
        for own in (twice, resolved, failed_then):
            connection.execute(
                sa.insert(mail_attempts).values(
                    reservation_id=own, claim_no=1, outcome="in_doubt", ended_at=now() - timedelta(hours=2)
                )
            )
    assert ids(on_either.open("/duplicates")) == [str(twice)]
    assert ids(on_either.open("/duplicates?since=1h")) == []


def test_the_earlier_address_of_the_duplicates_redirects(browser):
    moved = browser.client.get("/twice?since=1w", follow_redirects=False)
    assert (moved.status_code, moved.headers["Location"]) == (308, "/duplicates?since=1w")


def test_the_plan_says_what_would_go_and_what_could_not(browser, sqlite_url):
    good, broken = add(sqlite_url), add(sqlite_url, body_text="{{ nobody }}")
    page = browser.open("/schedule/plan")
    assert "2 mails are due now" in page
    assert set(ids(page)) == {str(good), str(broken)}
    assert page.text.count("cannot go") == 1
    assert states(sqlite_url) == {"pending": 2}


# --- what a list and a mail say ---


def subjects(page):
    """What stands in the column of subjects."""
    return [
        " ".join(re.sub(r"<a .*|<[^>]+>", "", cell, flags=re.DOTALL).split())
        for cell in re.findall(r'<td class="subject">(.*?)</td>', page.html, re.DOTALL)
    ]


@pytest.fixture
def shop(sqlite_url, redis_url, tmp_path):
    """A console with a template, in Tokyo."""
    folder = tmp_path / "templates" / "welcome"
    folder.mkdir(parents=True)
    (folder / "subject.txt").write_text("Welcome, {{ name }}!\n", encoding="utf-8")
    (folder / "body.txt").write_text("{{ nobody }}", encoding="utf-8")
    settings = {"database_url": sqlite_url, "redis_url": redis_url, "template_dir": folder.parent}
    with Api({**settings, "timezone": "Asia/Tokyo", "smtp_url": "smtp://relay.example:25"}) as api:
        yield Browser(api.client)


def test_a_list_shows_the_subjects_that_readers_see(shop, sqlite_url, monkeypatch):
    monkeypatch.setattr(subjects_on_pages, "SECONDS", 30.0)  # the machine may be busy
    made = [
        {"subject": "Dear {{ name }}", "context": {"name": "Zoë"}},
        {"subject": None, "body_text": None, "template": "welcome", "context": {"name": "Ann"}},
        {"subject": "Plain {x}"},
        {"subject": "Dear {{ nobody }}"},
    ]
    for n, columns in enumerate(made):
        add(sqlite_url, created_at=now() - timedelta(minutes=n), **columns)
    page = shop.open("/reservations")
    assert subjects(page) == ["Dear Zoë", "Welcome, Ann!", "Plain {x}", "Dear {{ nobody }}"]


def test_a_list_does_not_wait_for_somebodys_template(shop, sqlite_url):
    spins = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"
    add(sqlite_url, subject=spins)
    began = time.monotonic()
    assert subjects(shop.open("/reservations")) == [spins]
    assert time.monotonic() - began < 10


def test_tabs_count_what_the_filter_means(on_either, database_url):
    reserve(database_url, 7, tag="spring")
    reserve(database_url, 5, start=7)
    failed(database_url, tag="spring")
    failed(database_url, finished_at=now() - timedelta(hours=3))
    tabs = on_either.open("/reservations?tag=spring").links
    assert {"Pending 7", "Failed 1", "Sent 0"} <= set(tabs)
    assert {"Pending 12", "Failed 2"} <= set(on_either.open("/reservations").links)
    assert "Failed 1" in on_either.open("/reservations?since=1h").links
    assert "Failed" in on_either.open("/reservations?reply=5xx").links, "no number rather than one of something else"


def test_quiet_runs_do_not_bury_the_others(on_either, database_url):
    sent = add_run(database_url, sent=3, started_at=now() - timedelta(hours=2))
    broke = add_run(database_url, outcome="failed", error="it broke", started_at=now() - timedelta(hours=3))
    left = add_run(database_url, outcome="paused", remaining=9, started_at=now() - timedelta(hours=4))
    quiet = [add_run(database_url, started_at=now() - timedelta(minutes=n)) for n in range(60)]
    page = on_either.open("/runs")
    seen = list(dict.fromkeys(re.findall(r'href="/runs/([0-9a-f-]{36})"', page.html)))
    assert seen == [str(quiet[0]), str(sent), str(broke), str(left)]
    assert "had nothing to do" in page
    add_run(database_url, sent=1, started_at=now() + timedelta(seconds=1))
    assert "had nothing to do" not in on_either.open("/runs")
    page = on_either.follow(page, "All")
    assert str(sent) not in page.html
    assert str(sent) in on_either.follow(page, "Older").html


def test_an_error_names_whom_the_mail_was_for(on_either, database_url):
    run_id = add_run(database_url, failed=2)
    own, gone = failed(database_url, run_id=run_id, recipients="zoe@example.org"), uuid4()
    with database(database_url) as connection:
        for number, one in enumerate((own, gone), 1):
            connection.execute(
                sa.insert(run_errors).values(
                    run_id=run_id, item_index=number, reservation_id=one, errors=["550 no such user"]
                )
            )
    page = on_either.open(f"/runs/{run_id}")
    assert "zoe@example.org" in page
    assert f"{gone} deleted" in page
    on_either.press(on_either.open(f"/reservations/{own}"), "Send again")
    page = on_either.open("/schedule")
    assert "zoe@example.org" in page
    assert f"/reservations/{own}" in page.links.values()


def test_a_page_knows_one_time_zone(shop, sqlite_url):
    run_id = add_run(sqlite_url, outcome="failed", error="left alone until 2026-11-27 10:00:00 UTC")
    pages = [
        add(sqlite_url, scheduled_at=now() + timedelta(days=2)),
        add(sqlite_url, status="sending", claim_no=1, lease_until=now() + timedelta(minutes=1), wire_at=now()),
        add(sqlite_url, retry_at=now() + timedelta(hours=1), attempts=1, last_error="451 later"),
        failed(sqlite_url),
    ]
    with database(sqlite_url) as connection:
        connection.execute(
            sa.insert(batch_schedule).values(
                name="send-all", next_tick_at=now() + timedelta(minutes=2), last_tick_at=now()
            )
        )
    add_circuit(sqlite_url)
    addresses = [
        "/",
        "/reservations",
        "/runs",
        f"/runs/{run_id}",
        "/schedule",
        *(f"/reservations/{own}" for own in pages),
    ]
    for address in addresses:
        page = shop.open(address)
        assert "Times in Asia/Tokyo" in page, address
        assert not re.findall(r".{40}\bUTC\b.{20}", page.html), address
    due = (now() + timedelta(days=2)).astimezone(ZoneInfo("Asia/Tokyo"))
    assert f"It is not due before {due:%b} {due.day}, " in shop.open(f"/reservations/{pages[0]}")


def add_circuit(url):
    """A relay that is left alone."""
    with database(url) as connection:
        connection.execute(
            sa.insert(relay_circuits).values(
                relay="relay.example:25", state="open", failures=3, reason="421 4.3.2 busy",
                opened_at=now() - timedelta(minutes=1), open_until=now() + timedelta(hours=30),
            )
        )  # fmt: skip


def test_a_mail_that_has_gone_is_not_said_to_be_going(browser, sqlite_url):
    lease = {"lease_until": now() + timedelta(minutes=1)}
    heads = {
        "pending": "The mail, as it would go now",
        "failed": "The mail, as it would go now",
        "cancelled": "The mail, as it would go now",
        "sent": "The mail, rendered again",
        "sending": "The mail, rendered again",
        "in_doubt": "The mail, rendered again",
        "expired": "The mail that was not sent",
    }
    for status, head in heads.items():
        page = browser.open(f"/reservations/{add(sqlite_url, status=status, **lease if status == 'sending' else {})}")
        assert head in page, status
        assert "would be now" not in page


EVIL = "a\u202eb\u2066c\u200fd\u061ce\u200bf"


def test_no_page_holds_a_character_that_reorders_it_or_that_nobody_sees(browser, api, sqlite_url):
    run_id = add_run(sqlite_url, failed=1, outcome="failed", error=EVIL, host=EVIL)
    said = {"last_error": EVIL, "reply_text": EVIL, "relay": EVIL, "message_id": f"<{EVIL}@x>"}
    own = failed(
        sqlite_url, run_id=run_id, recipients=f"{EVIL}\x07@example.org", subject=f"{EVIL}\x1b[2J", tag=EVIL,
        body_text=f"{EVIL}\x0b", context={"x": EVIL}, headers={"X-A": EVIL}, sender=EVIL, **said,
    )  # fmt: skip
    with database(sqlite_url) as connection:
        connection.execute(
            sa.insert(run_errors).values(run_id=run_id, item_index=1, reservation_id=own, errors=[f"{EVIL}\x1b[1m"])
        )
        connection.execute(
            sa.insert(mail_attempts).values(
                reservation_id=own, claim_no=1, run_id=run_id, outcome="failed", reply_code=550, relay=EVIL,
                reply_text=f"{EVIL}\x08", ended_at=now() - timedelta(seconds=1), verdicts={EVIL: {"kind": "rejected"}},
            )
        )  # fmt: skip
    page = browser.open(f"/reservations?tag={quote(EVIL)}")
    pages = ["/", "/reservations", f"/reservations/{own}", f"/runs/{run_id}", "/runs", "/schedule", "/schedule/plan"]
    for address in (*pages, f"/bulk/requeue?status=failed&tag={quote(EVIL)}", f"/reservations?reply={quote(EVIL)}"):
        answer = api.client.get(address)
        assert not HIDDEN.search(answer.text), (address, ascii(HIDDEN.search(answer.text)))
    assert ids(page) == [str(own)]
    assert r"a\u202eb" in page
    page = browser.press(page, "Show these")
    assert ids(page) == [str(own)], "the field brings back what it held"
    browser.press(browser.open(f"/bulk/requeue?status=failed&tag={quote(EVIL)}"), "Yes, requeue it")
    assert states(sqlite_url) == {"pending": 1}
    for address in (f"/runs/{run_id}/errors.csv", f"/api/runs/{run_id}/errors.csv"):
        csv = api.client.get(address)
        assert csv.headers["Content-Type"].startswith("text/csv")
        assert r"a\u202eb" in csv.text
        assert not HIDDEN.search(csv.text)


def test_a_mail_that_is_looked_at_has_nobody_connect_to_strangers(browser, sqlite_url):
    hint = '<link rel="preconnect" href="https://tracker.example"><p>Hi</p>'
    own = add(sqlite_url, body_html=hint)
    shown = browser.open(f"/reservations/{own}/html").answer
    assert "<p>Hi</p>" in shown.text
    assert "<link" not in shown.text
    assert shown.headers["X-DNS-Prefetch-Control"] == "off"


# --- what is wrong, and who comes in, look alike ---

HTML = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}


def test_whatever_a_browser_is_refused_is_a_page(api, monkeypatch):
    def broken(*_):
        raise RuntimeError("canary")

    monkeypatch.setattr(type(api.parts.stores.pauses), "paused", broken)
    cases = {
        "/nonsense": 404, "/reservations/": 404, "/static/nothing.css": 404, "/runs/x/y/z": 404, "/schedule/pause": 405,
        "/logout": 405, "/schedule": 500,
    }  # fmt: skip
    for address, status in cases.items():
        answer = api.client.get(address, headers=HTML)
        assert answer.status_code == status, address
        assert answer.headers["Content-Type"].startswith("text/html"), address
        page = Page(answer)
        assert {"Overview", "Reservations"} <= set(page.links), address
        assert answer.headers["X-Request-ID"] in page, address
        assert "canary" not in page, address
    form = api.client.get("/schedule/pause", headers=HTML)
    assert "There is no page at this address; a button of another page uses it" in Page(form)
    assert "POST" in form.headers["Allow"]
    odd = api.client.get("/runs?cursor=junk", headers=HTML)
    assert odd.status_code == 422
    assert "Not understood" in Page(odd)
    strange = api.client.get("/", headers={**HTML, "Host": "evil.example"})
    assert (strange.status_code, strange.headers["Content-Type"]) == (421, "text/html; charset=utf-8")
    elsewhere = api.client.post("/schedule/pause", headers={**HTML, "Origin": "https://evil.example"})
    assert (elsewhere.status_code, elsewhere.headers["Content-Type"]) == (403, "text/html; charset=utf-8")


def test_whatever_a_program_is_refused_is_a_problem(api):
    for address, accept in {
        "/nonsense": "*/*",
        "/api/nonsense": HTML["Accept"],
        "/schedule/pause": "application/json",
        "/static/nothing.css": "application/json, text/html;q=0.5",
        "/metrics/x": "text/html;q=x",
    }.items():
        answer = api.client.get(address, headers={"Accept": accept})
        assert answer.headers["Content-Type"] == "application/problem+json", address
        assert answer.json()["request_id"], address


def test_the_form_and_the_reference_look_like_every_page(locked):
    browser = Browser(locked.asking())
    login = browser.open("/login")
    reference = browser.open("/docs")
    style = next(a["href"] for tag, a in login.elements if a.get("rel") == "stylesheet")
    assert style.startswith("/static/console.css")
    assert style in reference.html
    assert {"Overview", "Reservations", "Runs", "Schedule"} <= set(reference.links), "a way back"
    assert "Overview" not in login.links
    wrong = locked.asking().post("/login", data={"token": "wrong"})
    assert (wrong.status_code, style in wrong.text) == (401, True)
    browser.press(login, "Log in", token=OPERATE)
    assert "Log out" in [form.label for form in browser.open("/docs").forms]


# --- acting ---


def test_a_mail_is_cancelled_and_restored_by_buttons(browser, sqlite_url):
    own = add(sqlite_url)
    page = browser.press(browser.open(f"/reservations/{own}"), "Cancel")
    assert "Cancelled." in page
    assert states(sqlite_url) == {"cancelled": 1}
    assert "Cancelled." not in browser.open(f"/reservations/{own}"), "it is said once"
    page = browser.press(page, "Restore")
    assert states(sqlite_url) == {"pending": 1}
    assert [(a["actor"], a["action"], a["outcome"]) for a in actions(sqlite_url)] == [
        ("console:operate", "cancel", "done"),
        ("console:operate", "restore", "done"),
    ]
    assert "console:operate" in browser.open("/schedule")


def test_who_comes_too_late_is_told_so(browser, sqlite_url):
    own = add(sqlite_url)
    page = browser.open(f"/reservations/{own}")
    with database(sqlite_url) as connection:
        connection.execute(sa.update(mail_reservations).values(status="sent", finished_at=now()))
    page = browser.press(page, "Cancel")
    assert "Too late: it is sent." in page
    assert actions(sqlite_url)[0]["outcome"] == "refused"


def test_each_state_has_the_buttons_that_go_with_it(browser, sqlite_url):
    lease = {"lease_until": now() + timedelta(minutes=1)}
    expected = {
        "pending": ["Cancel"],
        "sending": [],
        "sent": ["Delete it"],
        "failed": ["Send again", "Delete it"],
        "cancelled": ["Restore", "Delete it"],
        "expired": ["Delete it"],
        "in_doubt": ["Send again", "It did go out"],
    }
    for status, buttons in expected.items():
        own = add(sqlite_url, status=status, **(lease if status == "sending" else {}))
        assert [form.label for form in browser.open(f"/reservations/{own}").forms] == buttons, status


def test_a_doubt_is_resolved_and_a_finished_one_deleted(browser, sqlite_url):
    own = add(sqlite_url, status="in_doubt", wire_at=now())
    page = browser.press(browser.open(f"/reservations/{own}"), "It did go out")
    assert states(sqlite_url) == {"sent": 1}
    assert "is deleted" in browser.press(page, "Delete it")
    assert states(sqlite_url) == {}


def test_many_are_counted_first_and_changed_when_that_is_confirmed(on_either, database_url):
    reserve(database_url, 60, tag="spring")
    reserve(database_url, 2, start=60)
    page = on_either.open("/reservations?status=pending&tag=spring")
    page = on_either.follow(page, "Cancel all of these…")
    assert "Cancel 60 reservations?" in page
    assert states(database_url) == {"pending": 62}
    assert "60 reservations cancelled." in on_either.press(page, "Yes, cancel them")
    assert states(database_url) == {"cancelled": 60, "pending": 2}
    (noted,) = actions(database_url)
    assert (noted["action"], noted["affected"], noted["target"]) == (
        "cancel",
        60,
        {"status": "pending", "tag": "spring"},
    )


def test_a_confirmation_is_good_for_what_was_counted_and_nothing_else(browser, sqlite_url):
    reserve(sqlite_url, 2, tag="spring")
    form = browser.open("/bulk/cancel?status=pending&tag=spring").form("Yes, cancel them")
    answer = browser.client.post("/bulk/cancel", data={**form.fields, "tag": ""})
    assert answer.status_code == 422
    answer = browser.client.post("/bulk/cancel", data={**form.fields, "confirm": "forged"})
    assert answer.status_code == 422
    assert states(sqlite_url) == {"pending": 2}


def test_many_are_chosen_by_a_part_of_an_address_that_no_record_keeps(browser, sqlite_url):
    add(sqlite_url, recipients="zoe.canary@example.org")
    add(sqlite_url)
    page = browser.press(browser.open("/reservations?status=pending"), "Show these", to="canary")
    page = browser.follow(page, "Cancel all of these…")
    browser.press(page, "Yes, cancel it")
    assert states(sqlite_url) == {"cancelled": 1, "pending": 1}
    assert actions(sqlite_url)[0]["target"]["to"] == "***"


def test_pausing_is_said_on_every_page_until_somebody_resumes(browser, sqlite_url):
    with database(sqlite_url) as connection:
        late = now() - timedelta(minutes=9)
        connection.execute(sa.insert(batch_schedule).values(name="send-all", next_tick_at=late, last_tick_at=late))
    assert "its tick is 9 min" in browser.open("/")
    page = browser.press(browser.open("/schedule"), "Pause the ticks")
    assert "Paused: no tick starts a run." in page
    for address in ("/", "/reservations", "/runs", "/schedule"):
        assert "The ticks are paused." in browser.open(address), address
    assert "holds its ticks back" in browser.open("/"), "which is no fault of a beat"
    page = browser.press(browser.open("/schedule"), "Stop everything")
    assert "Everything is stopped." in page
    page = browser.press(browser.open("/runs"), "Resume")
    assert "The next tick starts a run" in page.text.replace("the next", "The next")
    assert [a["action"] for a in actions(sqlite_url)] == ["pause", "pause", "resume"]


def test_another_job_is_paused_from_the_page_of_schedules_and_its_runs_are_listed(browser, sqlite_url):
    run_id = uuid4()
    with database(sqlite_url) as connection:
        connection.execute(sa.insert(batch_runs).values(run_id=run_id, job="remind overdue", trigger="beat"))
    page = browser.press(browser.open("/schedule"), "Pause remind overdue")
    assert "remind overdue is paused" in page
    assert "The ticks are paused." not in page
    page = browser.press(browser.open("/schedule"), "Resume remind overdue")
    assert "Resumed" in page
    page = browser.follow(browser.open("/runs"), "remind overdue")
    assert f"/runs/{run_id}" in page.links.values()
    assert {act["target"]["job"] for act in actions(sqlite_url)} == {"remind overdue"}


def test_a_run_in_progress_is_stopped_from_its_page_and_one_that_has_ended_is_not(browser, sqlite_url):
    run_id = uuid4()
    with database(sqlite_url) as connection:
        connection.execute(sa.insert(batch_runs).values(run_id=run_id, job="remind", trigger="beat"))
    before = browser.open(f"/runs/{run_id}")
    assert "told to stop" in browser.press(before, "Stop this run")
    with database(sqlite_url) as connection:
        assert connection.execute(sa.select(batch_runs.c.stop)).scalar_one() == "revoked"
        connection.execute(sa.update(batch_runs).values(outcome="revoked"))
    assert "has ended: revoked" in browser.press(before, "Stop this run")
    assert "Stop this run" not in browser.open(f"/runs/{run_id}")


def test_a_second_run_is_not_asked_for_while_one_goes_on(api):
    browser, lock = Browser(api.client), api.parts.lock("send-all")
    page = browser.open("/schedule")
    assert lock.acquire()
    try:
        page = browser.press(page, "Send now")
    finally:
        lock.release()
    assert "job is already running" in page


def test_sending_now_without_a_worker_says_so(api, redis_url, monkeypatch):
    monkeypatch.setenv("MAILBATCH_REDIS_URL", redis_url)  # Celery's settings come from the environment alone
    browser = Browser(api.client)
    page = browser.press(browser.open("/"), "Send now")
    assert "no worker answered" in page


# --- who may ---


def test_whoever_is_not_known_is_sent_to_the_form_and_back(locked):
    browser = Browser(locked.asking())
    page = browser.open("/runs")
    assert page.answer.url.path == "/login"
    page = browser.press(page, "Log in", token=OPERATE)
    assert page.answer.url.path == "/runs"
    assert browser.press(page, "Log out").answer.url.path == "/login"
    metrics = browser.client.get("/metrics", headers=HTML)
    assert (metrics.status_code, metrics.headers["Location"]) == (303, "/login?next=/metrics")


def test_a_page_whose_session_has_ended_goes_to_the_form_as_a_whole(locked):
    answer = locked.asking().get("/live", headers={"HX-Request": "true"})
    assert answer.headers["HX-Redirect"].startswith("/login")


def test_who_may_only_look_sees_no_buttons_and_cannot_press_them(locked, sqlite_url):
    own = add(sqlite_url)
    browser = Browser(locked.asking())
    page = browser.press(browser.open("/"), "Log in", token=READ)
    for address in (
        "/",
        "/reservations?status=pending",
        f"/reservations/{own}",
        "/bulk/cancel?status=pending",
        "/schedule",
    ):
        page = browser.open(address)
        assert {form.label for form in page.forms} <= {"Log out", "Show these"}, address
    csrf = page.form("Log out").fields["csrf"]
    answer = browser.client.post(f"/reservations/{own}/cancel", data={"csrf": csrf})
    assert (answer.status_code, states(sqlite_url)) == (403, {"pending": 1})
    assert ids(browser.press(browser.open("/reservations"), "Show these", to="ann")) == [str(own)]


def test_a_form_without_its_csrf_token_does_nothing(api, sqlite_url):
    own = add(sqlite_url)
    posts = (f"/reservations/{own}/cancel", "/reservations/search", "/bulk/cancel", "/schedule/pause")
    for address in (*posts, "/schedule/resume", "/schedule/run-now"):
        answer = api.client.post(address, data={"csrf": "forged"})
        assert answer.status_code == 403, address
    assert states(sqlite_url) == {"pending": 1}
    assert actions(sqlite_url) == []


# --- its files and its cost ---


def test_its_files_come_from_here_and_may_be_kept(api):
    page = Page(api.client.get("/"))
    files = [a.get("src") or a.get("href") for tag, a in page.elements if tag in {"script", "link", "img"}]
    assert len(files) >= 3
    for address in files:
        assert address.startswith("/static/")
        answer = api.client.get(address)
        assert answer.status_code == 200
        assert "immutable" in answer.headers["Cache-Control"]
    assert api.client.get("/static/nothing.css").status_code == 404


def test_many_who_look_cost_one_look():
    looks = []
    kept = Cached(lambda: looks.append(1) or len(looks), fresh=60)
    assert [kept(), kept(), kept()] == [1, 1, 1]
    kept.forget()
    assert kept() == 2
