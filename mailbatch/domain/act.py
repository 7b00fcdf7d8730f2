"""The acts of an operator on a reservation: cancel, requeue, restore, resolve, delete; and between which states."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

from mailbatch.domain.reservation import FINISHED, REQUEUABLE, Status

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mailbatch.domain.change import ChangeResult


class Act(StrEnum):
    """What an operator can do to reservations."""

    CANCEL = "cancel"
    REQUEUE = "requeue"
    RESTORE = "restore"
    """Requeue a cancelled reservation, and no other."""
    RESOLVE = "resolve"
    """Count a reservation in doubt as sent."""
    DELETE = "delete"


FROM: dict[Act, frozenset[Status]] = {
    Act.CANCEL: frozenset({Status.PENDING}),
    Act.REQUEUE: REQUEUABLE,
    Act.RESTORE: frozenset({Status.CANCELLED}),
    Act.RESOLVE: frozenset({Status.IN_DOUBT}),
    Act.DELETE: FINISHED,
}
"""The states in which a reservation can be acted on."""
TO: dict[Act, Status] = {
    Act.CANCEL: Status.CANCELLED,
    Act.REQUEUE: Status.PENDING,
    Act.RESTORE: Status.PENDING,
    Act.RESOLVE: Status.SENT,
}
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
