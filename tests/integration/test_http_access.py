"""Who is let in over HTTP: tokens, sessions, other sites' pages, and patience that ends."""

from __future__ import annotations

import re
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress

import httpx2
import pytest
from support.api import MAIL, OPERATE, READ, Api
from support.waiting import PATIENCE, wait_until

from mailbatch.config import Settings
from mailbatch.domain.errors import SettingsError
from mailbatch.interfaces.http import connections, guard
from mailbatch.interfaces.http.auth import COOKIE, FAILURES, AccessGate, FailureLimit, Role
from mailbatch.interfaces.http.connections import MOST_WAITING
from mailbatch.interfaces.http.guard import is_loopback
from mailbatch.interfaces.http.serving import ensure_safe


@pytest.fixture
def settings(sqlite_url, redis_url):
    return {"database_url": sqlite_url, "redis_url": redis_url}


@pytest.fixture
def locked(settings):
    """A server that wants tokens."""
    with Api(settings | {"api_token": OPERATE, "api_read_token": READ}, token=OPERATE) as api:
        yield api


@pytest.fixture
def open_house(settings):
    """A server without tokens."""
    with Api(settings) as api:
        yield api


def logged_in(api, token):
    """A browser with a session."""
    browser = api.asking(**{"Sec-Fetch-Site": "same-origin"})
    answer = browser.post("/login", data={"token": token, "next": "/docs"})
    assert (answer.status_code, answer.headers["Location"]) == (303, "/docs")
    return browser, answer.headers["Set-Cookie"]


# --- tokens ---


def test_each_token_opens_what_it_is_for(locked):
    anonymous, wrong, reads, acts = (locked.asking(t) for t in (None, "wrong", READ, OPERATE))
    got = {}
    for name, client in (("anonymous", anonymous), ("wrong", wrong), ("reads", reads), ("acts", acts)):
        got[name] = [client.get("/api/runs").status_code, client.post("/api/pause").status_code]
    assert got == {"anonymous": [401, 401], "wrong": [401, 401], "reads": [200, 403], "acts": [200, 200]}
    assert "Bearer" in anonymous.get("/api/runs").headers["WWW-Authenticate"]


def test_a_token_that_reads_changes_nothing_whatever_the_route(locked):
    reads = locked.asking(READ)
    for path, verbs in locked.app.openapi()["paths"].items():
        for verb in verbs:
            answer = reads.request(verb, re.sub(r"\{act\}", "cancel", re.sub(r"\{\w+_id\}", ZERO, path)), json={})
            assert verb == "get" or answer.status_code == 403, (verb, path, answer.status_code)


def test_nothing_under_api_is_open_to_whoever_has_no_token(locked):
    anonymous = locked.asking()
    for path, verbs in locked.app.openapi()["paths"].items():
        for verb in verbs:
            answer = anonymous.request(verb, re.sub(r"\{act\}", "cancel", re.sub(r"\{\w+_id\}", ZERO, path)), json={})
            assert answer.status_code == 401, (verb, path)


ZERO = "00000000-0000-0000-0000-000000000000"


def test_probes_and_the_reference_need_no_token(locked):
    anonymous = locked.asking()
    for path in ("/healthz", "/readyz", "/docs", "/openapi.json", "/login"):
        assert anonymous.get(path).status_code == 200, path


def test_probes_are_answered_while_every_thread_waits_for_a_database_that_hangs(locked, monkeypatch):
    hangs, waiting = threading.Event(), threading.Semaphore(0)
    monkeypatch.setattr(locked.parts.stores, "reports", Hangs(hangs, waiting))
    askers = [threading.Thread(target=lambda: locked.asking(OPERATE).get("/api/runs")) for _ in range(THREADS)]
    for asker in askers:
        asker.start()
    try:
        assert all(waiting.acquire(timeout=20) for _ in askers)
        for path in ("/healthz", "/readyz"):
            assert httpx2.get(f"http://localhost:{locked.port}{path}", timeout=10).json()["ok"], path
    finally:
        hangs.set()
        for asker in askers:
            asker.join()


THREADS = 40
"""In which the framework answers what may wait."""


SILENT = (b"", b"GET /healthz HTT", b"POST /login HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99\r\n\r\ntoken=")
"""What somebody sends who sends nothing more."""


