"""Do one thing to all reservations that a filter means: first say how many they are, then do it in portions."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING

from mailbatch.application.ports.stores import PATIENCE
from mailbatch.domain.change import Changed
from mailbatch.domain.errors import StateConflict
from mailbatch.domain.reservation import FINISHED, REQUEUABLE, Status
from mailbatch.domain.rows import ReservationPlace

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence
    from uuid import UUID

    from mailbatch.application.ports.stores import Interventions, Reservations
    from mailbatch.domain.change import ChangeResult
    from mailbatch.domain.selection import Selection

PORTION = 200
"""Reservations of one transaction: few enough that no lane waits for it."""
CAP = 100_000
"""How far a preview counts."""


class Act(StrEnum):
    """What can be done to many."""

    CANCEL = "cancel"
    REQUEUE = "requeue"
    RESTORE = "restore"
    """Requeue what was cancelled, and nothing else."""
    RESOLVE = "resolve"
    """Take what is in doubt for sent."""
    DELETE = "delete"


STATES: dict[Act, frozenset[Status]] = {
    Act.CANCEL: frozenset({Status.PENDING}),
    Act.REQUEUE: REQUEUABLE,
    Act.RESTORE: frozenset({Status.CANCELLED}),
    Act.RESOLVE: frozenset({Status.IN_DOUBT}),
    Act.DELETE: FINISHED,
}
"""In which states a reservation must be for that."""
AIMS: dict[Act, Status] = {
    Act.CANCEL: Status.CANCELLED,
    Act.REQUEUE: Status.PENDING,
    Act.RESTORE: Status.PENDING,
    Act.RESOLVE: Status.SENT,
}
"""The state into which an act brings a reservation; what is deleted has none."""


def is_done(act: Act, answer: ChangeResult) -> bool:
    """Whether ``act`` counts as done: the reservation was changed, or is already in the state at which the act aims.

    The one rule for every door: an act may be repeated. What is deleted already is not found.
    """
    return answer.changed or (act in AIMS and answer.status is AIMS[act])


def outcome_of(act: Act, answers: Sequence[ChangeResult]) -> str:
    """How ``act`` on single reservations is noted: ``done``, ``done in part`` or ``refused``."""
    done = sum(is_done(act, answer) for answer in answers)
    return "done" if done == len(answers) else "done in part" if done else "refused"


@dataclass(frozen=True, slots=True)
class Preview:
    """How many would be changed at least; ``exact`` is false if there may be more than were counted."""

    affects: int
    exact: bool


@dataclass(frozen=True, slots=True)
class PreviewBulk:
    """Say how many reservations an act on a filter would touch."""

    reservations: Reservations

    def __call__(self, act: Act, which: Selection) -> Preview:
        """Count them for a moment. Raises ``StateConflict`` if the act does not go with the filter's state."""
        found = self.reservations.estimate(aimed(act, which), CAP, PATIENCE)
        return Preview(min(found.many, CAP), exact=found.exact)


@dataclass(frozen=True, slots=True)
class DoEach:
    """Do it to single reservations."""

    interventions: Interventions

    def __call__(self, act: Act, ids: Sequence[UUID], states: Collection[Status] | None = None) -> list[ChangeResult]:
        """Return what became of each of ``ids``, in order. ``states`` narrows those in which they are changed."""
        states = STATES[act] if states is None else states
        match act:
            case Act.CANCEL:
                return self.interventions.cancel(ids)
            case Act.REQUEUE | Act.RESTORE:
                return self.interventions.requeue(ids, states)
            case Act.RESOLVE:
                return self.interventions.resolve(ids)
            case Act.DELETE:
                return self.interventions.delete(ids, states)


@dataclass(frozen=True, slots=True)
class DoBulk:
    """Do it to those that are there now; who comes meanwhile is left."""

    reservations: Reservations
    interventions: Interventions

    def __call__(self, act: Act, which: Selection) -> Changed:
        """Answer how many were changed, and in which states others were left, for they had moved on meanwhile.

        Each portion is a transaction. Raises ``StateConflict`` as ``PreviewBulk``.
        """
        return Changed.of(self._each(act, aimed(act, which)))

    def _each(self, act: Act, which: Selection) -> Iterator[ChangeResult]:
        each = DoEach(self.interventions)
        after: ReservationPlace | None = None
        while rows := self.reservations.select(which, ReservationPlace, after, PORTION):
            yield from each(act, [row.id for row in rows], STATES[act] & {which.status})
            after = rows[-1]


def aimed(act: Act, which: Selection) -> Selection:
    """``which``, narrowed to the one state that is meant.

    Raises:
        StateConflict: if it names another state, or none where several are possible.
    """
    states = STATES[act]
    if which.status is None and len(states) == 1:
        return replace(which, status=next(iter(states)))
    if which.status not in states:
        allowed = " or ".join(sorted(state.value for state in states))
        named = f"not {which.status.value}" if which.status else "and the filter must say which"
        raise StateConflict(f"{act.value} is for reservations that are {allowed}, {named}")
    return which
