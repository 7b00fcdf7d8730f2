"""``mailbatch demo``: sends 1,000 example mails through a real worker to a local inbox, without any setup."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import sys
import time
from collections import deque
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mailbatch.domain.errors import StoreError
from mailbatch.domain.job_name import SEND_ALL
from mailbatch.domain.reservation import Status
from mailbatch.interfaces.cli.demo_progress import progress
from mailbatch.interfaces.cli.demo_results import Expected, find_faults
from mailbatch.interfaces.cli.inbox import JOURNAL
from mailbatch.interfaces.cli.inbox_pages import INDEX
from mailbatch.interfaces.cli.output import clean
from mailbatch.interfaces.cli.stack import LocalStack, require_inbox

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

    from mailbatch.application.ports.reports import Reports
    from mailbatch.bootstrap.stores import Stores
    from mailbatch.domain.census import Census

FILES = ("reservations.csv", "reservations.jsonl")
SETTINGS = {
    "SENDER": '"mailbatch demo" <demo@example.com>',
    # A second tick, soon after the deferred mails are due again.
    "SCHEDULE": 5,
    "RETRY_BACKOFF": 2,
    "RETRY_BACKOFF_MAX": 2,
}
POLL = 0.2
PATIENCE = 60.0
"""Seconds without any progress after which the demo gives up."""


@click.command
@click.option("--keep-running", is_flag=True, help="Leave everything running to try it out, until Ctrl-C.")
@click.option(
    "--folder",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("var/demo"),
    show_default=True,
    help="The folder for everything; what an earlier demo left there is deleted.",
)
def demo(*, keep_running: bool, folder: Path) -> None:
    """Send 1,000 example mails to a local inbox, and compare the results with what is expected.

    Starts a private Redis, a SQLite file, a local SMTP server and a real `celery -A mailbatch worker -B`. Settings in
    your environment are ignored, nothing leaves this machine, and nothing is left running. It needs the examples from a
    checkout of mailbatch. The exit code is 0 only if every mail has the expected result.
    """
    began = time.monotonic()
    require_inbox()
    examples = find_examples()
    with ended_by_signals():
        try:
            with LocalStack(folder, {**SETTINGS, "TEMPLATE_DIR": examples / "templates"}) as stack:
                wrong = _tell_and_send(stack, examples, Expected(), began)
                if keep_running:
                    _keep_running(stack)
        except KeyboardInterrupt:
            click.echo("\nended; nothing is left running")
            raise SystemExit(0 if keep_running else 130) from None
    if wrong:
        raise click.ClickException(f"not as expected: {'; '.join(wrong)}")
    click.echo("\nNothing is left running. Next: `make dev` leaves it running for playing with; README.md has a tour.")


def find_examples() -> Path:
    """Return the folder of the examples: in our checkout, else in the current folder.

    Raises ``click.ClickException`` if there is no such folder.
    """
    import mailbatch

    places = [Path(mailbatch.__file__).resolve().parents[1] / "examples", Path("examples").resolve()]
    for place in places:
        if all((place / file).is_file() for file in FILES):
            return place
    raise click.ClickException(f"there are no examples at {places[-1]}; run the demo in a checkout of mailbatch")


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end the demo as Ctrl-C does. Only the first signal counts, so that the cleanup ends."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def end(_number: int, _frame: FrameType | None) -> None:
        for number in numbers:
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    before = [(number, signal.signal(number, end)) for number in numbers]
    try:
        yield
    finally:
        for number, handler in before:
            signal.signal(number, handler)


# --- the story -------------------------------------------------------------------------------------------------------


def _tell_and_send(stack: LocalStack, examples: Path, expected: Expected, began: float) -> list[str]:
    """Run the whole demo; return what was not as expected."""
    click.echo(f"Everything is in {_near(stack.folder)}; what an earlier demo left there is wiped.")
    click.echo("Running: a private Redis, a SQLite file, a local inbox. Your own MAILBATCH_… settings are ignored.\n")
    _command(stack, "migrate")
    unreadable = sum(_import(stack, examples / file) for file in FILES)
    click.echo("$ celery -A mailbatch worker -B -c 2")
    stack.start_worker()
    from mailbatch import config
    from mailbatch.bootstrap import Parts

    parts = Parts(config.load())
    try:
        started = time.monotonic()
        _watch(stack, parts.stores.reports, expected.reserved)
        sending = time.monotonic() - started
        _command(stack, "status")
        _command(stack, "runs")
        _command(stack, "list", "--status", Status.FAILED, "--limit", "3")
        wrong = find_faults(parts.stores.reports, parts.operating.list_reservations, stack.inbox, expected, unreadable)
        if not wrong:
            _tell_success(expected)
        click.echo(
            f"{time.monotonic() - began:.0f} s in all, {sending:.0f} s of it for the worker to start and send.\n"
        )
        _tell_what_next(stack, parts.stores)
    finally:
        parts.close()
    return wrong


def _command(stack: LocalStack, *words: str) -> None:
    """Run a command as a user would; print the command and its output."""
    click.echo(f"$ mailbatch {' '.join(words)}")
    done = stack.run(*words)
    if done.returncode:
        raise click.ClickException(f"`mailbatch {' '.join(words)}` ended with exit code {done.returncode}")
    click.echo()


def _import(stack: LocalStack, file: Path) -> int:
    """Import a file; return how many of its lines could not be read."""
    shown = _near(file)
    click.echo(f"$ mailbatch import {shown}")
    done = stack.run("import", str(file), "--json", capture=True)
    try:
        answer = json.loads(done.stdout)
    except ValueError:
        raise click.ClickException(f"`mailbatch import {shown}` failed: {done.stderr.strip()}") from None
    for line in answer["errors"]:
        click.echo(f"  line {line['line']} left out: {clean('; '.join(line['errors']))}")
    click.echo(f"  {answer['imported']} reserved, {answer['bad']} lines left out\n")
    return int(answer["bad"])


def _watch(stack: LocalStack, reports: Reports, total: int) -> None:
    """Show the progress until every mail is settled and the last run has ended."""
    with progress(total) as show:
        moved = time.monotonic()
        seen: Census | None = None
        while True:
            _check_alive(stack)
            try:
                census, idle = reports.census(), _is_idle(reports)
            except StoreError as error:
                if not error.transient:
                    raise
            else:
                show(census)
                waiting = census.counts.get(Status.PENDING, 0) + census.counts.get(Status.SENDING, 0)
                if not waiting and idle:
                    return
                if seen is None or census.counts != seen.counts:
                    moved, seen = time.monotonic(), census
            if time.monotonic() - moved > PATIENCE:
                raise click.ClickException(f"nothing has moved for {PATIENCE:g} s; {_last_words(stack)}")
            time.sleep(POLL)


def _is_idle(reports: Reports) -> bool:
    """Return whether there was a run and none is in progress."""
    runs = reports.runs(SEND_ALL, 2)
    return bool(runs) and all(run.outcome is not None for run in runs)


def _check_alive(stack: LocalStack) -> None:
    if dead := stack.dead():
        raise click.ClickException(f"the {dead} has ended; {_last_words(stack)}")


def _last_words(stack: LocalStack) -> str:
    """Print the end of the worker's log on stderr; return its path."""
    if stack.worker_log.exists():
        with stack.worker_log.open(encoding="utf-8", errors="replace") as log:
            for line in deque(log, 15):
                click.echo(f"  {clean(line.rstrip())}", err=True)
    return f"its log: {_near(stack.worker_log)}"


