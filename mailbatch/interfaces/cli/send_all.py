"""``mailbatch send-all``: through a worker, or in this process."""

from __future__ import annotations

import signal
import sys
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from mailbatch.domain.errors import StoreError
from mailbatch.domain.job_name import SEND_ALL
from mailbatch.domain.run import COUNTED, RunOutcome, Trigger
from mailbatch.interfaces.cli.caller import actor
from mailbatch.interfaces.cli.output import as_json, clean, print_fields, print_json
from mailbatch.interfaces.cli.session import opened

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from types import FrameType
    from uuid import UUID

    from celery.result import AsyncResult

    from mailbatch.application.ports.reports import Reports
    from mailbatch.application.ports.runs import StatusBoard
    from mailbatch.bootstrap import Parts


_POLL = 0.2
_PATIENCE = 30.0
"""Seconds that Redis may be away while the command waits for a result."""
_LOOK_EVERY = 5.0
"""Seconds between two checks whether the run is still alive."""
_GRACE = 10.0
"""Seconds that the result of a run may come after the run has ended."""
_DELIVERY_WAIT = 5.0
"""Seconds that the command waits at its end for the delivery of its report."""
_GOOD = frozenset({RunOutcome.COMPLETED.value, RunOutcome.SKIPPED.value})


@click.command
@click.option("--here", is_flag=True, help="Send in this process instead of a worker.")
@click.option("--no-lock", is_flag=True, help="With --here: do not use Redis, and send even if another run is sending.")
@as_json
def send_all(*, here: bool, no_lock: bool, as_json: bool) -> None:
    """Send what is due, now, and print the report.

    A worker sends while this command shows the progress; Ctrl-C does not stop the run. With --here this process sends,
    and Ctrl-C or SIGTERM stops it between two mails.

    The exit code is 0 if everything due was tried, or if another run is in progress (the outcome is skipped). It is 1
    if the run was paused, was stopped or failed.
    """
    if no_lock and not here:
        raise click.UsageError("--no-lock only goes with --here")
    with opened() as parts, _bar(parts.stores.reports, shown=not as_json) as show:
        report = _here(parts, show, lock=not no_lock) if here else _through_worker(parts, show)
        skipped = report["outcome"] == RunOutcome.SKIPPED.value
        blocked = parts.operating.watch(SEND_ALL).look(SEND_ALL).blocked if skipped and not as_json else None
    if as_json:
        print_json(report)
    else:
        _print(report, blocked)
    if report["outcome"] not in _GOOD:
        click.get_current_context().exit(1)


# --- through a worker --------------------------------------------------------------------------------------------


def _through_worker(parts: Parts, show: Callable[[Mapping[str, Any]], None]) -> dict[str, Any]:
    from mailbatch.batch.producer import call_send_all, celery_app
    from mailbatch.batch.worker_inspection import find_workers

    def going_on() -> UUID | None:
        return parts.operating.watch(SEND_ALL).look(SEND_ALL, lock=False).run_id

    app = celery_app(parts.identity)
    found = find_workers(app)
    if not found.consumers:
        raise click.ClickException(f"{found.why_none()}, or send from here with --here")
    # Recorded before the wait: the user may end the command while it waits.
    with parts.acting.audit.around(actor(), "run-now", {}) as entry:
        before = parts.status_board.get(SEND_ALL) or {}
        result = call_send_all(app, Trigger.MANUAL)
        entry.target, entry.outcome = {"task_id": result.id}, "queued"
    try:
        _wait(result, parts.status_board, show, RunObserver(going_on, before.get("run_id")))
    except KeyboardInterrupt:
        revoke = f"celery -A mailbatch control revoke {result.id}"
        click.echo(f"the run goes on; to stop it: {revoke}, or mailbatch stop RUN_ID (see mailbatch runs)", err=True)
        raise
    return _report_of(result)


def _wait(
    result: AsyncResult, board: StatusBoard, show: Callable[[Mapping[str, Any]], None], observer: RunObserver
) -> None:
    """Wait for the result, however long the run takes. Redis may be away for ``_PATIENCE`` seconds meanwhile.

    Raises:
        click.ClickException: Redis is away for longer, or the run has died.
    """
    last_seen = time.monotonic()
    while True:
        try:
            if result.ready():
                return
        except Exception as error:
            if time.monotonic() - last_seen > _PATIENCE:
                raise click.ClickException(
                    f"lost sight of the run, which goes on ({error}); see `mailbatch runs`"
                ) from error
        else:
            last_seen = time.monotonic()
            progress = board.get(SEND_ALL)
            if progress and progress.get("state") == "running":
                show(progress)
                observer.shown(progress)
            if run_id := observer.lost(last_seen):
                raise click.ClickException(
                    f"run {run_id} has ended without a result: its worker's process died, or hangs; "
                    f"`mailbatch run {run_id}` shows what it sent, `mailbatch status` what goes on now"
                )
        time.sleep(_POLL)


