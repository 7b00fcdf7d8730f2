"""``mailbatch cancel``, ``requeue``, ``restore``, ``resolve`` and ``delete``: by id, or all that a filter selects."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from mailbatch.domain.act import FROM, Act, is_done
from mailbatch.domain.reservation import Status
from mailbatch.domain.selection import ErrorsOf, Tagged
from mailbatch.interfaces.cli.caller import actor
from mailbatch.interfaces.cli.filter_options import agreed, filter_options, read_selection, warn_of_yes, yes
from mailbatch.interfaces.cli.output import as_json, print_json
from mailbatch.interfaces.cli.session import opened
from mailbatch.interfaces.documents import VERBS, of_result, result_text

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from mailbatch.domain.change import Changed
    from mailbatch.domain.selection import Scope

_UNASKED = {(Act.CANCEL, "tag"), (Act.REQUEUE, "run"), (Act.REQUEUE, "status")}
"""Acts by a single filter option that are still done, with a warning, if there is no terminal to ask on."""
_ids = click.argument("ids", metavar="[ID]...", nargs=-1, type=click.UUID)


@click.command
@_ids
@filter_options(FROM[Act.CANCEL])
@yes
@as_json
def cancel(*, ids: tuple[UUID, ...], yes: bool, as_json: bool, **given: Any) -> None:
    """Cancel reservations. A reservation that is reported as cancelled is never sent.

    Exit code 1 if one of the IDs could not be cancelled: it is too late, or it does not exist. With a filter the
    command first shows how many reservations it affects, and asks.
    """
    _act(Act.CANCEL, ids, given, yes=yes, as_json=as_json)


@click.command
@_ids
@filter_options(FROM[Act.REQUEUE])
@yes
@as_json
def requeue(*, ids: tuple[UUID, ...], yes: bool, as_json: bool, **given: Any) -> None:
    """Send failed, in_doubt or cancelled reservations again: they become pending, and their attempts count from 0.

    Recipients that accepted the mail do not get it again. A mail in doubt may become a duplicate. --run alone means the
    mails that failed in that run. With a filter the command first shows how many reservations it affects, and asks.
    """
    _act(Act.REQUEUE, ids, given, yes=yes, as_json=as_json)


@click.command
@_ids
@filter_options(FROM[Act.RESTORE])
@yes
@as_json
def restore(*, ids: tuple[UUID, ...], yes: bool, as_json: bool, **given: Any) -> None:
    """Undo a cancellation: from cancelled to pending. A mail that is not due yet keeps its time.

    With a filter the command first shows how many reservations it affects, and asks.
    """
    _act(Act.RESTORE, ids, given, yes=yes, as_json=as_json)


@click.command
@_ids
@click.option("--sent", is_flag=True, required=True, help="It was sent.")
@filter_options(FROM[Act.RESOLVE])
@yes
@as_json
def resolve(*, ids: tuple[UUID, ...], sent: bool, yes: bool, as_json: bool, **given: Any) -> None:  # noqa: ARG001 - required, so always true
    """Mark reservations in doubt as sent, if the recipient or the relay's log says that they were sent.

    To send them again instead, requeue them. With a filter the command first shows how many reservations it affects,
    and asks.
    """
    if len(ids) != 1 or any(value is not None for value in given.values()):
        _act(Act.RESOLVE, ids, given, yes=yes, as_json=as_json)
        return
    _resolve_one(ids[0], as_json=as_json)


@click.command
@_ids
@filter_options(FROM[Act.DELETE])
@yes
@as_json
def delete(*, ids: tuple[UUID, ...], yes: bool, as_json: bool, **given: Any) -> None:
    """Delete finished reservations with their attempts: sent, failed, cancelled or expired ones, no others.

    With a filter the command first shows how many reservations it affects, and asks.
    """
    _act(Act.DELETE, ids, given, yes=yes, as_json=as_json)


# --- by id, or by a filter ---


def _act(act: Act, ids: Sequence[UUID], given: dict[str, Any], *, yes: bool, as_json: bool) -> None:
    """Act on ``ids``, or, after a question, on all reservations that the filter selects."""
    named = [name for name, value in given.items() if value is not None]
    if bool(ids) == bool(named):
        raise click.UsageError("say which: either IDs or a filter, such as --tag")
    if ids:
        _act_on_ids(act, list(dict.fromkeys(ids)), as_json=as_json)
        return
    unasked = len(named) == 1 and (act, named[0]) in _UNASKED
    _act_on_all(act, _scope(act, named, given), yes=yes, unasked=unasked, as_json=as_json)


def _scope(act: Act, named: Sequence[str], given: dict[str, Any]) -> Scope:
    if len(FROM[act]) > 1 and "status" not in named and (act, named) != (Act.REQUEUE, ["run"]):
        raise click.UsageError(f"say which: by a filter, {act.value} needs --status")
    which = read_selection(given)
    match act, named:
        case Act.CANCEL, ["tag"]:
            return Tagged(given["tag"])
        case Act.REQUEUE, ["run"]:
            return ErrorsOf(given["run"])
    return which


def _act_on_all(act: Act, scope: Scope, *, yes: bool, unasked: bool, as_json: bool) -> None:
    with opened() as parts:
        asked = agreed(act.value, lambda: parts.acting.act.count(act, scope), yes=yes, alone=unasked)
        changed = parts.acting.act.on_all(actor(), act, scope)
    _print_changed(changed, VERBS[act], as_json=as_json)
    if not asked:
        warn_of_yes(act.value)


def _act_on_ids(act: Act, ids: Sequence[UUID], *, as_json: bool) -> None:
    with opened() as parts:
        results = parts.acting.act.on_ids(actor(), act, ids)
    if as_json:
        print_json([of_result(act, result) for result in results])
    else:
        for result in results:
            click.echo(f"{result.reservation_id} {result_text(act, result)}")
    if not all(is_done(act, result) for result in results):
        click.get_current_context().exit(1)


def _resolve_one(reservation_id: UUID, *, as_json: bool) -> None:
    from mailbatch.domain.errors import StateConflict

    with opened() as parts:
        result, status = parts.acting.act.on_one(actor(), Act.RESOLVE, reservation_id)
    if not is_done(Act.RESOLVE, result):
        raise StateConflict(f"reservation {reservation_id} is {status.value}, not in_doubt; nothing to resolve")
    if as_json:
        print_json({"id": reservation_id, "status": Status.SENT})
    else:
        click.echo(f"{reservation_id} sent")


def _print_changed(changed: Changed, verb: str, *, as_json: bool) -> None:
    left = {status.value: n for status, n in changed.left.items()}
    if as_json:
        print_json({verb: changed.changed, "left": left})
        return
    rest = ", ".join(f"{n} {status}" for status, n in left.items())
    click.echo(f"{changed.changed} {verb}" + (f"; left alone: {rest}" if rest else ""))
