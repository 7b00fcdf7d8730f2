"""``mailbatch cancel``, ``requeue``, ``restore``, ``resolve`` and ``delete``: by id, or all that a filter means."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from mailbatch.application.acting.bulk import AIMS, STATES, Act, DoBulk, PreviewBulk, is_done
from mailbatch.domain.reservation import Status
from mailbatch.interfaces.audit_log import told
from mailbatch.interfaces.cli.cli_audit import do_each, noted_act
from mailbatch.interfaces.cli.filter_options import agreed, filter_options, read_selection, warn_of_yes, yes
from mailbatch.interfaces.cli.output import as_json, print_json
from mailbatch.interfaces.cli.session import opened
from mailbatch.interfaces.documents import of_answer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from uuid import UUID

    from mailbatch.application.acting.bulk import Preview
    from mailbatch.bootstrap import Parts
    from mailbatch.domain.change import Changed, ChangeResult
    from mailbatch.domain.selection import Selection

_DONE = {
    Act.CANCEL: "cancelled",
    Act.REQUEUE: "requeued",
    Act.RESTORE: "restored",
    Act.RESOLVE: "resolved",
    Act.DELETE: "deleted",
}
_ids = click.argument("ids", metavar="[ID]...", nargs=-1, type=click.UUID)


@click.command
@_ids
@filter_options(STATES[Act.CANCEL])
@yes
@as_json
def cancel(*, ids: tuple[UUID, ...], yes: bool, as_json: bool, **given: Any) -> None:
    """Cancel reservations. What this answers as cancelled is never sent.

    Exit code 1 if one of the IDs could not be cancelled: it is too late, or there is none. By a filter it first says
    how many it affects, and asks.
    """
    from mailbatch.application.acting.cancel import CancelTagged

    if ids or _named(given) != ["tag"]:
        _act(Act.CANCEL, ids, given, yes=yes, as_json=as_json)
        return
    tagged = _Bulk(
        Act.CANCEL,
        read_selection(given),
        lambda parts: CancelTagged(parts.stores.interventions)(given["tag"]),
        alone=True,
    )
    tagged.do(yes=yes, as_json=as_json)


@click.command
@_ids
@filter_options(STATES[Act.REQUEUE])
@yes
@as_json
def requeue(*, ids: tuple[UUID, ...], yes: bool, as_json: bool, **given: Any) -> None:
    """Send reservations back to pending, with all their attempts before them.

    From failed, in_doubt and cancelled. Recipients that accepted the mail before do not get it again; one that is in
    doubt may be a duplicate. --run alone means what failed in that run. By a filter it first says how many it
    affects, and asks.
    """
    from mailbatch.application.acting.requeue import RequeueAll, RequeueRun

    named = [] if ids else _named(given)
    if named not in (["run"], ["status"]):
        _act(Act.REQUEUE, ids, given, yes=yes, as_json=as_json)
        return
    which = read_selection(given)

    def of_run(parts: Parts) -> RequeueRun:
        return RequeueRun(parts.stores.interventions, parts.stores.reports)

    if (run_id := which.run_id) is not None:
        bulk = _Bulk(
            Act.REQUEUE,
            which,
            lambda parts: of_run(parts)(run_id),
            lambda parts: of_run(parts).preview(run_id),
            alone=True,
        )
    else:
        status = Status(given["status"])
        bulk = _Bulk(Act.REQUEUE, which, lambda parts: RequeueAll(parts.stores.interventions)(status), alone=True)
    bulk.do(yes=yes, as_json=as_json)


@click.command
@_ids
@filter_options(STATES[Act.RESTORE])
@yes
@as_json
def restore(*, ids: tuple[UUID, ...], yes: bool, as_json: bool, **given: Any) -> None:
    """Undo a cancellation: from cancelled to pending. What is still to come keeps its time.

    By a filter it first says how many it affects, and asks.
    """
    _act(Act.RESTORE, ids, given, yes=yes, as_json=as_json)


@click.command
@_ids
@click.option("--sent", is_flag=True, required=True, help="It did go out.")
@filter_options(STATES[Act.RESOLVE])
@yes
@as_json
def resolve(*, ids: tuple[UUID, ...], sent: bool, yes: bool, as_json: bool, **given: Any) -> None:  # noqa: ARG001 - required, so always true
    """Settle what is in doubt: --sent says that it did go out, because the recipient or the relay's log says so.

    To send it again instead, requeue it. By a filter it first says how many it affects, and asks.
    """
    if len(ids) != 1 or _named(given):
        _act(Act.RESOLVE, ids, given, yes=yes, as_json=as_json)
        return
    _resolve_one(ids[0], as_json=as_json)


@click.command
@_ids
@filter_options(STATES[Act.DELETE])
@yes
@as_json
def delete(*, ids: tuple[UUID, ...], yes: bool, as_json: bool, **given: Any) -> None:
    """Delete finished reservations with their tries: sent, failed, cancelled or expired ones, no others.

    By a filter it first says how many it affects, and asks.
    """
    _act(Act.DELETE, ids, given, yes=yes, as_json=as_json)


# --- by id, or by a filter ---


def _act(act: Act, ids: Sequence[UUID], given: dict[str, Any], *, yes: bool, as_json: bool) -> None:
    """Do it to ``ids``, or to all that the filter means once that was agreed to."""
    named = _named(given)
    if bool(ids) == bool(named):
        raise click.UsageError("say which: either IDs or a filter, such as --tag")
    if ids:
        _act_on_ids(act, list(dict.fromkeys(ids)), as_json=as_json)
        return
    if len(STATES[act]) > 1 and "status" not in named:
        raise click.UsageError(f"say which: by a filter, {act.value} needs --status")
    which = read_selection(given)
    bulk = _Bulk(act, which, lambda parts: DoBulk(parts.stores.reservations, parts.stores.interventions)(act, which))
    bulk.do(yes=yes, as_json=as_json)


def _named(given: dict[str, Any]) -> list[str]:
    return [name for name, value in given.items() if value is not None]


@dataclass(frozen=True, slots=True)
class _Bulk:
    """One thing to all that a filter means. ``count`` says to how many, if not ``PreviewBulk``.

    ``alone``: where nobody can be asked it is done all the same, in this version.
    """

    act: Act
    which: Selection
    deed: Callable[[Parts], Changed]
    count: Callable[[Parts], Preview] | None = None
    alone: bool = False

    def do(self, *, yes: bool, as_json: bool) -> None:
        """Do it, once that was agreed to, and tell what came of it."""
        act = self.act.value
        with opened() as parts:
            asked = agreed(act, lambda: self._count(parts), yes=yes, alone=self.alone)
            # It is done in portions: if we are killed in the middle, some are changed.
            with noted_act(parts, act, told(self.which)) as noting:
                changed = self.deed(parts)
                noting.affected = changed.changed
        _tell_changed(changed, _DONE[self.act], as_json=as_json)
        if not asked:
            warn_of_yes(act)

    def _count(self, parts: Parts) -> Preview:
        if self.count is not None:
            return self.count(parts)
        return PreviewBulk(parts.stores.reservations)(self.act, self.which)


def _act_on_ids(act: Act, ids: Sequence[UUID], *, as_json: bool) -> None:
    with opened() as parts:
        answers = do_each(parts, act, ids)
    if as_json:
        print_json([_as_document(act, answer) for answer in answers])
    else:
        for answer in answers:
            click.echo(f"{answer.reservation_id} {_as_document(act, answer)['answer']}")
    if not all(is_done(act, answer) for answer in answers):
        click.get_current_context().exit(1)


def _resolve_one(reservation_id: UUID, *, as_json: bool) -> None:
    from mailbatch.domain.errors import NotFound, StateConflict

    with opened() as parts:
        (answer,) = do_each(parts, Act.RESOLVE, [reservation_id])
    if answer.status is None:
        raise NotFound(f"no reservation {reservation_id}")
    if not is_done(Act.RESOLVE, answer):
        raise StateConflict(f"reservation {reservation_id} is {answer.status.value}, not in_doubt; nothing to resolve")
    if as_json:
        print_json({"id": reservation_id, "status": Status.SENT})
    else:
        click.echo(f"{reservation_id} sent")


# --- what came of it ---


def _as_document(act: Act, answer: ChangeResult) -> dict[str, Any]:
    """What became of one. ``status`` of a deleted one is that in which it was."""
    if act is not Act.DELETE:
        return of_answer(answer, AIMS[act], _DONE[act])
    status = answer.status.value if answer.status else None
    said = "deleted" if answer.changed else f"not deleted: it is {status}" if status else "not found"
    return {"id": answer.reservation_id, "done": answer.changed, "status": status, "answer": said}


def _tell_changed(changed: Changed, verb: str, *, as_json: bool) -> None:
    left = {status.value: n for status, n in changed.left.items()}
    if as_json:
        print_json({verb: changed.changed, "left": left})
        return
    rest = ", ".join(f"{n} {status}" for status, n in left.items())
    click.echo(f"{changed.changed} {verb}" + (f"; left alone: {rest}" if rest else ""))