@pytest.mark.parametrize("begun", SILENT, ids=["nothing", "half a head", "half a body"])
def test_however_many_say_nothing_the_others_are_served(locked, begun):
    with ExitStack() as stack:
        silent = []
        for _ in range(MOST_WAITING + 60):
            silent.append(stack.enter_context(socket.create_connection(("127.0.0.1", locked.port), 20)))
            silent[-1].sendall(begun)
        for path in ("/healthz", "/readyz", "/api/runs"):
            assert locked.client.get(path).status_code == 200, path
        with suppress(ConnectionResetError):
            assert silent[0].recv(1) == b"", "the oldest made room"
        silent[-1].settimeout(0.1)
        with pytest.raises(TimeoutError):
            silent[-1].recv(1)


@pytest.mark.parametrize("begun", SILENT, ids=["nothing", "half a head", "half a body"])
def test_whoever_says_nothing_for_long_is_cut_off(locked, begun, monkeypatch):
    monkeypatch.setattr(connections, "PATIENCE", 0.3)
    with socket.create_connection(("127.0.0.1", locked.port), 20) as silent:
        silent.sendall(begun)
        with suppress(ConnectionResetError):
            assert silent.recv(1) == b""


def test_whoever_drips_is_cut_off_and_whoever_waits_or_reads_slowly_is_not(locked, monkeypatch):
    monkeypatch.setattr(connections, "PATIENCE", 0.3)
    mail = locked.post("/api/reservations", MAIL | {"body_text": "x" * 10**7}, 201)["id"]
    locked.client.close()
    head = f"GET /api/reservations/{mail} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
    head += f"Authorization: Bearer {OPERATE}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", locked.port), 20) as slow:
        slow.sendall(head.encode())
        read = 0
        while piece := slow.recv(2**18):
            read += len(piece)
            time.sleep(0.02)
    assert read > 10**7

    hangs = threading.Event()
    monkeypatch.setattr(locked.parts.stores, "reports", Hangs(hangs))
    client = locked.asking(OPERATE)
    threading.Timer(1.0, hangs.set).start()
    assert client.get("/api/runs").status_code == 200

    with socket.create_connection(("127.0.0.1", locked.port), 20) as drips, pytest.raises(OSError):  # noqa: PT011, PT012 - a loop until it breaks
        while True:
            drips.sendall(b"x")
            time.sleep(0.02)


class Hangs:
    """Reports that come when ``leave`` is given; ``asked`` counts who waits for them."""

    def __init__(self, leave, asked=None):
        self._leave, self._asked = leave, asked or threading.Semaphore(0)

    def runs(self, *_asked):
        self._asked.release()
        self._leave.wait(30)
        return []


def test_beyond_so_many_requests_at_once_only_probes_are_served(locked, monkeypatch):
    monkeypatch.setattr(guard, "_MOST", 2)
    hangs, asked = threading.Event(), threading.Semaphore(0)
    monkeypatch.setattr(locked.parts.stores, "reports", Hangs(hangs, asked))
    with ThreadPoolExecutor(2) as others:
        waiting = [others.submit(locked.asking(OPERATE).get, "/api/runs") for _ in range(2)]
        try:
            assert all(asked.acquire(timeout=PATIENCE) for _ in waiting)
            refused = locked.client.get("/api/actions")
            assert (refused.status_code, refused.headers["Retry-After"]) == (503, "1")
            assert refused.json()["detail"] == "2 requests are under way; ask again"
            assert {locked.client.get(path).status_code for path in ("/healthz", "/readyz")} == {200}
        finally:
            hangs.set()
        assert [one.result().status_code for one in waiting] == [200, 200]
    assert locked.client.get("/api/actions").status_code == 200


def test_an_act_is_noted_with_who_is_logged_in_at_the_proxy_where_that_is_said(sqlite_url):
    settings = {"database_url": sqlite_url, "redis_url": "redis://127.0.0.1:1", "api_token": OPERATE}
    names = {"X-User": "ann", "x-user": "Zoë\x9b".encode(), "Other": "eve"}
    with Api({**settings, "user_header": "X-User"}, OPERATE) as api:
        for name, value in names.items():
            api.client.post("/api/pause", json={}, headers=[(name.encode(), value)])
        assert api.client.post("/api/pause", json={}, headers={"X-User": "ann", "Authorization": ""}).status_code == 401
        actors = [action["actor"] for action in api.get("/api/actions")["items"]]
    assert actors == ["api:operate", "api:Zoë?", "api:ann"]
    with Api(settings, OPERATE) as api:
        api.client.post("/api/pause", json={}, headers={"X-User": "ann"})
        assert api.get("/api/actions")["items"][0]["actor"] == "api:operate"


