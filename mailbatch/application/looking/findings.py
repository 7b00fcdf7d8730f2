"""Find what is wrong with a job: each finding from what one look has read, with what to do about it."""

from __future__ import annotations

import math
from datetime import timedelta
from typing import TYPE_CHECKING

from mailbatch.domain.circuit import CircuitState
from mailbatch.domain.finding import (
    FOREIGN_LOCK,
    IDLE_LOCK,
    LEASES_ENDED,
    MAILS_WAIT,
    NO_PROGRESS,
    NO_RUN,
    NO_TICK,
    REDIS_AWAY,
    RELAY_AWAY,
    RELAY_REFUSES,
    RUN_DIED,
    Finding,
    Level,
)
from mailbatch.domain.health import longer, nobody_runs, unanswered
from mailbatch.domain.limits import EARLIEST
from mailbatch.domain.redaction.addresses import public
from mailbatch.domain.reply_kinds import Concern
from mailbatch.domain.run import Pause

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from mailbatch.application.looking.job_snapshot import JobSnapshot
    from mailbatch.domain.circuit import Circuit
    from mailbatch.domain.health import HealthSnapshot

_TO_DO = {
    Concern.QUOTA: "wait until the quota begins again, or ask the relay's provider for more",
    Concern.ACCOUNT: "log in at the relay's provider and look why, and check user and password in MAILBATCH_SMTP_URL",
    Concern.SYSTEM: "tell the operator of the relay",
}
"""What helps where a relay takes no mail until somebody acts or some time has passed, by the subject of its refusal."""


def find(snapshot: JobSnapshot) -> list[Finding]:
    """Return what is wrong, the errors first."""
    found = [*_runs(snapshot), *_redis(snapshot), *_lock(snapshot), *_beat(snapshot)]
    if snapshot.sends:
        found += [*_answers(snapshot), *_leases(snapshot), *_shared(snapshot), *_relays(snapshot)]
    return sorted(found, key=lambda finding: finding.level is not Level.ERROR)


def _runs(snapshot: JobSnapshot) -> Iterator[Finding]:
    v, p, job = snapshot.health, snapshot.patience, snapshot.job
    if v.silent is not None and v.silent > p.dead_after:
        yield _died(v, v.silent, f"run {v.open_run} of {job} is silent: its process died, or hangs")
    elif v.died is not None and not snapshot.begins:
        yield _died(v, v.died, f"a run of {job} died without an end; its row is closed")
    if snapshot.sends and nobody_runs(v, p) and snapshot.pause is Pause.NONE:
        since = "ever begun" if v.last_sign is None else f"begun for {v.last_sign:.0f} s"
        waits = v.oldest_waiting or 0.0
        # Expired mails that no run has marked are not due, but count as waiting.
        due = f"been due for {v.oldest_due:.0f} s" if v.oldest_due else f"waited for {waits:.0f} s and expired"
        yield Finding(
            name=NO_RUN,
            level=Level.ERROR,
            what=f"mail has {due}, and no run of {job} has {since}",
            since=_ago(v, min(waits, v.last_sign or math.inf)),
            advice="is a beat running, and a worker whose clock is right? "
            "start one with `celery -A mailbatch worker -B`",
        )


def _redis(snapshot: JobSnapshot) -> Iterator[Finding]:
    if snapshot.redis_error is not None:
        yield Finding(
            name=REDIS_AWAY,
            level=Level.ERROR,
            what=f"no run can begin: {public(snapshot.redis_error)}",
            since=None,
            advice="check MAILBATCH_REDIS_URL and that the server runs, `mailbatch doctor` asks it; meanwhile "
            "`mailbatch send-all --here --no-lock` sends without it",
        )


def _lock(snapshot: JobSnapshot) -> Iterator[Finding]:
    v, p, job, holder = snapshot.health, snapshot.patience, snapshot.job, snapshot.holder
    if holder is None:
        return
    if holder.other_database is not None:
        yield Finding(
            name=FOREIGN_LOCK,
            level=Level.ERROR,
            what=f"{holder.owner} runs {job} on another database, {holder.other_database}, under our lock "
            f"{snapshot.lock_key}: meanwhile no run can begin here",
            since=None,
            advice="two installations share this Redis: give each a MAILBATCH_NAMESPACE of its own",
        )
    elif not snapshot.begins and longer(v.last_sign, p.dead_after + p.lock_ttl):
        never = ", and never ends" if math.isinf(holder.expires_in) else ""
        yield Finding(
            name=IDLE_LOCK,
            level=Level.ERROR,
            what=f"the lock of {job} is held{never}, but no run shows a sign of life",
            since=_ago(v, v.last_sign),
            advice=f"see `mailbatch doctor` for who holds it; end that process, or delete the Redis key "
            f"{snapshot.lock_key}",
        )


