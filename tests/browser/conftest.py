"""A real Chromium, and mailbatch with a worker, a beat and a web server for it to look at."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from browser.keys import TOKEN
from support.chromium import ARGUMENTS, NEEDS, chromium
from support.gallery import write_gallery
from support.sink import Sink
from support.stack import Stack

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from playwright.sync_api import Browser, Page


@pytest.fixture(scope="session")
def chrome() -> Iterator[Browser]:
    """The browser; without one, or without what drives it, whatever asks for it is skipped and counted."""
    path = chromium()
    if path is None:
        pytest.skip(NEEDS)
    driver = pytest.importorskip("playwright.sync_api", reason="needs playwright: make browser installs it")
    with driver.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def complaints() -> list[str]:
    """What the browser complained about; a test that means to hear something clears it."""
    return []


@pytest.fixture(params=["desktop"])
def page(request: pytest.FixtureRequest, chrome: Browser, console: str, complaints: list[str]) -> Iterator[Page]:
    """A fresh window on the console. What the browser complains about, a refused policy say, fails the test."""
    width, height = {"desktop": (1280, 800), "phone": (390, 844)}[request.param]
    context = chrome.new_context(base_url=console, viewport={"width": width, "height": height})
    context.set_default_timeout(20_000)
    page = context.new_page()
    page.on("console", lambda message: message.type == "error" and complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    yield page
    context.close()
    assert complaints == []


@pytest.fixture
def stack(sqlite_url: str, redis_url: str, tmp_path: Path) -> Iterator[Stack]:
    """mailbatch on SQLite, with ticks every two seconds and one mail at a time, on a relay that takes its time."""
    write_gallery(tmp_path / "templates")
    settings = {"SCHEDULE": 2, "CONNECTIONS": 1, "WINDOW": 1, "TEMPLATE_DIR": tmp_path / "templates"}
    sink = Sink(tmp_path / "sink", latency=0.05)
    with sink, Stack(sqlite_url, redis_url, sink.url, tmp_path, settings) as stack:
        yield stack


@pytest.fixture
def console(stack: Stack) -> str:
    """The address of its console."""
    return serve(stack)


@pytest.fixture
def locked(stack: Stack) -> str:
    """The address of one that wants a token: ``TOKEN``."""
    stack.settings["API_TOKEN"] = TOKEN
    return serve(stack)


def serve(stack: Stack) -> str:
    """Start a console; its address."""
    serving = stack.process("mailbatch", "serve", "--port", "0")
    found = serving.wait_for_log(r"mailbatch serves on (http://\S+)", 30)
    return found[1].replace("127.0.0.1", "localhost")
