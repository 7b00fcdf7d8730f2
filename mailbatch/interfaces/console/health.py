"""The health of database, Redis, relay and beat: one line for each, and what to do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mailbatch.domain.circuit import CircuitState
from mailbatch.domain.errors import MailbatchError
from mailbatch.domain.finding import ALL_IS_WELL, NO_PROGRESS, NO_TICK, REDIS_AWAY, RELAY_AWAY, RELAY_REFUSES, Level
from mailbatch.domain.redaction.addresses import public
from mailbatch.interfaces.console.formatting import moment, span

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mailbatch.application.looking.next_run import NextRun
    from mailbatch.domain.circuit import Circuit
    from mailbatch.domain.finding import Finding

_OTHERS = {
    NO_PROGRESS: "the relay",
    RELAY_AWAY: "the relay",
    RELAY_REFUSES: "the relay",
    REDIS_AWAY: "Redis",
    NO_TICK: "beat",
}
"""Findings about the parts that have a line of their own."""


@dataclass(frozen=True, slots=True)
class Check:
    """The health of one part. ``level`` is ``ok``, ``warning`` or ``error``."""

    name: str
    level: str
    found: str
    advice: str = ""


def of_database(ensure_migrated: Callable[[], object]) -> Check:
    """Return whether the database responds and has its tables."""
    return _tried("Database", ensure_migrated, "answers, tables are up to date", "`mailbatch doctor`")


def of_redis(error: str | None) -> Check:
    """Return whether Redis responds; ``error``: why it does not."""
    if error is None:
        return Check("Redis", "ok", "answers")
    return Check("Redis", "error", public(error), "check MAILBATCH_REDIS_URL and that the server runs")


def of_relay(circuit: Circuit, zone: str, found: Sequence[Finding]) -> Check:
    """Return whether the relay's circuit is open, or the relay silent during a run. The relay itself is not asked."""
    if circuit.state is CircuitState.CLOSED:
        silent = next((one for one in found if one.name == NO_PROGRESS), None)
        if silent is not None:
            return Check("Relay", "error", public(silent.what), silent.advice)
        return Check("Relay", "ok", f"{circuit.relay} is not known to be away")
    ahead = (
        f"is left alone until {moment(circuit.open_until, zone)}"
        if circuit.seconds_left > 0
        else "is tried by the next run"
    )
    return Check(
        "Relay",
        "error",
        f"{circuit.relay} {ahead}: {public(circuit.reason or 'it failed')}",
        "the fault is the relay's: ask its operator. “Send now” tries it at once",
    )


def of_beat(next_run: NextRun) -> Check:
    """Return whether a beat starts the next run in time."""
    if next_run.at is None:
        return Check("Beat", "warning", "none has run yet", "start one: `celery -A mailbatch worker -B`")
    if next_run.paused:
        return Check("Beat", "warning", "holds its ticks back while they are paused; whether it runs is not seen")
    if next_run.late is not None:
        late = f"its tick is {span(next_run.late)} late"
        return Check("Beat", "error", late, "is it running? `celery -A mailbatch worker -B`")
    return Check("Beat", "ok", f"next tick in {span(max(0, round(next_run.due_in or 0)))}")


def of_runs(found: Sequence[Finding]) -> Check:
    """Return whether there are other findings. The top of the page shows them; the relay has its own line."""
    ours = [one.level for one in found if one.name not in _OTHERS]
    if found and not ours:
        return Check("Runs", "warning", f"they wait for {_OTHERS[found[0].name]}")
    if not ours:
        return Check("Runs", "ok", ALL_IS_WELL)
    return Check("Runs", "error" if Level.ERROR in ours else "warning", "something is wrong: see the top of this page")


def _tried(name: str, ask: Callable[[], object], well: str, advice: str) -> Check:
    try:
        ask()
    except MailbatchError as error:
        return Check(name, "error", public(str(error)), advice)
    return Check(name, "ok", well)
