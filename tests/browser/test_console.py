"""The console in a real browser: by clicks, by keys, on a desk and on a phone."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import tempfile
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
import sqlalchemy as sa
from browser.keys import TOKEN, Keys
from support.backlogs import database, ended, reserve, runs, states
from support.chromium import ARGUMENTS, chromium
from support.processes import ManagedProcess
from support.waiting import wait_until

from mailbatch.infrastructure.db.tables import (
    batch_runs,
    batch_schedule,
    mail_attempts,
    mail_reservations,
    operator_actions,
    relay_circuits,
    run_errors,
)

expect = pytest.importorskip("playwright.sync_api", reason="needs playwright: make browser installs it").expect
NOW = datetime.now(UTC)
JOBS = ("reports", "nightly-invoices", "a-long-name-of-a-job-that-somebody-gave-it-without-a-space")
_LINES = "e => { const r = document.createRange(); r.selectNodeContents(e); return r.getClientRects().length; }"
_CROWDED = """() => {
  const boxes = [...document.querySelectorAll("main button, main .button")]
    .filter(e => e.offsetHeight).map(e => [e.innerText, e.getBoundingClientRect()]);
  return boxes.flatMap(([one, a], n) => boxes.slice(n + 1)
    .filter(([, b]) => a.left < b.right + 4 && b.left < a.right + 4 && a.top < b.bottom + 4 && b.top < a.bottom + 4)
    .map(([two]) => one + " and " + two));
}"""


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


def test_a_template_is_seen_light_and_dark_at_two_widths_and_sent_as_a_test(page, complaints):
    page.goto("/templates")
    # A page checks for some seconds, and the next one goes on.
    wait_until(lambda: page.reload() and page.get_by_text("in order").count() == 12, 60, "all templates to be checked")
    page.get_by_role("link", name="shipped").click()
    page.get_by_role("link", name="ar", exact=True).click()
    card = page.frame_locator("iframe").locator("table.card")
    seen = {}
    for view in ("Desktop", "Desktop, dark", "Phone", "Phone, dark"):
        page.get_by_role("link", name=view, exact=True).click()
        expect(card).to_be_visible()
        paper = card.evaluate("e => getComputedStyle(e).backgroundColor")
        seen[view] = (paper, card.evaluate("e => e.offsetWidth"), card.evaluate("e => getComputedStyle(e).direction"))
    light, dark = "rgb(255, 255, 255)", "rgb(28, 35, 45)"
    assert {view: paper for view, (paper, _, _) in seen.items()} == {
        "Desktop": light, "Desktop, dark": dark, "Phone": light, "Phone, dark": dark,
    }  # fmt: skip
    assert (seen["Desktop"][1], seen["Phone"][1] < 376) == (600, True)
    assert {direction for _, _, direction in seen.values()} == {"rtl"}
    logo = page.frame_locator("iframe").locator("img")
    assert logo.evaluate("e => e.naturalWidth") == 80
    page.get_by_label("To").fill("zoe@example.org")
    page.get_by_role("button", name="Send the test").click()
    expect(page.get_by_text("Sent: 250")).to_be_visible()
    assert complaints == []


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


def test_what_is_focused_stays_so_when_the_overview_refreshes(page, stack):
    url = stack.database_url
    reserve(url, 3)
    add_run(url)
    page.goto("/")
    places = page.locator("#live a, #live button")
    assert places.count() > 12
    for n in range(places.count()):
        places.nth(n).focus()
        where = page.evaluate("document.activeElement.id")
        if n == 0:
            page.evaluate("document.querySelector('#live').dataset.old = 'yes'")
            wait_until(lambda: not page.evaluate("document.querySelector('#live').dataset.old"), 20, "a refresh")
        else:
            refresh(page)
        assert page.evaluate("document.activeElement.id") == where != ""


def test_what_is_focused_stays_so_when_something_else_comes_and_goes(page, stack):
    url = stack.database_url
    page.goto("/")
    for place in (
        page.get_by_role("link", name="Who may have got"),
        page.get_by_role("link", name="Failed", exact=True),
    ):
        place.focus()
        said = page.evaluate("document.activeElement.id")
        for away in (True, False):
            with database(url) as connection:
                connection.execute(sa.delete(relay_circuits))
                if away:
                    connection.execute(sa.insert(relay_circuits).values(circuit(stack.smtp_url)))
            wait_until(lambda now=away: refresh(page) or warned(page) == now, 20, "the warning")
            assert page.evaluate("document.activeElement.id") == said


def test_what_is_selected_stays_so_when_the_overview_refreshes(page):
    page.goto("/")
    page.evaluate("getSelection().selectAllChildren(document.querySelector('.checks li'))")
    said = page.evaluate("getSelection().toString()")
    assert "Database" in said
    refresh(page)
    assert page.evaluate("getSelection().toString()") == said, "an error can be copied"


def circuit(url):
    """A relay that is left alone."""
    relay = url.removeprefix("smtp://")
    until = NOW + timedelta(hours=1)
    return {"relay": relay, "state": "open", "failures": 3, "reason": "421 busy", "opened_at": NOW, "open_until": until}


def refresh(page):
    """What happens every two seconds, now, in the way that the page itself says."""
    own = "document.querySelector('#live').getAttribute('hx-swap')"
    page.evaluate(f"htmx.ajax('GET', '/live', {{source: '#live', target: '#live', swap: {own}}})")


def warned(page):
    return page.locator("#warnings").count() > 0


def test_the_console_is_walked_by_keyboard_alone(chrome, locked, stack):  # noqa: PLR0915 - it is one walk
    """From the form to each page, and to each action, by Tab, Enter and letters."""
    url = stack.database_url
    reserve(url, 3, tag="spring")
    reserve(url, 2, start=3, status="failed", finished_at=NOW, reply_code=452, last_error="452 4.2.2 full")
    add_run(url)
    context = chrome.new_context(base_url=locked)
    context.set_default_timeout(20_000)
    page = context.new_page()
    keys = Keys(page)
    page.goto("/")
    expect(page.get_by_label("Token")).to_be_focused()
    keys.write(TOKEN).go()
    expect(page.locator("#live")).to_be_visible()

    keys.to("^Skip to the content$").press()
    keys.to("^Pending$").go()
    expect(page.get_by_role("heading", name="Reservations")).to_be_visible()
    keys.to("^Filter").press().to("^Tag").write("spring").go()
    expect(page.get_by_text("Filter: tag spring")).to_be_visible()
    keys.to("to0@").go()
    keys.to("^Cancel$").go()
    expect(page.get_by_text("Cancelled.")).to_be_visible()
    keys.to("^Restore$").go()
    expect(page.get_by_role("button", name="Cancel")).to_be_visible()

    keys.to("^Reservations$").go()
    keys.to("^Failed 2$").go()
    keys.to("^Requeue all of these").go()
    keys.to("^Yes, requeue them$").go()
    expect(page.get_by_text("2 reservations requeued.")).to_be_visible()
    keys.to("^Pending 5$").go()
    keys.to("^Cancel all of these").go()
    keys.to("^No$").go()
    assert states(url) == {"pending": 5}

    keys.to("^Runs$").go()
    keys.to(r"\d\d:\d\d").go()
    expect(page.get_by_role("heading", name="Run of")).to_be_visible()
    keys.to("^Schedule$").go()
    keys.to("^Pause the ticks$").go()
    expect(page.get_by_text("The ticks are paused.").first).to_be_visible()
    keys.to("^Resume$").go()
    expect(page.get_by_text("The ticks are paused.")).to_have_count(0)
    keys.to("^What would it send").go()
    expect(page.get_by_role("heading", name="What would the next run send?")).to_be_visible()

    keys.to("^Overview$").go().to("^Stop it$|^Send now$")
    keys.to("^Who may have got").go()
    keys.to("^Last hour$").go()
    keys.to("^HTTP API$").go()
    keys.to("^Parameters and answers of").press("Space")
    assert page.evaluate("document.activeElement.parentElement.open")
    keys.to("^Log out$").go()
    expect(page.get_by_label("Token")).to_be_focused()
    context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("view", ["desktop", "phone"])
def test_axe_finds_nothing_serious_on_any_page_and_tab_reaches_all_of_it(chrome, locked, stack, scheme, view):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe: make browser installs it")
    places = furnish(stack.database_url, stack.smtp_url)
    size = {"desktop": (1280, 800), "phone": (390, 844)}[view]
    context = chrome.new_context(base_url=locked, color_scheme=scheme, viewport={"width": size[0], "height": size[1]})
    context.set_default_timeout(20_000)
    page = context.new_page()
    found = {}
    page.goto("/login")
    for address in ("/login", *places):
        if address != "/login":
            page.goto(address)
        if page.get_by_label("Token").count() and address != "/login":
            page.get_by_label("Token").fill(TOKEN)
            page.get_by_role("button", name="Log in").click()
            page.goto(address)
        page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
        # The mail's own frame runs nothing, axe neither.
        seen = axe.Axe().run(page, options={"iframes": False}).response["violations"]
        found |= {
            f"{address}: {one['id']}": [node["html"][:120] for node in one["nodes"][:3]]
            for one in seen
            if one["impact"] in {"serious", "critical"} or one["id"] == "empty-table-header"
        }
        reached, stops = Keys(page).round()
        assert reached >= stops, f"{address}: Tab reaches {reached} of {stops}"
    context.close()
    assert found == {}


def furnish(url, relay):
    """A database with something on every page; their addresses."""
    reserve(url, 3, tag="spring", body_html='<p><a href="https://example.org">Hi</a></p>', context={"a": [1] * 900})
    lease = {"status": "sending", "claim_no": 1, "lease_until": NOW + timedelta(hours=1), "wire_at": NOW}
    reserve(url, 1, start=3, **lease)
    for job in JOBS:
        add_run(url, job=job)
    run_id = add_run(url, failed=2, deferred=1, in_doubt=1, expired=1, remaining=7, outcome="failed", error="it broke")
    add_run(url)
    on = add_run(url, job=JOBS[0], outcome=None, finished_at=None, duration=None)
    for n, status in enumerate(("sent", "failed", "cancelled", "expired", "in_doubt"), 4):
        reserve(
            url, 1, start=n, status=status, finished_at=NOW, run_id=run_id, last_error="550 5.1.1 unknown", claim_no=2
        )
    with database(url) as connection:
        rows = connection.execute(sa.select(mail_reservations.c.id, mail_reservations.c.status)).all()
        for row in rows[3:]:
            connection.execute(
                sa.insert(mail_attempts).values(
                    reservation_id=row.id, claim_no=1, run_id=run_id, outcome="in_doubt", ended_at=NOW, reply_code=451,
                    reply_text="4.7.1 later", verdicts={"a@example.org": {"kind": "deferred"}},
                )
            )  # fmt: skip
            connection.execute(
                sa.insert(run_errors).values(
                    run_id=run_id,
                    item_index=len(str(row.id)) + rows.index(row),
                    reservation_id=row.id,
                    errors=["550 5.1.1 unknown"],
                )
            )
        ticks = [
            {"name": job, "next_tick_at": NOW + timedelta(hours=1), "paused": paused}
            for job, paused in zip(JOBS, ("none", "ticks", "all"), strict=True)
        ]
        connection.execute(sa.insert(batch_schedule), ticks)
        connection.execute(sa.insert(relay_circuits).values(circuit(relay)))
        connection.execute(
            sa.insert(operator_actions).values(
                id=uuid4(), at=NOW, actor="console:operate", action="cancel", target={"id": str(rows[0].id)},
                affected=1, outcome="done",
            )
        )  # fmt: skip
    ones = {row.status: f"/reservations/{row.id}" for row in rows}
    return [
        *("/", "/reservations", "/reservations?status=failed&tag=spring", "/reservations?reply=9xx", *ones.values()),
        *(
            "/bulk/requeue?status=failed",
            "/bulk/delete?status=sent",
            "/runs",
            "/runs?every=1",
            f"/runs/{run_id}",
            f"/runs/{on}",
        ),
        f"/runs?job={JOBS[1]}",
        *("/schedule", "/schedule/plan", "/duplicates", "/docs", "/nonsense", f"/reservations/{uuid4()}"),
        *("/templates", "/templates/order", "/templates/welcome?locale=ar&view=source", "/templates/gone"),
    ]


def add_run(url, **columns):
    """A run that ended; its id."""
    own = uuid4()
    ended = {"outcome": "completed", "started_at": NOW - timedelta(minutes=1), "finished_at": NOW, "duration": 60.0}
    values = {"run_id": own, "job": "send-all", "trigger": "beat", "heartbeat_at": NOW, "sent": 3, **ended, **columns}
    with database(url) as connection:
        connection.execute(sa.insert(batch_runs).values(values))
    return own


def test_nobody_abroad_learns_that_a_mail_is_looked_at(console, stack, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as abroad:
        there = f"http://127.0.0.1:{abroad.getsockname()[1]}"
        naive = tmp_path / "naive.html"
        naive.write_text(f"<link rel=preconnect href={there}>")
        assert connects(abroad, naive.as_uri(), tmp_path), "so does a browser by itself"
        html = "".join(
            hint.replace("THERE", there)
            for hint in (
                *(f"<link rel={rel} href=THERE/{rel}>" for rel in ("preconnect", "dns-prefetch", "prefetch", "icon")),
                *(
                    "<!--><LINK/rel=preconnect href=THERE/2>-->",
                    "<noscript><link\nrel=preconnect href=THERE></noscript>",
                ),
                "<template shadowrootmode=open><link rel=preconnect href=THERE></template>",
                '<iframe srcdoc="&lt;link rel=preconnect href=THERE&gt;"></iframe><iframe src=THERE></iframe>',
                '<meta http-equiv=refresh content="0;url=THERE"><img src=THERE/i.png srcset="THERE/2.png 2x">',
                "<style>@import 'THERE/a.css'; p { background: url(THERE/b.png) }</style><p>Hi</p>",
                "<object data=THERE></object><video poster=THERE/v.png></video><body background=THERE/c.png>",
            )
        )
        own = uuid4()
        with database(stack.database_url) as connection:
            values = {"id": own, "recipients": "a@example.org", "subject": "x", "body_text": "x", "body_html": html}
            connection.execute(sa.insert(mail_reservations).values(values))
        for address in (f"/reservations/{own}", f"/reservations/{own}/html"):
            assert not connects(abroad, console + address, tmp_path), address


def connects(abroad, address, folder):
    """Whether a browser that looks at ``address`` connects to ``abroad``: one that nobody drives, which would not."""
    profile = tempfile.mkdtemp(dir=folder)
    words = [chromium(), *ARGUMENTS, "--headless=new", f"--user-data-dir={profile}", "--remote-debugging-port=0"]
    browser = ManagedProcess([*words, address], log=folder / "chromium.log", env=dict(os.environ), cwd=folder)
    abroad.settimeout(6)
    try:
        abroad.accept()[0].close()
    except TimeoutError:
        return False
    finally:
        browser.close()
        forget_waiting(abroad)
    return True


def forget_waiting(server):
    """Take the connections that wait: a browser opens several, and the next one is not to be blamed for them."""
    server.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while True:
            server.accept()[0].close()


@pytest.mark.parametrize("page", ["phone"], indirect=True)
def test_no_page_is_wider_than_a_phone(page, stack):
    long = "x" * 60
    reserve(
        stack.database_url, 2, recipients=f"{long}@{long}.example.org", tag=long, status="failed", last_error=long * 5
    )
    with database(stack.database_url) as connection:
        connection.execute(sa.insert(batch_schedule), [{"name": job} for job in JOBS])
        action = {"id": uuid4(), "at": NOW - timedelta(days=1), "actor": "console:operate", "action": "cancel"}
        connection.execute(sa.insert(operator_actions).values(**action, target={"tag": long}, outcome="done"))
    running = add_run(stack.database_url, outcome=None, finished_at=None, duration=None)
    page.goto("/reservations")
    one = page.locator(".list .to a").first.get_attribute("href")
    for address in (
        *("/", "/reservations?status=failed&since=1h", one, "/runs", f"/runs/{running}", "/schedule"),
        *("/schedule/plan", "/duplicates", "/docs", "/templates", "/templates/order?view=phone"),
    ):
        page.goto(address)
        wider = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert wider == 0, address
        small = page.evaluate(
            "[...document.querySelectorAll('main button, main .button')]"
            ".filter(b => b.offsetHeight && b.offsetHeight < 44).length"
        )
        assert small == 0, f"{address}: buttons for thumbs"
        assert page.evaluate(_CROWDED) == [], f"{address}: what touches a button is hit in its place"
    page.goto("/schedule")
    assert page.get_by_text("cancel", exact=True).evaluate(_LINES) == 1, "no word is cut"


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
