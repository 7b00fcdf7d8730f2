"""Is the database there, Redis, the relay, a beat? One line for each, and what to do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mailbatch.application.watch import ALL_IS_WELL, NO_PROGRESS, RELAY_AWAY, RELAY_REFUSES, Level, is_late
from mailbatch.domain.circuit import CircuitState
from mailbatch.domain.errors import MailbatchError
from mailbatch.domain.run import Pause, public
from mailbatch.interfaces.console.words import moment, span

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mailbatch.application.watch import Finding
    from mailbatch.bootstrap import Parts
    from mailbatch.domain.circuit import Circuit


@dataclass(frozen=True, slots=True)
class Check:
    """What was found of one part. ``level`` is ``ok``, ``warning`` or ``error``."""

    name: str
    level: str
    found: str
    advice: str = ""


def of_database(parts: Parts) -> Check:
    """Whether it answers, and has its tables."""
    return _tried("Database", parts.ensure_migrated, "answers, tables are up to date", "`mailbatch doctor`")


def of_redis(parts: Parts) -> Check:
    """Whether it answers."""
    return _tried("Redis", parts.ping_redis, "answers", "check MAILBATCH_REDIS_URL and that the server runs")


def of_relay(circuit: Circuit, zone: str, found: Sequence[Finding]) -> Check:
    """Whether it is left alone, or silent while a run waits for it; nobody asks it here."""
    if circuit.state is CircuitState.CLOSED:
        silent = next((one for one in found if one.name == NO_PROGRESS), None)
        if silent is not None:
            return Check("Relay", "error", public(silent.what), silent.advice)
        return Check("Relay", "ok", f"{circuit.relay} is not known to be away")
    ahead = (
        f"is left alone until {moment(circuit.open_until, zone)}" if circuit.left > 0 else "is tried by the next run"
    )
    return Check(
        "Relay",
        "error",
        f"{circuit.relay} {ahead}: {public(circuit.reason or 'it failed')}",
        "it is the relay, not we: ask whoever runs it; “Send now” tries it at once",
    )


def of_beat(next_tick: float | None, pause: Pause) -> Check:
    """Whether somebody means to start the next run, ``next_tick`` seconds from now, and keeps to it."""
    if next_tick is None:
        return Check("Beat", "warning", "none has run yet", "start one: `celery -A mailbatch worker -B`")
    if pause is not Pause.NONE:
        return Check("Beat", "warning", "holds its ticks back while they are paused; whether it runs is not seen")
    if is_late(next_tick):
        return Check(
            "Beat", "error", f"its tick is {span(-next_tick)} late", "is it running? `celery -A mailbatch worker -B`"
        )
    return Check("Beat", "ok", f"next tick in {span(max(0, round(next_tick)))}")


def of_runs(found: Sequence[Finding]) -> Check:
    """Whether something waits for somebody. What it is stands on top of the page; the relay has its own line."""
    ours = [one.level for one in found if one.name not in {NO_PROGRESS, RELAY_AWAY, RELAY_REFUSES}]
    if found and not ours:
        return Check("Runs", "warning", "they wait for the relay")
    if not ours:
        return Check("Runs", "ok", ALL_IS_WELL)
    return Check("Runs", "error" if Level.ERROR in ours else "warning", "something is wrong: see the top of this page")


def _tried(name: str, ask: Callable[[], object], well: str, advice: str) -> Check:
    try:
        ask()
    except MailbatchError as error:
        return Check(name, "error", public(str(error)), advice)
    return Check(name, "ok", well)
