"""Acts on reservations for an operator: cancel, requeue, restore, resolve or delete; by id, or all of a scope."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from datetime import datetime
from itertools import islice
from typing import TYPE_CHECKING, Any
from uuid import UUID

from mailbatch.application.ports.stores import PATIENCE
from mailbatch.domain.act import FROM, TO, Act, outcome_of
from mailbatch.domain.change import Changed, ChangeResult
from mailbatch.domain.errors import NotFound, StateConflict
from mailbatch.domain.reservation import Status
from mailbatch.domain.rows import ReservationPlace
from mailbatch.domain.selection import Counted, ErrorsOf, Selection, Tagged

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mailbatch.application.acting.audit import Audit
    from mailbatch.application.ports.reports import Reports
    from mailbatch.application.ports.stores import Interventions, Reservations
    from mailbatch.domain.selection import Scope

CAP = 100_000
"""Reservations that a preview counts at most."""
_IDS_RECORDED = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class ActOnReservations:
    """The one use case for the command line, HTTP and the console. Each act is recorded in the audit log."""

    reservations: Reservations
    interventions: Interventions
    reports: Reports
    audit: Audit

    def on_ids(self, actor: str, act: Act, ids: Sequence[UUID]) -> list[ChangeResult]:
        """Act on single reservations in one transaction; return the result of each, in order. Raises ``StoreError``."""
        named = [str(own) for own in ids[:_IDS_RECORDED]]
        target: dict[str, Any] = {"id": named[0]} if len(ids) == 1 else {"ids": named, "of": len(ids)}
        with self.audit.around(actor, act.value, target) as entry:
            results = self.interventions.apply(act, ids, FROM[act])
            entry.affected = sum(result.changed for result in results)
            entry.outcome = outcome_of(act, results)
        return results

    def on_one(self, actor: str, act: Act, reservation_id: UUID) -> tuple[ChangeResult, Status]:
        """Act on one reservation; return the result and the state in it. Raises ``NotFound``, ``StoreError``."""
        (result,) = self.on_ids(actor, act, [reservation_id])
        if result.status is None:
            raise NotFound(f"no reservation {reservation_id}")
        return result, result.status

    def count(self, act: Act, scope: Scope) -> Counted:
        """Count the reservations that ``act`` would change, up to ``CAP``, for about ``PATIENCE`` seconds.

        Raises:
            StateConflict: if the act does not go with the filter's state.
            NotFound: if there is no such run.
            StoreError: if the database cannot be asked.
        """
        if isinstance(scope, ErrorsOf):
            self._ensure_run(scope.run_id)
            failed = self.reservations.count_by_status(scope).get(Status.FAILED, 0)
            return Counted(min(failed, CAP), exact=failed <= CAP)
        found = self.reservations.estimate(narrowed(act, scope), CAP, PATIENCE)
        return Counted(min(found.many, CAP), exact=found.exact)

    def on_all(self, actor: str, act: Act, scope: Scope) -> Changed:
        """Act on all reservations of ``scope`` that exist now, in portions, each a transaction.

        ``left`` counts for a filter those whose state changed meanwhile, for a tag or a run all its others.
        Raises as ``count``; then some portions may be done.
        """
        with self.audit.around(actor, act.value, described(scope)) as entry:
            changed = self._change_all(act, scope)
            entry.affected = changed.changed
        return changed

    def _change_all(self, act: Act, scope: Scope) -> Changed:
        status: Status | None
        if isinstance(scope, ErrorsOf):
            self._ensure_run(scope.run_id)
            status, portions = Status.FAILED, self._named_by_errors(scope.run_id)
        else:
            which = narrowed(act, scope)
            status, portions = which.status, self._selected(which)
        states = FROM[act] & {status}
        changed = Changed.of(result for ids in portions for result in self.interventions.apply(act, ids, states))
        if isinstance(scope, Selection):
            return changed
        others = self.reservations.count_by_status(scope)
        return Changed(changed.changed, {state: n for state, n in others.items() if state is not TO.get(act)})

    def _selected(self, which: Selection) -> Iterator[Sequence[UUID]]:
        after: ReservationPlace | None = None
        while rows := self.reservations.select(which, ReservationPlace, after, self.interventions.portion):
            yield [row.id for row in rows]
            after = rows[-1]

    def _named_by_errors(self, run_id: UUID) -> Iterator[Sequence[UUID]]:
        """Yield the reservations of a run's errors; one that failed twice may come twice."""
        ids = (error.reservation_id for error in self.reports.errors(run_id, -1))
        named = (own for own in ids if isinstance(own, UUID))
        while portion := list(islice(named, self.interventions.portion)):
            yield list(dict.fromkeys(portion))

    def _ensure_run(self, run_id: UUID) -> None:
        if self.reports.run(run_id) is None:
            raise NotFound(f"no run {run_id}; `mailbatch runs` lists them")


def narrowed(act: Act, scope: Selection | Tagged) -> Selection:
    """Return what ``scope`` selects, in the one state that ``act`` changes.

    Raises:
        StateConflict: if it names another state, or none although several are possible.
    """
    which = Selection(tag=scope.tag) if isinstance(scope, Tagged) else scope
    states = FROM[act]
    if which.status is None and len(states) == 1:
        return replace(which, status=next(iter(states)))
    if which.status not in states:
        allowed = " or ".join(sorted(state.value for state in states))
        named = f"not {which.status.value}" if which.status else "and the filter must say which"
        raise StateConflict(f"{act.value} is for reservations that are {allowed}, {named}")
    return which


def described(scope: Scope) -> dict[str, Any]:
    """Return ``scope`` for the audit log; a part of an address is hidden."""
    match scope:
        case Tagged(tag):
            return {"tag": tag}
        case ErrorsOf(run_id):
            return {"run": str(run_id)}
    given = {field.name.removesuffix("_id"): getattr(scope, field.name) for field in fields(scope)}
    return {name: _described(name, value) for name, value in given.items() if value is not None}


def _described(name: str, value: object) -> str:
    if name == "to":
        return "***"
    return value.isoformat(timespec="seconds") if isinstance(value, datetime) else str(value)
