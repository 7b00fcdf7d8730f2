"""``mailbatch status``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from mailbatch.domain.circuit import CircuitState
from mailbatch.domain.finding import ALL_IS_WELL, RELAY_AWAY
from mailbatch.domain.job_name import SEND_ALL
from mailbatch.domain.redaction.addresses import public
from mailbatch.domain.rows import as_dict
from mailbatch.domain.run import REPORTED, Pause
from mailbatch.interfaces.cli.jobs import hint_if_unknown, job_option, of_job
from mailbatch.interfaces.cli.output import as_json, moment, print_fields, print_json, span
from mailbatch.interfaces.cli.session import opened
from mailbatch.interfaces.documents import nothing_counted, of_status

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mailbatch.application.looking.inquire import JobStatus, Progress
    from mailbatch.domain.rows import RunRow

_PAUSED = {
    Pause.NONE: "",
    Pause.TICKS: "ticks (calls by hand still run; `mailbatch resume{}` ends it)",
    Pause.ALL: "all (nothing runs; `mailbatch resume{}` ends it)",
}


@click.command
@job_option("Which job")
@as_json
def status(*, job: str, as_json: bool) -> None:
    """Show the status: pause, run in progress, backlog, last run, next run.

    For another job than send-all it shows no backlog and no relay.
    """
    with opened() as parts:
        hint_if_unknown(parts.stores.reports, job)
        standing = parts.operating.job_status(job)
        zone = parts.settings.timezone
    if as_json:
        print_json(of_status(standing))
    else:
        print_fields(_as_lines(standing, zone))


def _as_lines(standing: JobStatus, zone: str) -> list[tuple[str, str]]:
    last = standing.last_run
    ended = f"{moment(last.finished_at, zone)} {last.outcome}: {_came_to(last)}" if last else "none yet"
    return [
        ("paused", _PAUSED[standing.pause].format(of_job(standing.job))),
        ("running", running(standing)),
        ("next run", next_run(standing, zone)),
        ("last run", ended),
        *(_mail(standing, zone) if standing.job == SEND_ALL else ()),
        *_watched(standing),
    ]


def _mail(standing: JobStatus, zone: str) -> list[tuple[str, str]]:
    census = standing.census
    waiting = f"{census.due}"
    if census.oldest_due_seconds is not None:
        waiting += f", the oldest for {census.oldest_due_seconds:.0f} s"
    if census.under_way:
        waiting += f"; {census.under_way} under way"
    states = ", ".join(f"{n} {state.value}" for state, n in census.counts.items() if n) or "none"
    return [
        ("due", waiting),
        ("reservations", states if census.exact else f"{states} (at least)"),
        ("relay", _relay(standing, zone)),
        *(("blocked", f"the tag {row.tag}: {row.waiting:,} held back so far") for row in standing.blocks),
    ]


def running(standing: JobStatus) -> str:
    """Return the progress of the current run, its rate, and the time until its end."""
    progress = standing.progress
    if progress is None:
        return "no"
    if standing.job != SEND_ALL:
        return _counted(progress.counts) or "yes"
    done = f"{progress.done:,} of {progress.whole:,}{'' if standing.census.exact else ' or more'}"
    counted = ", ".join(f"{n:,} {name}" for name, n in progress.counts.items() if n) or "just started"
    return f"{', '.join((done, *pace(progress, standing.snapshot.silence)))} ({counted})"


def pace(progress: Progress, silence: float | None) -> Iterator[str]:
    """Return the rate of a run and the time until its end; or for how long the relay has not replied."""
    if silence is not None:
        yield f"nobody was answered for {silence:.0f} s"
    if progress.rate is not None:
        yield f"{progress.rate:,.0f}/s"
    if progress.seconds_left:
        yield f"{span(progress.seconds_left)} to go"


def next_run(standing: JobStatus, zone: str) -> str:
    """Return when the next run begins, if that is known."""
    return standing.next_run.told(lambda when: moment(when, zone))


def _came_to(run: RunRow) -> str:
    return _counted(as_dict(run)) or public(run.error or nothing_counted(run.outcome))


def _watched(standing: JobStatus) -> list[tuple[str, str]]:
    """Return the warnings as fields, without that of a relay that is away: the field ``relay`` shows it."""
    found = [(f.level.value, f"{f.what}\n{f.advice}") for f in standing.warnings if f.name != RELAY_AWAY]
    return found if standing.warnings else [("watch", ALL_IS_WELL)]


def _relay(standing: JobStatus, zone: str) -> str:
    circuit = standing.relay
    if circuit.state is CircuitState.CLOSED:
        return f"{circuit.relay}, {'not known to be away' if standing.snapshot.silence is None else 'silent'}"
    until = (
        f"is left alone until {moment(circuit.open_until, zone)}"
        if circuit.seconds_left > 0
        else "is probed by the next run"
    )
    return f"{circuit.relay} {until}: {public(circuit.reason or '')}"


def _counted(counts: Any) -> str:
    return ", ".join(f"{counts[name]} {name}" for name in REPORTED if counts.get(name))
