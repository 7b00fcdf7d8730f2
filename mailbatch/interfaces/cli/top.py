"""``mailbatch top``: shows the status, live."""

from __future__ import annotations

import os
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import click

from mailbatch.domain.job_name import SEND_ALL
from mailbatch.domain.reservation import Status
from mailbatch.domain.run import REPORTED, Pause
from mailbatch.interfaces.cli.numbers import Amount
from mailbatch.interfaces.cli.output import clean, moment, span, width
from mailbatch.interfaces.cli.session import opened
from mailbatch.interfaces.cli.status import next_run, pace
from mailbatch.interfaces.documents import SILENT, outcome_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from mailbatch.application.looking.inquire import JobStatus, Progress
    from mailbatch.application.ports.reports import Reports
    from mailbatch.application.ports.runs import Runs
    from mailbatch.domain.rows import RunRow

_RUNS = 8
_ERRORS = 4
_BAR = 40
_HOME, _CLEAR_LINE, _CLEAR_BELOW = "\x1b[H", "\x1b[K", "\x1b[J"
_ENTER, _LEAVE = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l"
_LATE = 600
"""Seconds that the oldest due mail may wait before its line is red."""


@click.command
@click.option(
    "--interval", type=Amount(min=0.2, max=3600), default=1.0, show_default=True, help="Seconds between two frames."
)
@click.option("--once", is_flag=True, help="Show one frame and end. This is always so without a terminal.")
def top(*, interval: float, once: bool) -> None:
    """Show runs, rate, backlog and states, live. Press q or Ctrl-C to leave."""
    with opened() as parts:
        stores, zone = parts.stores, parts.settings.timezone
        watch = _Watch(lambda: parts.operating.job_status(SEND_ALL), stores.reports, stores.runs, zone)
        if once or not sys.stdout.isatty():
            click.echo("\n".join(watch.look()))
            return
        with _screen() as ended:
            while True:
                lines = watch.frame()
                height = _height()
                shown = lines if len(lines) < height else lines[: height - 1]
                # Overwrite the last frame line by line: a cleared screen would flicker.
                sys.stdout.write(_HOME + "".join(f"{line}{_CLEAR_LINE}\r\n" for line in shown) + _CLEAR_BELOW)
                sys.stdout.flush()
                if ended(interval):
                    return


@dataclass(slots=True)
class _Watch:
    """Reads the status, and keeps what it needs to compute a rate."""

    job_status: Callable[[], JobStatus]
    reports: Reports
    runs: Runs
    zone: str
    _seen: tuple[str, float, int] | None = None

    def frame(self) -> list[str]:
        """Return the lines of one screen, also while the database is away: it may come back."""
        from mailbatch.domain.errors import MailbatchError

        try:
            return self.look()
        except MailbatchError as error:
            return [self._title, "", click.style(_cut(clean(str(error))), fg="red")]

    def look(self) -> list[str]:
        """Return the lines of one screen. Raises ``StoreError`` if the database is away."""
        standing = self.job_status()
        runs = self.reports.runs(SEND_ALL, _RUNS)
        return [
            self._title + _paused(standing.pause),
            "",
            *_backlog(standing),
            *_warnings(standing),
            "",
            *self._running(standing),
            "",
            *_table(runs, self.zone),
            *self._last_errors(runs),
        ]

    @property
    def _title(self) -> str:
        return click.style(f"mailbatch  {time.strftime('%H:%M:%S')}", bold=True)

    def _running(self, standing: JobStatus) -> list[str]:
        if standing.progress is None:
            self._seen = None
            return [f"no run now; {_next(standing, self.zone)}", ""]
        progress = self._lately(standing.progress)
        filled = round(_BAR * progress.done / progress.whole) if progress.whole else 0
        bar = "█" * filled + "░" * (_BAR - filled)
        more = "" if standing.census.exact else " or more"
        how = ", ".join((f"{progress.done:,} of {progress.whole:,}{more}", *pace(progress, standing.snapshot.silence)))
        counted = ", ".join(filter(None, (_counted(progress.counts), _under_way(standing)))) or "just started"
        return [f"running {bar} {how}", f"        {counted}"]

    def _lately(self, progress: Progress) -> Progress:
        """Return ``progress`` with the rate since the last frame, if that showed the same run."""
        run_id, elapsed, done = str(progress.run_id), progress.elapsed, progress.done
        before, self._seen = self._seen, (run_id, elapsed, done)
        if progress.rate is None or before is None or before[0] != run_id or elapsed <= before[1]:
            return progress
        rate = max(0.0, (done - before[2]) / (elapsed - before[1]))
        return replace(progress, rate=rate, seconds_left=progress.unsent / rate if rate else None)

    def _last_errors(self, runs: Sequence[RunRow]) -> list[str]:
        last = next((run for run in runs if run.failed or run.deferred or run.in_doubt), None)
        if last is None:
            return []
        from mailbatch.domain.redaction.addresses import public

        found = self.runs.first_errors(last.run_id, _ERRORS)
        return ["", f"first errors of {last.run_id}", *(_cut(clean(public(e.text()))) for e in found)]