def _beat(snapshot: JobSnapshot) -> Iterator[Finding]:
    late, v, p = snapshot.next_run.late, snapshot.health, snapshot.patience
    if late is not None:
        # Runs that something else starts, for example a cron job, need no beat.
        stuck = late > p.stuck and longer(v.last_sign, p.quiet)
        yield Finding(
            name=NO_TICK,
            level=Level.ERROR if stuck else Level.WARNING,
            what=f"beat's tick is {late:.0f} s late",
            since=_ago(v, late),
            advice="is a beat running? start one with `celery -A mailbatch worker -B`",
        )


def _answers(snapshot: JobSnapshot) -> Iterator[Finding]:
    v, p = snapshot.health, snapshot.patience
    seconds = unanswered(v, p)
    if seconds is not None and seconds > p.unanswered:
        mails = "1 mail is under way" if v.under_way == 1 else f"{v.under_way} mails are under way"
        yield Finding(
            name=NO_PROGRESS,
            level=Level.ERROR if seconds > p.stuck else Level.WARNING,
            what=f"nobody was answered for {seconds:.0f} s: {mails} to the relay {snapshot.circuit.relay} in run "
            f"{v.open_run} of {snapshot.job}",
            since=_ago(v, seconds),
            advice="does the relay answer? `mailbatch doctor` asks it; the run gives up by itself when the relay's "
            "time limits are over",
        )


def _leases(snapshot: JobSnapshot) -> Iterator[Finding]:
    v, p = snapshot.health, snapshot.patience
    if v.ended:
        paused = snapshot.pause is not Pause.NONE
        why = "it is paused, `mailbatch resume` ends that" if paused else "why is there none?"
        yield Finding(
            name=LEASES_ENDED,
            level=Level.WARNING if paused else Level.ERROR,
            what=f"{v.ended} mails are claimed by a sender whose lease ended more than {2 * p.lease:.0f} s ago",
            since=_ago(v, v.oldest_ended),
            advice=f"the next run takes them back: {why} {_start(snapshot)} starts one",
        )


def _shared(snapshot: JobSnapshot) -> Iterator[Finding]:
    v = snapshot.health
    if v.fault is not None:
        yield Finding(
            name=MAILS_WAIT,
            level=Level.ERROR,
            what=public(v.fault),
            since=_ago(v, v.fault_age),
            advice="mend that on the host of the worker; the mails go by themselves then, and none loses an attempt; "
            "all other mails are sent",
        )


def _relays(snapshot: JobSnapshot) -> Iterator[Finding]:
    for circuit in (snapshot.circuit, *snapshot.other_circuits):
        if circuit.state is not CircuitState.CLOSED:
            yield _relay(snapshot, circuit)


def _relay(snapshot: JobSnapshot, circuit: Circuit) -> Finding:
    reason = public(circuit.reason or "")
    if circuit.concern in _TO_DO:
        until = (
            f"until {circuit.open_until:%Y-%m-%d %H:%M:%S} UTC" if circuit.seconds_left > 0 else "until the next run"
        )
        return Finding(
            name=RELAY_REFUSES,
            level=Level.ERROR,
            what=f"the relay {circuit.relay} takes no mail and is left alone {until}: {reason}",
            since=circuit.opened_at,
            advice=f"{_TO_DO[circuit.concern]}; no mail loses an attempt; {_start(snapshot)} tries it at once",
        )
    ahead = "is left alone" if circuit.seconds_left > 0 else "is asked by one mail at the next run"
    return Finding(
        name=RELAY_AWAY,
        level=Level.WARNING,
        what=f"the relay {circuit.relay} failed and {ahead}: {reason}",
        since=circuit.opened_at,
        advice=f"`mailbatch doctor` asks it; {_start(snapshot)} tries it at once",
    )


def _start(snapshot: JobSnapshot) -> str:
    """Return the command that starts a run now."""
    return "after `mailbatch resume` `mailbatch send-all`" if snapshot.pause is Pause.ALL else "`mailbatch send-all`"


def _died(v: HealthSnapshot, seconds: float, what: str) -> Finding:
    return Finding(
        name=RUN_DIED,
        level=Level.ERROR,
        what=what,
        since=_ago(v, seconds),
        advice="look for a kill or an out-of-memory in the worker's and the system's log; the next run takes over",
    )


def _ago(v: HealthSnapshot, seconds: float | None) -> datetime | None:
    if seconds is None or math.isinf(seconds):
        return None
    # A row may claim to be older than the earliest time that we can write.
    return v.now - timedelta(seconds=min(seconds, (v.now - EARLIEST).total_seconds()))
