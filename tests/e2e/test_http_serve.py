"""``mailbatch serve`` beside a real worker: a run asked for over HTTP, and an end when told."""

from __future__ import annotations

import re
import signal
import socket
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import httpx2
import psutil
import pytest
from support.api import MAIL, OPERATE


@pytest.fixture
def served(stack):
    stack.settings |= {"API_TOKEN": OPERATE, "LOG_LEVEL": "DEBUG"}
    process = stack.process("mailbatch", "serve", "--port", "0")
    address = process.wait_for_log(r"serves on (http://\S+)", 30)[1]
    with httpx2.Client(base_url=address, headers={"Authorization": f"Bearer {OPERATE}"}, timeout=60) as client:
        yield stack, process, client


def test_a_run_is_asked_for_over_http_and_the_server_ends_when_told(served):
    stack, process, client = served
    stack.worker("--pool", "solo")
    for _ in range(3):
        assert client.post("/api/reservations", json=MAIL).status_code == 201
    report = client.post("/api/run-now", params={"wait": 30})
    assert (report.status_code, report.json()["outcome"], report.json()["sent"]) == (200, "completed", 3), report.text
    (run,) = client.get("/api/runs").json()["items"]
    assert (run["run_id"], run["trigger"]) == (report.json()["run_id"], "api")
    queued = client.post("/api/run-now", headers={"Idempotency-Key": "night-1"})
    again = client.post("/api/run-now", headers={"Idempotency-Key": "night-1"})
    assert (queued.status_code, again.json()) == (202, queued.json())

    tried = client.post("/api/test-send", json={"to": "me@example.com", "subject": "Hi", "body_text": "Hi"}).json()
    assert (tried["outcome"], tried["reply"][:3]) == ("sent", "250")
    assert client.get("/api/reservations", params={"to": "query-canary@example.com"}).status_code == 200
    assert client.post("/api/reservations", json=MAIL, headers={"Authorization": "Bearer x"}).status_code == 401

    began = time.monotonic()
    process.signal(signal.SIGTERM)
    assert process.wait_exit(15) == 0
    assert time.monotonic() - began < 10
    log = process.log_text()
    assert "Traceback" not in log
    assert not re.search(rf"{OPERATE}|query-canary|ann@example\.com|me@example\.com", log)


def test_an_answer_that_a_relay_keeps_waiting_does_not_hold_up_the_end(sqlite_stack):
    sooner = "from mailbatch.interfaces.http import serving; serving.GRACE = 1"
    program = f"{sooner}; from mailbatch.interfaces.cli.main import main; main()"
    body = b'{"to": "me@example.com", "subject": "Hi", "body_text": "Hi"}'
    head = f"POST /api/test-send HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n".encode()
    with socket.create_server(("127.0.0.1", 0)) as mute:
        mute.settimeout(20)
        sqlite_stack.smtp_url = f"smtp://127.0.0.1:{mute.getsockname()[1]}"
        process = sqlite_stack.process(sys.executable, "-c", program, "serve", "--port", "0")
        port = int(process.wait_for_log(r"serves on http://\S+:(\d+)", 30)[1])
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.sendall(head + b"Content-Type: application/json\r\n\r\n" + body)
            with mute.accept()[0]:
                process.signal(signal.SIGTERM)
                assert process.wait_exit(10) == 0
    assert "given up" in process.log_text()
    (noted,) = sqlite_stack.json("actions")
    assert (noted["action"], noted["outcome"]) == ("test-send", "begun")


def test_the_server_refuses_to_be_reached_by_others_without_a_token(sqlite_stack):
    refused = sqlite_stack.cli("serve", "--host", "0.0.0.0", "--port", "0")  # noqa: S104 - that is the question
    assert refused.returncode == 2
    assert len(refused.stderr.splitlines()) == 1
    assert "MAILBATCH_API_TOKEN" in refused.stderr


def test_a_hostile_template_freezes_nobody_but_its_own_preview(sqlite_stack):
    sqlite_stack.settings |= {"API_TOKEN": OPERATE, "API_READ_TOKEN": (read := "r" * 15)}
    process = sqlite_stack.process("mailbatch", "serve", "--port", "0")
    address = process.wait_for_log(r"serves on (http://\S+)", 30)[1]
    reading, operating = ({"Authorization": f"Bearer {token}"} for token in (read, OPERATE))
    with httpx2.Client(base_url=address, timeout=60) as client, ThreadPoolExecutor(4) as others:
        ids = [
            client.post("/api/reservations", json=MAIL | {"body_text": body}, headers=operating).json()["id"]
            for body in ("{{ ('a'*8000000).rfind('ab' ~ 'a'*4000000) }}", "Hello {{ 1 }}")
        ]
        refused, shown = (client.get(f"/api/reservations/{one}/preview", headers=reading) for one in ids)
        assert (refused.status_code, shown.json()["text"]) == (422, "Hello 1")
        assert "takes too long at once" in refused.json()["detail"]

        # What no bound foresees: the rendering hangs.
        (renderer,) = psutil.Process(process.pid).children(recursive=True)
        renderer.suspend()
        waiting = others.submit(client.get, f"/api/reservations/{ids[1]}/preview", headers=reading)
        while not waiting.done():
            began = time.monotonic()
            assert client.get("/healthz").status_code == 200
            assert time.monotonic() - began < 5
            assert client.get("/api/reservations", headers=reading).status_code == 200
            time.sleep(0.2)
        assert waiting.result().status_code == 422
        assert "rendering takes longer than 10 seconds" in waiting.result().json()["detail"]
        assert client.get(f"/api/reservations/{ids[1]}/preview", headers=reading).json()["text"] == "Hello 1"
    assert "MAILBATCH_API_READ_TOKEN has fewer than 16 characters" in process.log_text()
    assert read not in process.log_text()
