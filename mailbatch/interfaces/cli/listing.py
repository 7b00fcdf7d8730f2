"""``mailbatch list`` and ``mailbatch show``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from mailbatch.domain.reservation import Status
from mailbatch.interfaces.cli.opening import opened
from mailbatch.interfaces.cli.output import (
    as_json,
    moment,
    print_fields,
    print_json,
    print_json_list,
    print_table,
    to_json,
    width,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from uuid import UUID

    from mailbatch.application.operating_ports import Row

_WIDE = 110
"""From this many characters on a list has room for the subjects."""
_TROUBLED = frozenset({Status.FAILED, Status.IN_DOUBT, Status.EXPIRED})
_LISTED = ("id", "status", "recipients", "subject", "last_error", "due_at", "sent_at", "finished_at", "created_at")


@click.command("list")
@click.option("--status", type=click.Choice([s.value for s in Status]))
@click.option("--tag", help="Only those with this tag.")
@click.option("--to", help="Only those whose recipients contain this.")
@click.option("--limit", type=click.IntRange(min=1), default=50, show_default=True)
@as_json
def list_command(*, status: str | None, tag: str | None, to: str | None, limit: int, as_json: bool) -> None:
    """List reservations, newest first.

    With --status failed (or in_doubt, expired) the last error stands beside each.
    """
    from mailbatch.application.inquire import ListReservations
    from mailbatch.application.operating_ports import Selection

    which = Selection(status=Status(status) if status else None, tag=tag, to=to)
    with opened() as parts:
        listed = ListReservations(parts.reservations)
        if as_json:
            print_json_list(listed(which, limit))
            return
        _print_list(listed(which, limit, _LISTED), parts.settings.timezone, troubled=which.status in _TROUBLED)


def _print_list(rows: Iterable[Row], zone: str, *, troubled: bool) -> None:
    columns = [("ID", "fixed"), ("STATUS", "fixed"), ("WHEN", "fixed"), ("TO", "text")]
    names = ["recipients"]
    if troubled:
        del columns[1]
        columns.append(("LAST ERROR", "text"))
        names.append("last_error")
    elif width() >= _WIDE:
        columns.append(("SUBJECT", "text"))
        names.append("subject")

    def cells(row: Row) -> Sequence[str]:
        when = moment(row["sent_at"] or row["finished_at"] or row["due_at"], zone)
        state = [] if troubled else [row["status"]]
        return [str(row["id"]), *state, when, *(row[name] or "" for name in names)]

    print_table(columns, map(cells, rows), "no reservations")


@click.command
@click.argument("reservation_id", metavar="ID", type=click.UUID)
@as_json
def show(*, reservation_id: UUID, as_json: bool) -> None:
    """Show all that is known of one reservation, and each try that was not accepted."""
    from mailbatch.application.inquire import ShowReservation

    with opened() as parts:
        row, attempts = ShowReservation(parts.reservations)(reservation_id)
    if as_json:
        print_json({**row, "mail_attempts": attempts})
        return
    print_fields((name, _text(value)) for name, value in row.items())
    if attempts:
        click.echo("\ntries that were not accepted:")
        rows = [[_text(a["ended_at"]), a["outcome"], a["relay"] or "", _reply(a)] for a in attempts]
        print_table([("ENDED", "fixed"), ("OUTCOME", "fixed"), ("RELAY", "text"), ("REPLY", "text")], rows, "")


def _reply(attempt: Row) -> str:
    return " ".join(_texts(attempt["reply_code"], attempt["reply_text"]))


def _texts(*values: Any) -> Iterator[str]:
    return (_text(value) for value in values if value)


def _text(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else to_json(value, indent=None).strip('"')
