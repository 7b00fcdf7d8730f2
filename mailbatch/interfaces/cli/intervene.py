"""``mailbatch cancel``, ``mailbatch requeue`` and ``mailbatch resolve``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from mailbatch.domain.reservation import REQUEUABLE, Status
from mailbatch.interfaces.cli.opening import opened
from mailbatch.interfaces.cli.output import as_json, print_json
from mailbatch.interfaces.documents import of_answer, said

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from uuid import UUID

    from mailbatch.application.operating_ports import Answer, Changed


@click.command
@click.argument("ids", metavar="ID...", nargs=-1, type=click.UUID)
@click.option("--tag", help="All that are pending under this tag.")
@as_json
def cancel(*, ids: tuple[UUID, ...], tag: str | None, as_json: bool) -> None:
    """Cancel reservations. What this answers as cancelled is never sent.

    Exit code 1 if one of the IDs could not be cancelled: it is too late, or there is none.
    """
    from mailbatch.application.cancel import Cancel, CancelTagged

    _one_way(ids, tag)
    with opened() as parts:
        if tag is not None:
            _tell_changed(CancelTagged(parts.interventions)(tag), "cancelled", as_json=as_json)
            return
        answers = Cancel(parts.interventions)(ids)
    _tell_answers(answers, Status.CANCELLED, as_json=as_json)


@click.command
@click.argument("ids", metavar="ID...", nargs=-1, type=click.UUID)
@click.option("--run", "run_id", type=click.UUID, help="What failed in this run and is failed still.")
@click.option("--status", type=click.Choice(sorted(s.value for s in REQUEUABLE)), help="All that are in this state.")
@as_json
def requeue(*, ids: tuple[UUID, ...], run_id: UUID | None, status: str | None, as_json: bool) -> None:
    """Send reservations back to pending, with all their attempts before them.

    From failed, in_doubt and cancelled. Recipients that accepted the mail before do not get it again; one that is in
    doubt may be a duplicate.
    """
    from mailbatch.application.requeue import Requeue, RequeueAll, RequeueRun

    _one_way(ids, run_id, status)
    with opened() as parts:
        if run_id is not None:
            changed = RequeueRun(parts.interventions, parts.reports)(run_id)
        elif status is not None:
            changed = RequeueAll(parts.interventions)(Status(status))
        else:
            _tell_answers(Requeue(parts.interventions)(ids), Status.PENDING, as_json=as_json)
            return
    _tell_changed(changed, "requeued", as_json=as_json)


@click.command
@click.argument("reservation_id", metavar="ID", type=click.UUID)
@click.option("--sent", is_flag=True, required=True, help="It did go out.")
@as_json
def resolve(*, reservation_id: UUID, sent: bool, as_json: bool) -> None:  # noqa: ARG001 - required, so always true
    """Settle a reservation that is in doubt: --sent says that it did go out.

    To send it again instead, requeue it.
    """
    from mailbatch.application.resolve import ResolveSent

    with opened() as parts:
        ResolveSent(parts.interventions)(reservation_id)
    if as_json:
        print_json({"id": reservation_id, "status": Status.SENT})
    else:
        click.echo(f"{reservation_id} sent")


def _one_way(ids: Sequence[UUID], *others: object) -> None:
    """Exactly one way to say which ones."""
    if bool(ids) + sum(other is not None for other in others) != 1:
        ways = [p.opts[-1] for p in click.get_current_context().command.params if isinstance(p, click.Option)]
        named = " or ".join(way for way in ways if way in {"--tag", "--run", "--status"})
        raise click.UsageError(f"say which: either IDs or {named}")


def _tell_changed(changed: Changed, verb: str, *, as_json: bool) -> None:
    left = {status.value: n for status, n in changed.left.items()}
    if as_json:
        print_json({verb: changed.changed, "left": left})
        return
    rest = ", ".join(f"{n} {status}" for status, n in left.items())
    click.echo(f"{changed.changed} {verb}" + (f"; left alone: {rest}" if rest else ""))


def _tell_answers(answers: Iterable[Answer], aim: Status, *, as_json: bool) -> None:
    answers = list(answers)
    if as_json:
        print_json([of_answer(answer, aim) for answer in answers])
    else:
        for answer in answers:
            click.echo(f"{answer.reservation_id} {said(answer, aim)}")
    if not all(answer.status is aim for answer in answers):
        click.get_current_context().exit(1)