def _tell_success(expected: Expected) -> None:
    click.echo(
        f"As expected: {expected.sent} reservations were sent, each once, and every mail is in the inbox. "
        f"{expected.refused} were refused for good ({expected.shared} of them went to somebody else, too), "
        f"{expected.deferred} were put off and taken later."
    )


def _tell_what_next(stack: LocalStack, stores: Stores) -> None:
    from mailbatch.domain.rows import ReservationSummary
    from mailbatch.domain.selection import Selection

    us = _mailbatch()
    failed = stores.reservations.select(Selection(status=Status.FAILED), ReservationSummary, None, 1)
    run = stores.reports.runs(SEND_ALL, 100)[-1].run_id
    click.echo(f"Read the mails    {(stack.inbox / INDEX).as_uri()}")
    click.echo(f"                  {_near(stack.inbox)}/*.eml, listed in {JOURNAL}")
    click.echo(f"The worker's log  {_near(stack.worker_log)}")
    click.echo(f"Look around       export MAILBATCH_DATABASE_URL={shlex.quote(os.environ['MAILBATCH_DATABASE_URL'])}")
    click.echo(f"                  {us} list --status failed")
    if failed:
        click.echo(f"                  {us} show {failed[0].id}")
    click.echo(f"                  {us} run {run}")


def _keep_running(stack: LocalStack) -> None:
    """Show the worker's log until Ctrl-C, with the console beside it."""
    console = stack.start_console() if find_spec("fastapi") else None
    file = stack.folder / "env"
    file.write_text(stack.exports, encoding="utf-8")
    click.echo(f"\nIt goes on running. In another shell, paste this (or: . {_near(file)}):\n\n{stack.exports}")
    if console:
        click.echo(f"The console       {console}")
    else:
        click.echo("The console       needs fastapi: pip install 'mailbatch[http]'")
    click.echo(f'Then try          {_mailbatch()} reserve --to you@example.com --subject Hello --text "It works"')
    click.echo(f"                  {_mailbatch()} status")
    click.echo("A tick sends what is due every 5 s. The worker says (Ctrl-C ends it all):\n")
    with stack.worker_log.open(encoding="utf-8", errors="replace") as log:
        log.seek(0, os.SEEK_END)
        while True:
            for line in log:
                click.echo(line, nl=False)
            _check_alive(stack)
            time.sleep(POLL)


# --- how it looks ----------------------------------------------------------------------------------------------------


def _near(path: Path) -> str:
    """Return ``path`` relative to the current folder, if it is below it."""
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)


def _mailbatch() -> str:
    """Return how to call ``mailbatch`` from the shell that called us."""
    ours = Path(sys.executable).parent / "mailbatch"
    found = shutil.which("mailbatch")
    return "mailbatch" if found and Path(found) == ours else _near(ours)