def test_who_guesses_has_to_wait_and_with_the_right_token_too(locked):
    guesser = locked.asking("wrong")
    statuses = [guesser.get("/api/runs").status_code for _ in range(FAILURES + 1)]
    assert statuses == [401] * FAILURES + [429]
    waiting = locked.client.get("/api/runs")
    assert waiting.status_code == 429
    assert 0 < int(waiting.headers["Retry-After"]) <= 61
    form = guesser.post("/login", data={"token": OPERATE})
    assert (form.status_code, "try again in" in form.text) == (429, True)
    assert form.headers["Content-Type"].startswith("text/html"), "a person reads it"
    assert int(form.headers["Retry-After"]) <= 61


def test_patience_comes_back_and_forgets_the_oldest(monkeypatch):
    now = 0.0
    monkeypatch.setattr("mailbatch.interfaces.http.auth.time.monotonic", lambda: now)
    patience = FailureLimit(allowed=2, within=60)
    patience.failed("a")
    now = 59.0
    assert patience.wait("a") == 0
    patience.failed("a")
    assert patience.wait("a") == 2
    assert patience.wait("b") == 0
    now = 60.5
    assert patience.wait("a") == 0


def test_whoever_has_a_network_of_ipv6_counts_as_one():
    patience = FailureLimit(allowed=2, within=60)
    patience.failed("2001:db8:1:2::1")
    patience.failed("2001:db8:1:2:ffff::7")
    assert patience.wait("2001:db8:1:2::3") > 0
    assert patience.wait("2001:db8:1:3::1") == 0
    for _ in range(2):
        patience.failed("::ffff:192.0.2.1")
    assert patience.wait("192.0.2.1") > 0
    assert patience.wait("192.0.2.2") == patience.wait("?") == 0


# --- sessions ---


def test_a_person_logs_in_with_a_form_and_out_again(locked):
    browser, cookie = logged_in(locked, READ)
    assert re.search(r"HttpOnly.*SameSite=strict|SameSite=strict.*HttpOnly", cookie, re.IGNORECASE)
    assert READ not in cookie
    assert browser.get("/api/runs").status_code == 200
    assert browser.post("/api/pause").status_code == 403
    forged = locked.asking(Cookie=f"{COOKIE}={browser.cookies[COOKIE][:-2]}xx")
    assert forged.get("/api/runs").status_code == 401


def test_a_wrong_token_shows_the_form_again_and_leads_nowhere_else(locked):
    browser = locked.asking()
    answer = browser.post("/login", data={"token": "wrong", "next": "//evil.example/"})
    assert (answer.status_code, COOKIE in answer.headers.get("Set-Cookie", "")) == (401, False)
    assert "not known" in answer.text
    assert "evil" not in answer.text
    for target in ("https://evil.example", "//evil.example", "/\\evil.example", "javascript:alert(1)", "/\r\nX: y"):
        right = browser.post("/login", data={"token": OPERATE, "next": target})
        assert right.headers["Location"] == "/", target


def test_a_session_acts_only_with_the_token_of_its_own_pages(locked):
    browser, _ = logged_in(locked, OPERATE)
    assert browser.post("/api/pause").status_code == 403
    gate, session = locked.app.state.gate, browser.cookies[COOKIE]
    token = gate.csrf(type("Caller", (), {"session": session})())
    done = browser.post("/api/pause", headers={"X-CSRF-Token": token})
    assert done.status_code == 200
    assert locked.get("/api/actions")["items"][0]["actor"] == "console:operate"
    other = gate.csrf(type("Caller", (), {"session": "another"})())
    assert browser.post("/api/pause", headers={"X-CSRF-Token": other}).status_code == 403
    assert COOKIE in browser.post("/logout", data={"csrf": token}).headers["Set-Cookie"]


def test_sessions_end_when_the_tokens_change(settings, locked):
    browser, _ = logged_in(locked, OPERATE)
    with Api(settings | {"api_token": "another"}) as api:
        stranger = api.asking(Cookie=f"{COOKIE}={browser.cookies[COOKIE]}")
        assert stranger.get("/api/runs").status_code == 401


def test_whoever_could_operate_may_not_once_the_token_only_reads():
    was, now = AccessGate(OPERATE, None), AccessGate(None, OPERATE)
    assert was.role_of_session(was.session(Role.OPERATE)) is Role.OPERATE
    assert now.role_of_session(was.session(Role.OPERATE)) is None


# --- what strangers send ---


def pieces():
    for _ in range(40):
        yield b" " * 2**16


