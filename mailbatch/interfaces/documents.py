"""The JSON documents of the command line (``--json``) and of HTTP."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from mailbatch.domain.act import Act, is_done
from mailbatch.domain.circuit import CircuitState
from mailbatch.domain.content import beginning_of, size_of
from mailbatch.domain.errors import CannotCompose
from mailbatch.domain.message_subject import own_subject
from mailbatch.domain.redaction.addresses import public
from mailbatch.domain.rows import as_dict
from mailbatch.domain.run import DEAD_AFTER, REPORTED, Pause, RunOutcome

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mailbatch.application.acting.stop_run import Stopping
    from mailbatch.application.looking.carried import Carried
    from mailbatch.application.looking.inquire import JobStatus, Progress
    from mailbatch.application.looking.plan import Plan, Planned
    from mailbatch.application.looking.preview import MailPreview
    from mailbatch.application.looking.relays import RelayStanding
    from mailbatch.domain.change import ChangeResult
    from mailbatch.domain.circuit import Circuit
    from mailbatch.domain.rows import AttemptRow, BlockRow, ReservationRow, RunRow

RUNNING, SILENT = "running", "silent"
"""The counts of a run, in the order of every screen."""
VERBS = {
    Act.CANCEL: "cancelled",
    Act.REQUEUE: "requeued",
    Act.RESTORE: "restored",
    Act.RESOLVE: "resolved",
    Act.DELETE: "deleted",
}
"""The name of what an act did."""


def of_reservation(row: ReservationRow, attempts: Iterable[AttemptRow], carried: Carried) -> dict[str, Any]:
    """Return the document of a reservation: its columns, what it carries, and its attempts."""
    return {
        **of_row(row),
        **of_carried(carried),
        "mail_attempts": [as_dict(attempt) for attempt in attempts],
    }


def of_carried(carried: Carried) -> dict[str, Any]:
    """Return the document of what a mail carries beside its text."""
    return {
        "files": [asdict(file) for file in carried.files],
        "served_in": list(carried.served_in),
        "returns_to": carried.returns_to,
    }


def of_plan(plan: Plan) -> dict[str, Any]:
    """Return the document of the next run."""
    return {
        "by": plan.by,
        "due": plan.due,
        "exact": plan.exact,
        "mails_per_second": round(plan.rate, 1) if plan.rate else None,
        "seconds": round(plan.seconds, 1) if plan.seconds else None,
        "first": [of_planned(one, carried) for one, carried in plan.first],
    }


def of_planned(one: Planned, carried: Carried) -> dict[str, Any]:
    """Return the document of a mail of a plan."""
    return {
        "id": one.mail.claim.reservation_id,
        "recipients": one.mail.mail.recipients,
        "subject": one.subject,
        "size": one.size,
        "errors": list(one.errors),
        "waits_for": one.waits_for,
        "locale": carried.locale,
        **of_carried(carried),
    }


def of_preview(shown: MailPreview) -> dict[str, Any]:
    """Return the document of a mail as it would be now."""
    rendered = shown.rendered
    parts = {"subject": rendered.subject, "text": rendered.text, "html": rendered.html}
    return {**parts, "locale": shown.locale, "served_in": list(shown.served_in)}


def of_row(row: ReservationRow) -> dict[str, Any]:
    """Return the columns of a reservation; of a finished message its size, and as ``subject`` its own."""
    values = as_dict(row)
    if row.message is not None:
        values["message"] = {"size": size_of(row.message)}
        with suppress(CannotCompose):  # it was deleted meanwhile
            values["subject"] = own_subject(beginning_of(row.message)) or row.subject
    return values


def of_run(row: RunRow) -> dict[str, Any]:
    """Return the document of a run."""
    named = ("run_id", "trigger", "outcome", "started_at", "finished_at", "duration", *REPORTED)
    values = {name: getattr(row, name) for name in named}
    found = {name: round(value, 3) if isinstance(value, float) else value for name, value in values.items()}
    return {**found, "running": outcome_of(row) == RUNNING}


def outcome_of(row: RunRow) -> str:
    """Return the outcome of a run; ``running``, or ``silent`` if it has not ended but gives no sign of life."""
    return row.outcome or (SILENT if (row.silent or 0.0) > DEAD_AFTER else RUNNING)


def nothing_counted(outcome: str | None) -> str:
    """Return what to say of a run that has counted no item; ``outcome``: None if it has not ended."""
    match outcome:
        case None:
            return "nothing yet"
        case RunOutcome.COMPLETED.value:
            return "nothing was due"
        case _:
            return "nothing was done"


def of_status(standing: JobStatus) -> dict[str, Any]:
    """Return the document of a status."""
    census = standing.census
    return {
        **of_pause(standing.pause),
        "running": standing.running,
        "progress": of_progress(standing.progress) if standing.progress else None,
        "next_run_at": standing.next_run.planned,
        "last_run": of_run(standing.last_run) if standing.last_run else None,
        "reservations": {state.value: n for state, n in census.counts.items()},
        "exact": census.exact,
        "due": census.due,
        "oldest_due_seconds": census.oldest_due_seconds,
        "under_way": census.under_way,
        "unanswered_seconds": standing.snapshot.unanswered,
        "relay": of_relay(standing.relay),
        "blocks": [of_block(row) for row in standing.blocks],
        "warnings": [asdict(finding) for finding in standing.warnings],
        "down": standing.snapshot.down,
    }


def of_block(row: BlockRow) -> dict[str, Any]:
    """Return the document of a blocked tag."""
    return as_dict(row)


def of_progress(progress: Progress) -> dict[str, Any]:
    """Return the document of a progress."""
    return {
        "run_id": progress.run_id,
        "trigger": progress.trigger,
        **progress.counts,
        "state": "running",
        "elapsed": round(progress.elapsed, 3),
        "done": progress.done,
        "whole": progress.whole,
        "rate": None if progress.rate is None else round(progress.rate, 1),
        "seconds_left": None if progress.seconds_left is None else round(progress.seconds_left, 1),
    }


def of_pause(pause: Pause) -> dict[str, Any]:
    """Return the document of a pause. ``paused``: false or a text; ``pause``: always a text, for generated clients."""
    return {"paused": False if pause is Pause.NONE else pause.value, "pause": pause.value}


def of_stopping(stopping: Stopping) -> dict[str, Any]:
    """Return the document of a run that was told to stop."""
    return {"run_id": stopping.run_id, "job": stopping.job, "stopping": True, "alive": stopping.alive}


def of_relay_standing(one: RelayStanding) -> dict[str, Any]:
    """Return the document of a relay: its circuit, and its connections."""
    about = of_relay(one.circuit)
    is_closed = one.circuit.state is CircuitState.CLOSED
    return {
        "name": about["name"],
        "state": about["state"],
        "since": None if is_closed else one.circuit.opened_at,
        "until": about["until"],
        "reason": about["reason"],
        "connections": one.connections,
        "total_connections": one.total,
    }


def of_relay(circuit: Circuit) -> dict[str, Any]:
    """Return the document of a relay's circuit."""
    reason = public(circuit.reason) if circuit.reason else None
    return {"name": circuit.relay, "state": circuit.state.value, "until": circuit.open_until, "reason": reason}


def of_result(act: Act, result: ChangeResult) -> dict[str, Any]:
    """Return what ``act`` did to one reservation. ``status`` of a deleted one is the state in which it was."""
    status = result.status.value if result.status else None
    text = result_text(act, result)
    return {"id": result.reservation_id, "done": is_done(act, result), "status": status, "answer": text}


def result_text(act: Act, result: ChangeResult) -> str:
    """Return the same in words."""
    verb = VERBS[act]
    if result.changed:
        return verb
    if result.status is None:
        return "not found"
    if is_done(act, result):
        return f"is {result.status.value} already"
    if result.overdue:
        return f"not {verb}: its expires_at has passed"
    if act is Act.CANCEL:
        return f"too late: it is {result.status.value}"
    return f"not {verb}: it is {result.status.value}"
