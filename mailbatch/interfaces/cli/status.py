"""``mailbatch status``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from mailbatch.application.watch import ALL_IS_WELL, NO_PROGRESS, RELAY_AWAY, is_late
from mailbatch.domain.circuit import CircuitState
from mailbatch.domain.run import Pause, public
from mailbatch.interfaces.cli.opening import opened
from mailbatch.interfaces.cli.output import as_json, moment, print_fields, print_json
from mailbatch.interfaces.documents import COUNTS, of_standing

if TYPE_CHECKING:
    from mailbatch.application.inquire import Standing

JOB = "send-all"
_PAUSED = {
    Pause.NONE: "",
    Pause.TICKS: "ticks (calls by hand still run; `mailbatch resume` ends it)",
    Pause.ALL: "all (nothing runs; `mailbatch resume` ends it)",
}


@click.command
@as_json
def status(*, as_json: bool) -> None:
    """Show how things stand: pause, run in progress, backlog, last run, next run."""
    from mailbatch.application.inquire import ShowStanding

    with opened() as parts:
        ask = ShowStanding(
            reports=parts.reports,
            switch=parts.switch,
            driver=parts.lock(JOB),
            board=parts.status,
            watch=parts.watch(JOB),
        )
        standing = ask(JOB)
        zone = parts.settings.timezone
    if as_json:
        print_json(of_standing(standing))
    else:
        print_fields(_as_lines(standing, zone))


def _as_lines(standing: Standing, zone: str) -> list[tuple[str, str]]:
    census, last = standing.census, standing.last_run
    waiting = f"{census.due}"
    if census.oldest_due_seconds is not None:
        waiting += f", the oldest for {census.oldest_due_seconds:.0f} s"
    if census.under_way:
        waiting += f"; {census.under_way} under way"
    states = ", ".join(f"{n} {state.value}" for state, n in census.counts.items() if n) or "none"
    ended = (
        f"{moment(last['finished_at'], zone)} {last['outcome']}: {_counted(last) or 'nothing was due'}"
        if last
        else "none yet"
    )
    return [
        ("paused", _PAUSED[standing.pause]),
        ("running", (_counted(standing.progress or {}) or "yes") if standing.running else "no"),
        ("next run", next_run(standing, zone)),
        ("last run", ended),
        ("due", waiting),
        ("reservations", states if census.exact else f"{states} (at least)"),
        ("relay", _relay(standing, zone)),
        *_watched(standing),
    ]


def next_run(standing: Standing, zone: str) -> str:
    """When the next run begins, as far as that is known."""
    if standing.pause is not Pause.NONE:
        return "none while it is paused"
    if standing.next_run_at is None:
        return "not known: no beat has run yet"
    late = "; that is over: is a beat running?" if is_late(standing.next_run_in) else ""
    return moment(standing.next_run_at, zone) + late


def _watched(standing: Standing) -> list[tuple[str, str]]:
    """What is wrong. That the relay is away stands in its own line."""
    found = [(f.level.value, f"{f.what}\n{f.advice}") for f in standing.warnings if f.name != RELAY_AWAY]
    return found if standing.warnings else [("watch", ALL_IS_WELL)]


def _relay(standing: Standing, zone: str) -> str:
    circuit = standing.relay
    if circuit.state is CircuitState.CLOSED:
        silent = any(finding.name == NO_PROGRESS for finding in standing.warnings)
        return f"{circuit.relay}, {'silent' if silent else 'not known to be away'}"
    until = (
        f"is left alone until {moment(circuit.open_until, zone)}" if circuit.left > 0 else "is probed by the next run"
    )
    return f"{circuit.relay} {until}: {public(circuit.reason or '')}"


def _counted(counts: Any) -> str:
    return ", ".join(f"{counts[name]} {name}" for name in COUNTS if counts.get(name))
