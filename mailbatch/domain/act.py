"""The acts of an operator on a reservation: cancel, requeue, restore, resolve, delete; and between which states."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

from mailbatch.domain.lifecycle import Event, sources, transition

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mailbatch.domain.change import ChangeResult
    from mailbatch.domain.reservation import Status


class Act(StrEnum):
    """What an operator can do to reservations."""

    CANCEL = "cancel"
    REQUEUE = "requeue"
    RESTORE = "restore"
    """Requeue a cancelled reservation, and no other."""
    RESOLVE = "resolve"
    """Count a reservation in doubt as sent."""
    DELETE = "delete"


EVENTS: dict[Act, Event] = {act: Event[act.name] for act in Act}
"""What an act is in the table of states."""
FROM: dict[Act, frozenset[Status]] = {act: sources(event) for act, event in EVENTS.items()}
"""The states in which a reservation can be acted on."""
TO: dict[Act, Status] = {act: transition(event).status for act, event in EVENTS.items() if act is not Act.DELETE}
"""The state that follows. A deleted reservation has none."""


def is_done(act: Act, result: ChangeResult) -> bool:
    """Return whether ``act`` succeeded: the reservation was changed, or is already in the state that follows.

    So an act can be repeated. A reservation that is already deleted is not found.
    """
    return result.changed or (act in TO and result.status is TO[act])


def outcome_of(act: Act, results: Sequence[ChangeResult]) -> str:
    """Return the outcome of ``act`` on single reservations for the audit log: done, done in part, or refused."""
    done = sum(is_done(act, result) for result in results)
    return "done" if done == len(results) else "done in part" if done else "refused"