@pytest.mark.parametrize("body", [b" " * (2**21), pieces], ids=["at once", "in pieces"])
def test_a_stranger_may_send_no_more_than_a_form(locked, body):
    def statuses(client, path, n=1):
        json = {"Content-Type": "application/json"}
        return {
            client.post(path, content=body() if callable(body) else body, headers=json).status_code for _ in range(n)
        }

    assert statuses(locked.asking(), "/login") == {413}
    assert statuses(locked.client, "/api/reservations") == {400}
    assert statuses(locked.asking("wrong"), "/api/pause", FAILURES) == {413}
    assert statuses(locked.asking("wrong"), "/api/pause") == {429}


def test_who_leaves_in_the_middle_of_a_body_breaks_nothing(locked, caplog):
    caplog.set_level("INFO")
    with socket.create_connection(("127.0.0.1", locked.port)) as client:
        client.sendall(b"POST /login HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\ntoken")
    wait_until(lambda: "POST /login 499" in caplog.text, 10, "the end of the request")
    assert "ERROR" not in caplog.text


# --- other sites ---


def test_without_tokens_this_machine_may_do_everything(open_house):
    assert open_house.post("/api/reservations", MAIL, 201)["new"]
    assert open_house.client.get("/login").headers["Location"] == "/"


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example", "10.0.0.1", "[2001:db8::1]", ""])
def test_a_name_that_was_made_to_mean_this_machine_is_refused(open_house, host):
    answer = open_house.client.get("/api/runs", headers={"Host": host})
    assert answer.status_code in {400, 421}, answer.text


def test_without_a_token_nobody_comes_in_through_a_proxy_of_this_machine(open_house, locked):
    for name in (
        "Forwarded",
        "X-Forwarded-For",
        "X-Real-IP",
        "Via",
        "X-Forwarded-Host",
        "CF-Connecting-IP",
        "CDN-Loop",
    ):
        answer = open_house.client.get("/api/runs", headers={name: "192.0.2.1"})
        assert (answer.status_code, "set a token" in answer.json()["detail"]) == (421, True), name
        assert locked.client.get("/api/runs", headers={name: "192.0.2.1"}).status_code == 200, name


@pytest.mark.parametrize("name", ["[", "]", "[::1", "localhost:x"])
def test_a_host_or_origin_that_is_none_is_refused_and_breaks_nothing(open_house, locked, name):
    assert open_house.client.get("/api/runs", headers={"Host": name}).status_code in {200, 421}
    for api in (open_house, locked):
        assert api.asking().post("/api/pause", headers={"Origin": f"http://{name}"}).status_code == 403


def test_a_page_of_another_site_can_do_nothing(open_house):
    ours = f"http://localhost:{open_house.port}"
    for headers in (
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://localhost:1"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ):
        assert open_house.client.post("/api/pause", headers=headers).status_code == 403, headers
    for headers in ({}, {"Origin": ours}, {"Sec-Fetch-Site": "same-origin"}, {"Sec-Fetch-Site": "none"}):
        assert open_house.client.post("/api/pause", headers=headers).status_code == 200, headers
    # A foreign page learns nothing either: no answer allows it to read.
    answer = open_house.client.get("/api/runs", headers={"Origin": "http://evil.example"})
    assert not [name for name in answer.headers if name.lower().startswith("access-control")]


def test_beyond_this_machine_only_with_a_token_that_operates(sqlite_url):
    def settings(**tokens):
        return Settings(database_url=sqlite_url, **tokens)

    for host in ("127.0.0.1", "::1", "localhost", "127.9.9.9"):
        assert is_loopback(host)
        ensure_safe(settings(), host)
    for host in ("0.0.0.0", "::", "", "192.168.0.7", "mail.example.com"):  # noqa: S104 - that is the question
        with pytest.raises(SettingsError, match="MAILBATCH_API_TOKEN"):
            ensure_safe(settings(api_read_token=READ), host)
        ensure_safe(settings(api_token=OPERATE, api_read_token=READ), host)
        # What the examples hold is known to all, and whoever reads must not be let in as who operates.
        with pytest.raises(SettingsError, match="MAILBATCH_API_TOKEN is still CHANGE-ME"):
            ensure_safe(settings(api_token="CHANGE-ME"), host)
        for reads in (OPERATE, "CHANGE-ME"):
            with pytest.raises(SettingsError, match="MAILBATCH_API_READ_TOKEN"):
                ensure_safe(settings(api_token=OPERATE, api_read_token=reads), host)
