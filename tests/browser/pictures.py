"""Take the pictures and the transcripts of docs/on-call.md on a day of example mail: ``make screenshots``.

Everything is real: the commands are run, and the pages looked at, in a house of their own, with a worker, a beat and a
relay that takes its time, is paused, killed, and goes away. ``--all FOLDER`` takes every page in every view as well.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import socket
import sys
import tempfile
from email.utils import getaddresses
from functools import partial
from pathlib import Path
from signal import SIGKILL
from typing import TYPE_CHECKING

import sqlalchemy as sa
from browser.day import HOST, Day
from playwright.sync_api import sync_playwright
from support.backlogs import database, ended, reserve
from support.chromium import ARGUMENTS, NEEDS, chromium
from support.sink import Sink
from support.stack import Stack
from support.waiting import wait_until

from mailbatch.infrastructure.db.migrate import upgrade
from mailbatch.infrastructure.db.tables import batch_runs, mail_attempts, mail_reservations
from mailbatch.infrastructure.redis import embedded

if TYPE_CHECKING:
    from playwright.sync_api import Browser
    from support.processes import ManagedProcess

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "on-call.md"
PICTURES = ROOT / "docs" / "screenshots"
EXAMPLES = ROOT / "examples"
VIEWS = {"desktop": (1280, 800), "phone": (390, 844)}
SCHEMES = ("light", "dark")
COLUMNS = "110"
MOST_LINES = 14
"""Lines of a transcript; of longer ones the beginning and the last line are shown."""
SETTINGS = {"CONNECTIONS": 2, "WINDOW": 1, "LOCK_TTL": 5, "TEMPLATE_DIR": EXAMPLES / "templates"}

_STRANGE = re.compile("[\u0900-\u097f\u0e00-\u0e7f\u2600-\u27bf\u2e80-\ufaff\U0001f000-\U0001ffff]")
"""Devanagari, Thai, Han, Kana, Hangul and emoji: few machines have signs for them all, and a picture shows boxes."""

say = partial(print, flush=True)
_r = mail_reservations.c


class Camera:
    """Takes pages of the console at ``url``."""

    def __init__(self, browser: Browser, url: str, every: Path | None) -> None:
        self._browser, self._url, self._every = browser, url, every

    def take(
        self,
        name: str,
        address: str,
        view: str = "desktop",
        scheme: str = "light",
        *,
        whole: bool = False,
        height: int | None = None,
    ) -> None:
        """Put a picture of the page into the documentation: the ``whole``, or the uppermost ``height`` pixels."""
        PICTURES.mkdir(exist_ok=True)
        self._shoot(PICTURES / f"{name}.png", address, view, scheme, whole=whole, height=height)

    def look(self, **addresses: str) -> None:
        """Take the pages in every view, if that was asked for."""
        if self._every is None:
            return
        self._every.mkdir(parents=True, exist_ok=True)
        for name, address in addresses.items():
            for view in VIEWS:
                for scheme in SCHEMES:
                    self._shoot(self._every / f"{name}-{view}-{scheme}.png", address, view, scheme, whole=True)

    def _shoot(
        self, path: Path, address: str, view: str, scheme: str, *, whole: bool, height: int | None = None
    ) -> None:
        width, usual = VIEWS[view]
        window = {"width": width, "height": height or usual}
        context = self._browser.new_context(base_url=self._url, viewport=window, color_scheme=scheme)
        page = context.new_page()
        page.goto(address)
        if whole:  # a mail's frame below the window would stay empty
            page.set_viewport_size({"width": width, "height": page.evaluate("document.body.scrollHeight")})
        page.wait_for_load_state("networkidle" if "<iframe" in page.content() else "load")
        page.screenshot(path=path, full_page=whole, animations="disabled")
        context.close()
        say(f"  {path.name}: {path.stat().st_size // 1000} kB")


class Secretary:
    """Runs commands, and puts what they say into the page, under the number of their question."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._text = PAGE.read_text(encoding="utf-8")

    def ask(self, number: int, command: str) -> None:
        """Run ``command`` and write it down. It must be the only one of its question."""
        say(f"$ {command}")
        done = self._stack.cli(*shlex.split(command)[1:])
        lines = self._clean(done.stdout + done.stderr).rstrip().splitlines()
        if len(lines) > MOST_LINES:
            lines = [*lines[: MOST_LINES - 2], "…", lines[-1]]
        block = "\n".join([f"$ {command}", *lines])
        pattern = re.compile(rf"(?s)(\n## {number}\. .*?\n```console\n).*?(\n```\n)")
        self._text, found = pattern.subn(lambda match: match[1] + block + match[2], self._text, count=1)
        assert found == 1, f"{PAGE} has no console block under question {number}"

    def write(self) -> None:
        """Write the page."""
        PAGE.write_text(self._text, encoding="utf-8")

    def _clean(self, text: str) -> str:
        """Without the names of the machine on which this was done."""
        text = text.replace(str(self._stack.folder), "/srv/shop").replace(str(EXAMPLES), "/srv/shop")
        text = re.sub(rf"\b{re.escape(socket.gethostname())}\b", HOST, text)
        return "\n".join(line.rstrip() for line in text.splitlines())