@dataclass(slots=True)
class RunObserver:
    """Detects that the called run has died: a worker that was killed never returns a result.

    ``going_on`` returns the run that shows signs of life, or None. ``before``: the run that was shown before the call.
    Times are of a monotonic clock, in seconds.
    """

    going_on: Callable[[], UUID | None]
    before: str | None = None
    ours: str | None = None
    looked: float = float("-inf")
    gone_since: float | None = None

    def shown(self, progress: Mapping[str, Any]) -> None:
        """Learn from ``progress`` which run is in progress. Ours is a new run with a manual trigger."""
        run_id, called = progress.get("run_id"), progress.get("trigger") == Trigger.MANUAL.value
        if called and run_id not in {self.before, self.ours}:
            self.ours, self.gone_since = run_id, None

    def lost(self, now: float) -> str | None:
        """Return the id of our run if it has given no sign of life for a while, else None."""
        if self.ours is not None and now - self.looked >= _LOOK_EVERY:
            self.looked = now
            # While the database is away, the run waits for it too.
            with suppress(StoreError):
                self._look(now)
        return self.ours if self.gone_since is not None and now - self.gone_since > _GRACE else None

    def _look(self, now: float) -> None:
        if str(self.going_on()) == self.ours:
            self.gone_since = None
        elif self.gone_since is None:
            self.gone_since = now


def _report_of(result: AsyncResult) -> dict[str, Any]:
    answer = result.result
    if isinstance(answer, dict):
        return answer
    if result.state == "REVOKED":
        raise click.ClickException("the call was revoked before it began")
    raise click.ClickException(str(answer) or type(answer).__name__)


# --- in this process ---------------------------------------------------------------------------------------------


def _here(parts: Parts, show: Callable[[Mapping[str, Any]], None], *, lock: bool) -> dict[str, Any]:
    from dataclasses import asdict

    from mailbatch.batch.outbox_worker import deliver_soon
    from mailbatch.batch.send_all import send_all
    from mailbatch.infrastructure.system.logs import configure

    # On a terminal a person watches the bar; elsewhere stderr gets the log.
    level = "ERROR" if sys.stderr.isatty() else parts.settings.log_level
    s = parts.settings
    configure(json=s.log_format.value == "json", level=level, addresses=s.log_addresses)
    try:
        target = {"where": "here"} if lock else {"where": "here", "lock": False}
        parts.acting.audit.record(actor(), "run-now", target, "begun")
        with _stopped_by_signals() as interrupted:
            report = send_all(parts, lock=lock)(
                Trigger.MANUAL, interrupted=interrupted, on_progress=lambda counts: show(asdict(counts))
            )
    finally:
        if worker := deliver_soon(parts.notifying):
            worker.wait(_DELIVERY_WAIT)
    return report.as_dict()


@contextmanager
def _stopped_by_signals() -> Iterator[Callable[[], RunOutcome | None]]:
    """Let the first SIGINT or SIGTERM request a stop between two mails; the second ends the process at once.

    Yield a function that returns why to stop, or None.
    """
    requested: list[RunOutcome] = []

    def stop(number: int, _frame: FrameType | None) -> None:
        requested.append(RunOutcome.SHUTDOWN)
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: requested[0] if requested else None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


# --- what is shown -----------------------------------------------------------------------------------------------


@contextmanager
def _bar(reports: Reports, *, shown: bool) -> Iterator[Callable[[Mapping[str, Any]], None]]:
    """Show a progress bar on stderr, if that is a terminal: mails done of those that were due at the start."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    if not (shown and console.is_terminal):
        yield lambda _progress: None
        return
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("waiting", total=max(1, reports.census().unsent))
        yield lambda progress: bar.update(
            task, description="sending", completed=sum(progress.get(name, 0) for name in COUNTED)
        )


def _print(report: Mapping[str, Any], blocked: str | None) -> None:
    if report["outcome"] == RunOutcome.SKIPPED.value:
        click.echo(f"skipped: {clean(blocked or 'job is already running')}")
        return
    if report["outcome"] == RunOutcome.PAUSED.value:
        left = f"; {report['remaining']} are due" if report["remaining"] else ""
        if not any(report[name] for name in COUNTED):
            click.echo(f"paused: nothing was sent{left}; `mailbatch resume` ends that")
            return
        click.echo(f"paused: the run was stopped{left}; `mailbatch resume` ends that")
    named = ("run_id", "outcome", *COUNTED, "remaining", "bound")
    print_fields([*((name, str(report[name])) for name in named), ("duration", f"{report['duration']:.3f} s")])
    for error in report["errors"]:
        click.echo(clean(error))
    if report["run_id"] and report["errors"]:
        click.echo(f"(in full: mailbatch run {report['run_id']})")
