"""The console in a real browser: by clicks, by keys, on a desk and on a phone."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
import sqlalchemy as sa
from support.backlogs import database, ended, reserve, runs, states
from support.waiting import wait_until

from mailbatch.infrastructure.db.tables import batch_schedule, mail_reservations

expect = pytest.importorskip("playwright.sync_api", reason="needs playwright: make browser installs it").expect
NOW = datetime.now(UTC)


def overdue(url):
    """Seconds for which the next tick has been due."""
    with database(url) as connection:
        return (datetime.now(UTC) - connection.scalar(sa.select(batch_schedule.c.next_tick_at))).total_seconds()


def completed(url):
    return sum(run.outcome == "completed" for run in runs(url))


def test_start_pause_run_now_resume_by_clicks(page, stack):
    """Row S2.6: results come; paused they stop; run now gives one; resumed they go on."""
    url = stack.database_url
    page.goto("/")
    expect(page.get_by_text("none has run yet")).to_be_visible()
    stack.worker("-B", "-c", "1")
    expect(page.locator("#live")).to_contain_text("completed", timeout=30_000)  # htmx brings it, nobody reloads
    page.get_by_role("link", name="Schedule").click()
    page.get_by_role("button", name="Pause the ticks").click()
    expect(page.get_by_text("The ticks are paused.").first).to_be_visible()
    wait_until(lambda: ended(url), 20, "a run in progress to end")
    before = completed(url)
    wait_until(lambda: overdue(url) > 4, 20, "two ticks that nobody took")
    assert completed(url) == before
    page.get_by_role("link", name="Overview").click()
    expect(page.locator("#live")).to_contain_text("No run now")
    page.get_by_role("button", name="Send now").click()
    expect(page.get_by_role("status").filter(has_text="The run is over")).to_be_visible()
    assert completed(url) == before + 1
    page.get_by_role("button", name="Resume").click()
    expect(page.get_by_text("The ticks are paused.")).to_have_count(0)
    wait_until(lambda: completed(url) > before + 1, 20, "results go on")


def test_a_run_is_watched_and_stopped_by_a_click(page, stack):
    url = stack.database_url
    reserve(url, 200)
    page.goto("/")
    stack.worker("-B", "-c", "1")
    expect(page.get_by_role("progressbar")).to_be_visible(timeout=30_000)
    first = page.locator("#progress").get_attribute("value")
    wait_until(lambda: page.locator("#progress").get_attribute("value") != first, 20, "the bar to move by itself")
    page.get_by_role("button", name="Stop it").click()
    expect(page.get_by_text("Everything is stopped.")).to_be_visible()
    wait_until(lambda: [run.outcome for run in runs(url)][:1] == ["paused"], 20, "the run to stop")
    assert states(url)["pending"] > 0
    expect(page.locator("#live")).to_contain_text("No run now")


def test_a_campaign_is_cancelled_and_what_failed_is_sent_again_by_clicks(page, stack):
    url = stack.database_url
    reserve(url, 60, tag="spring")
    reserve(url, 3, start=60, status="failed", finished_at=NOW, reply_code=452, last_error="452 4.2.2 full")
    reserve(url, 2, start=63, status="failed", finished_at=NOW, reply_code=550, last_error="550 5.1.1 unknown")
    page.goto("/reservations")
    page.get_by_role("link", name="spring").first.click()
    page.get_by_role("link", name="Pending").click()
    page.get_by_role("link", name="Cancel all of these").click()
    expect(page.get_by_role("heading", name="Cancel 60 reservations?")).to_be_visible()
    page.get_by_role("button", name="Yes, cancel them").click()
    expect(page.get_by_text("60 reservations cancelled.")).to_be_visible()
    page.goto("/reservations?status=failed")
    page.get_by_text("Filter").click()
    page.get_by_label("Reply").fill("4xx")
    page.get_by_role("button", name="Show these").click()
    page.get_by_role("link", name="Requeue all of these").click()
    page.get_by_role("button", name="Yes, requeue them").click()
    expect(page.get_by_text("3 reservations requeued.")).to_be_visible()
    assert states(url) == {"cancelled": 60, "failed": 2, "pending": 3}


def test_a_mail_is_seen_as_its_reader_will_and_its_scripts_do_not_run(page, stack, complaints):
    html = '<h1 style="color: rgb(1, 2, 3)">Dear {{ name }}</h1><script>document.body.innerHTML = "ran"</script>'
    own = uuid4()
    with database(stack.database_url) as connection:
        connection.execute(
            sa.insert(mail_reservations).values(
                id=own,
                recipients="zoe@example.org",
                subject="To {{ name }}",
                body_text="Hi {{ name }}",
                body_html=html,
                context={"name": "Zoë"},
                scheduled_at=NOW + timedelta(days=1),
            )
        )
    page.goto(f"/reservations/{own}")
    expect(page.get_by_text("It is not due before")).to_be_visible()
    shown = page.frame_locator("iframe").locator("h1")
    expect(shown).to_have_text("Dear Zoë")
    assert shown.evaluate("e => getComputedStyle(e).color") == "rgb(1, 2, 3)"
    assert ["Blocked script execution" in said for said in complaints] == [True]
    complaints.clear()


def test_the_keyboard_is_enough(page, stack):
    own = uuid4()
    with database(stack.database_url) as connection:
        values = {"id": own, "recipients": "a@example.org", "subject": "x", "body_text": "x"}
        connection.execute(sa.insert(mail_reservations).values(values))
    page.goto(f"/reservations/{own}")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    page.keyboard.press("Enter")
    for _ in range(5):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.textContent") == "Cancel":
            break
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid", "one sees where one is"
    page.keyboard.press("Enter")
    expect(page.get_by_text("Cancelled.")).to_be_visible()


def test_what_is_focused_stays_so_when_the_overview_refreshes(page):
    page.goto("/")
    page.get_by_role("button", name="Send now").focus()
    page.evaluate("document.querySelector('#live').dataset.old = 'yes'")
    wait_until(lambda: not page.evaluate("document.querySelector('#live').dataset.old"), 20, "a refresh")
    expect(page.get_by_role("button", name="Send now")).to_be_focused()


@pytest.mark.parametrize("page", ["phone"], indirect=True)
def test_no_page_is_wider_than_a_phone(page, stack):
    long = "x" * 60
    reserve(
        stack.database_url, 2, recipients=f"{long}@{long}.example.org", tag=long, status="failed", last_error=long * 5
    )
    page.goto("/reservations")
    one = page.locator(".list .to a").first.get_attribute("href")
    for address in ("/", "/reservations?status=failed&since=1h", one, "/runs", "/schedule", "/schedule/plan", "/twice"):
        page.goto(address)
        wider = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert wider == 0, address
        small = page.evaluate(
            "[...document.querySelectorAll('main button, main .button')]"
            ".filter(b => b.offsetHeight && b.offsetHeight < 44).length"
        )
        assert small == 0, f"{address}: buttons for thumbs"


def test_it_is_dark_where_that_is_asked_for(page):
    page.emulate_media(color_scheme="light")
    page.goto("/")

    def paper():
        red, green, blue = re.findall(r"\d+", page.evaluate("getComputedStyle(document.body).backgroundColor"))[:3]
        return int(red) + int(green) + int(blue)

    light = paper()
    page.emulate_media(color_scheme="dark")
    assert light > 600
    assert paper() < 150