def main() -> int:
    """Build the house, walk through the night."""
    reader = argparse.ArgumentParser(prog="pictures", description=__doc__.splitlines()[0])
    reader.add_argument("--all", type=Path, metavar="FOLDER", help="also take every page in every view")
    said = reader.parse_args()
    path = chromium()
    if path is None:
        say(NEEDS)
        return 2
    os.environ["COLUMNS"] = COLUMNS
    with (
        tempfile.TemporaryDirectory(prefix="night-", dir="/tmp") as folder,
        embedded.start(Path(folder, "redis"), append_only=False) as redis,
        Sink(Path(folder, "sink"), latency=0.25) as sink,
        Stack(f"sqlite:///{folder}/shop.db", redis.url, sink.url, Path(folder), SETTINGS) as stack,
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        _fill(stack)
        serving = stack.process("mailbatch", "serve", "--port", "0")
        url = serving.wait_for_log(r"mailbatch serves on (http://\S+)", 30)[1].replace("127.0.0.1", "localhost")
        secretary = Secretary(stack)
        _walk(stack, sink, Camera(browser, url, said.all), secretary)
        secretary.write()
        browser.close()
    return 0


def _fill(stack: Stack) -> None:
    upgrade(stack.database_url)
    made = stack.run(
        sys.executable, str(EXAMPLES / "generate.py"), "--times", "4", "--out", str(stack.folder / "mails")
    )
    assert made.returncode == 0, made.stderr
    for file in ("reservations.csv", "reservations.jsonl"):
        stack.cli("import", str(stack.folder / "mails" / file))
    _keep_what_fonts_show(stack)
    Day(stack.database_url, stack.smtp_url.removeprefix("smtp://")).write()


def _keep_what_fonts_show(stack: Stack) -> None:
    with database(stack.database_url) as connection:
        rows = connection.execute(sa.select(_r.id, _r.recipients, _r.subject, _r.context)).all()
        strange = [row.id for row in rows if _STRANGE.search(f"{row.recipients}{row.subject}{row.context}")]
        for own in strange:
            connection.execute(sa.delete(mail_reservations).where(_r.id == own))


# --- the night ---


def _walk(stack: Stack, sink: Sink, camera: Camera, secretary: Secretary) -> None:
    _before(stack, camera, secretary)
    worker = _start(stack)
    stack.process("mailbatch", "send-all")
    _sending(stack, 60)
    _in_progress(stack, camera, secretary)
    _stopped(stack, camera, secretary)
    _stuck(stack, worker, camera, secretary)
    _without_relay(stack, sink, camera, secretary)


def _before(stack: Stack, camera: Camera, secretary: Secretary) -> None:
    """The last run is two minutes ago, the next is to come."""
    own, address = _waiting(stack)
    busy = _busiest(stack)
    secretary.ask(1, "mailbatch list --status sent --since 1h")
    camera.take("1-sent", "/reservations?status=sent&since=1h")
    secretary.ask(2, "mailbatch list --status failed --since 1d")
    camera.take("2-failed", "/reservations?status=failed&since=1d")
    secretary.ask(3, f"mailbatch explain --to {address}")
    camera.take("3-why-not", f"/reservations/{own}", whole=True)
    camera.take("3-why-not-phone", f"/reservations/{own}", "phone", "dark")
    secretary.ask(8, "mailbatch plan")
    camera.take("8-plan", "/schedule/plan")
    secretary.ask(9, "mailbatch duplicates")
    camera.take("9-twice", "/duplicates")
    camera.take("templates", "/templates/invoice", height=760)
    camera.take("runs", "/runs")
    camera.take("run", f"/runs/{busy}")
    camera.look(
        idle="/", list_sent="/reservations?status=sent&since=1h", list_failed="/reservations?status=failed&since=1d",
        reservations="/reservations", waits=f"/reservations/{own}", plan="/schedule/plan", duplicates="/duplicates",
        runs="/runs", run=f"/runs/{busy}", schedule="/schedule", nobody="/duplicates?since=1h",
        wrong="/reservations?reply=9xx", missing="/runs/00000000-0000-4000-8000-000000000000", nowhere="/nowhere",
        reference="/docs", runs_all="/runs?every=1", tagged="/reservations?tag=newsletter",
        **{state: f"/reservations/{_one(stack, state)}" for state in ("sent", "failed", "cancelled", "expired")},
    )  # fmt: skip


def _in_progress(stack: Stack, camera: Camera, secretary: Secretary) -> None:
    camera.take("overview", "/", whole=True)
    camera.take("overview-dark", "/", scheme="dark", whole=True)
    camera.take("overview-phone", "/", "phone")
    cancel = "/bulk/cancel?status=pending&tag=newsletter"
    requeue = "/bulk/requeue?status=failed&reply=4xx&since=1h"
    running = stack.json("runs")[0]["run_id"]
    camera.look(
        overview="/", cancel=cancel, requeue=requeue, running=f"/runs/{running}", schedule_running="/schedule",
        cancels="/reservations?status=pending&tag=newsletter", sending="/reservations?status=sending",
    )  # fmt: skip
    camera.take("6-cancel", cancel, height=400)
    camera.take("7-requeue", requeue, height=440)
    secretary.ask(6, "mailbatch cancel --tag newsletter --yes")
    secretary.ask(7, "mailbatch requeue --status failed --reply 4xx --since 1h --yes")


def _stopped(stack: Stack, camera: Camera, secretary: Secretary) -> None:
    secretary.ask(5, "mailbatch pause --all")
    wait_until(lambda: ended(stack.database_url), 30, "the run to stop")
    camera.take("5-stopped", "/")
    camera.look(stopped="/", schedule_stopped="/schedule")


def _stuck(stack: Stack, worker: ManagedProcess, camera: Camera, secretary: Secretary) -> None:
    reserve(stack.database_url, 200)
    assert stack.cli("resume").returncode == 0
    stack.process("mailbatch", "send-all")
    _sending(stack, 20)
    worker.kill_group(SIGKILL)
    wait_until(lambda: "run_died" in [w["name"] for w in stack.json("status")["warnings"]], 60, "the watch sees it")
    secretary.ask(4, "mailbatch status")
    camera.take("4-stuck", "/")
    camera.look(stuck="/")


def _without_relay(stack: Stack, sink: Sink, camera: Camera, secretary: Secretary) -> None:
    sink.stop()
    _start(stack)
    wait_until(
        lambda: stack.json("status")["relay"]["state"] != "closed" or stack.cli("send-all"), 60, "it is found out"
    )
    wait_until(lambda: ended(stack.database_url), 30, "the run to end")
    secretary.ask(10, "mailbatch doctor")
    camera.take("10-relay", "/")
    camera.look(relay="/", runs_after="/runs")


# --- what is to be seen ---


def _start(stack: Stack) -> ManagedProcess:
    return stack.worker("-B", "-c", "1", "-n", f"worker@{HOST}")


def _sending(stack: Stack, least: int) -> None:
    def sent() -> bool:
        progress = stack.json("status")["progress"]
        return bool(progress) and progress.get("sent", 0) >= least

    wait_until(sent, 60, f"a run has sent {least}")


def _waiting(stack: Stack) -> tuple[str, str]:
    """A mail that was put off twice, with HTML and an address that a terminal can show; its id and address."""
    with database(stack.database_url) as connection:
        rows = connection.execute(
            sa.select(_r.id, _r.recipients).where(_r.status == "pending", _r.attempts == 2).order_by(_r.idempotency_key)
        ).all()
    found = [(str(row.id), getaddresses([row.recipients])[0][1]) for row in rows]
    return next((own, address) for own, address in found if address.isascii())


def _busiest(stack: Stack) -> str:
    """The run with the most errors."""
    with database(stack.database_url) as connection:
        c = batch_runs.c
        return str(connection.scalar(sa.select(c.run_id).order_by(c.failed.desc(), c.deferred.desc()).limit(1)))


def _one(stack: Stack, state: str) -> str:
    """A mail in that state, with as long a life as there is."""
    tries = sa.select(sa.func.count()).where(mail_attempts.c.reservation_id == _r.id).scalar_subquery()
    with database(stack.database_url) as connection:
        return str(connection.scalar(sa.select(_r.id).where(_r.status == state).order_by(tries.desc()).limit(1)))


if __name__ == "__main__":
    sys.exit(main())