def _next(standing: JobStatus, zone: str) -> str:
    if standing.pause is not Pause.NONE:
        return "none begins by itself while it is paused"
    verb = "at" if standing.next_run.planned and not standing.next_run.due_now else "is"
    return f"the next {verb} {next_run(standing, zone)}"


def _paused(pause: Pause) -> str:
    return "" if pause is Pause.NONE else click.style(f"  paused: {pause.value}", fg="yellow", bold=True)


def _under_way(standing: JobStatus) -> str:
    return f"{standing.census.under_way:,} under way" if standing.census.under_way else ""


def _warnings(standing: JobStatus) -> list[str]:
    """Return a line for each finding of the watch."""
    from mailbatch.domain.finding import Level

    colours = {Level.ERROR: "red", Level.WARNING: "yellow"}
    return [click.style(_cut(clean(f"{f.level.value}: {f.what}")), fg=colours[f.level]) for f in standing.warnings]


def _backlog(standing: JobStatus) -> list[str]:
    census = standing.census
    oldest = census.oldest_due_seconds
    due = f"{census.due:,} due" + (f", the oldest for {span(oldest)}" if oldest else "")
    more = "" if census.exact else " (at least)"
    states = "  ".join(f"{status.value} {n:,}" for status, n in census.counts.items() if n) or "no reservations"
    doubt = census.counts.get(Status.IN_DOUBT, 0)
    return [
        click.style(due, fg="red" if oldest and oldest > _LATE else None),
        click.style(_cut(states + more), fg="yellow" if doubt else None),
    ]


def _table(runs: Sequence[RunRow], zone: str) -> list[str]:
    head = f"{'STARTED':<12} {'OUTCOME':<10} {'SECONDS':>8} {'SENT':>9} {'RATE':>7}  OTHER"
    return [click.style(head, bold=True), *(_row(run, zone) for run in runs)]


def _row(run: RunRow, zone: str) -> str:
    seconds = run.duration
    rate = f"{run.sent / seconds:,.0f}/s" if seconds and run.sent else ""
    other = ", ".join(f"{getattr(run, name):,} {name}" for name in REPORTED[1:] if getattr(run, name))
    outcome = outcome_of(run)
    text = (
        f"{moment(run.started_at, zone):<12} {outcome:<10} {'' if seconds is None else f'{seconds:.1f}':>8} "
        f"{run.sent:>9,} {rate:>7}  {other}"
    )
    return click.style(_cut(text), fg="red" if outcome in {"failed", SILENT} else None)


def _counted(counts: Mapping[str, Any]) -> str:
    return ", ".join(f"{counts[name]:,} {name}" for name in REPORTED if counts.get(name))


def _cut(line: str) -> str:
    return line if len(line) <= width() else line[: width() - 1] + "…"


def _height() -> int:
    import shutil

    return shutil.get_terminal_size().lines


@contextmanager
def _screen() -> Iterator[Any]:
    """Switch to the alternate screen and back; yield a function that waits, and returns whether to leave."""
    import select
    import termios
    import tty

    keys = sys.stdin.isatty()
    before = termios.tcgetattr(sys.stdin) if keys else None

    def ended(seconds: float) -> bool:
        if not keys:
            time.sleep(seconds)
            return False
        ready, _, _ = select.select([sys.stdin], [], [], seconds)
        return bool(ready) and os.read(sys.stdin.fileno(), 1) in {b"q", b"Q", b"\x1b", b""}

    sys.stdout.write(_ENTER)
    try:
        if keys:
            tty.setcbreak(sys.stdin)
        yield ended
    finally:
        if before is not None:
            termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)
        sys.stdout.write(_LEAVE)
        sys.stdout.flush()
