"""``mailbatch list`` and ``mailbatch show``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from mailbatch.domain.reservation import Status
from mailbatch.interfaces.cli.numbers import Count
from mailbatch.interfaces.cli.opening import opened
from mailbatch.interfaces.cli.output import (
    WIDE,
    as_json,
    moment,
    print_fields,
    print_json,
    print_json_list,
    print_table,
    to_json,
    width,
)
from mailbatch.interfaces.cli.which import filter_options, read_selection

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from datetime import datetime
    from uuid import UUID

    from mailbatch.application.operating_ports import Row, Selection
    from mailbatch.bootstrap import Parts

_COUNTED = 100_000
"""Reservations that are counted at most to say how many more there are."""
_TROUBLED = frozenset({Status.FAILED, Status.IN_DOUBT, Status.EXPIRED})
_LISTED = (
    "id",
    "status",
    "recipients",
    "subject",
    "template",
    "last_error",
    "due_at",
    "sent_at",
    "finished_at",
    "created_at",
)


@click.command("list")
@filter_options()
@click.option("--limit", type=Count(), default=50, show_default=True)
@as_json
def list_command(*, limit: int, as_json: bool, **given: Any) -> None:
    """List reservations, newest first.

    With --status failed (or in_doubt, expired) the last error stands beside each. With --since, --until or --run
    finished ones go by when they were finished.
    """
    from mailbatch.application.inquire import ListReservations

    which = read_selection(given)
    with opened() as parts:
        listed = ListReservations(parts.reservations)
        if as_json:
            print_json_list(listed(which, limit))
            return
        rows = list(listed(which, limit + 1, _LISTED))
        _print_list(rows[:limit], parts.settings.timezone, troubled=which.status in _TROUBLED)
        if len(rows) > limit:
            # On stderr: whoever counts lines counts mails.
            click.echo(f"the newest {limit:,} of {_counted(parts, which)}; --limit shows more", err=True)


def _subject(row: Row) -> str:
    """That of a template is not known before it is rendered."""
    return row["subject"] or (f"template {row['template']}" if row["template"] else "")


def _counted(parts: Parts, which: Selection) -> str:
    many = parts.reservations.count(which, _COUNTED)
    return f"{many:,}" if many <= _COUNTED else f"more than {_COUNTED:,}"


def _print_list(rows: Iterable[Row], zone: str, *, troubled: bool) -> None:
    columns = [("ID", "fixed"), ("STATUS", "fixed"), ("WHEN", "fixed"), ("TO", "text")]
    names = ["recipients"]
    if troubled:
        del columns[1]
        columns.append(("LAST ERROR", "below"))
        names.append("last_error")
    elif width() >= WIDE:
        columns.append(("SUBJECT", "text"))
        names.append("subject")

    def cells(row: Row) -> Sequence[str]:
        when = moment(row["sent_at"] or row["finished_at"] or row["due_at"], zone)
        state = [] if troubled else [row["status"]]
        shown = {**row, "subject": _subject(row)}
        return [str(row["id"]), *state, when, *(shown[name] or "" for name in names)]

    print_table(columns, map(cells, rows), "no reservations")


@click.command
@click.argument("reservation_id", metavar="ID", type=click.UUID)
@as_json
def show(*, reservation_id: UUID, as_json: bool) -> None:
    """Show all that is known of one reservation, and its life: each try, by whom, and what the relay said."""
    from mailbatch.application.inquire import ShowReservation

    with opened() as parts:
        row, attempts = ShowReservation(parts.reservations)(reservation_id)
    if as_json:
        print_json({**row, "mail_attempts": attempts})
        return
    print_fields((name, _text(value)) for name, value in row.items())
    click.echo("\nits life:")
    columns = [("WHEN", "fixed"), ("WHAT", "fixed"), ("RUN", "fixed"), ("RELAY", "text"), ("REPLY", "whole")]
    print_table(columns, _life(row, attempts), "")


def _life(row: Row, attempts: Sequence[Row]) -> Iterator[Sequence[str]]:
    """From its reservation to the state in which it is now, one line each; who answered otherwise has a line more."""
    yield _second(row["created_at"]), "reserved", "", "", ""
    for a in attempts:
        yield _second(a["ended_at"]), a["outcome"], _run(a), a["relay"] or "", _reply(a)
        for recipient, verdict in (a["verdicts"] or {}).items():
            yield "", verdict["kind"], "", recipient, f"{verdict['code']} {verdict['text']}".strip()
    if row["status"] == Status.SENT and row["relay"] and row["sent_at"]:
        yield _second(row["sent_at"]), "accepted", _run(row), row["relay"], _reply(row)
    if row["status"] == Status.PENDING:
        yield _second(row["due_at"]), "is due (pending)", "", "", ""
    else:
        yield _second(row["finished_at"] or row["wire_at"]), f"is {row['status']}", "", "", ""


def _run(attempt: Row) -> str:
    """The run's id, as short as it is told apart, and the lane."""
    return f"…{str(attempt['run_id'])[-8:]} lane {attempt['lane']}" if attempt["run_id"] else ""


def _reply(attempt: Row) -> str:
    return f"{attempt['reply_code'] or ''} {attempt['reply_text'] or ''}".strip()


def _second(when: datetime | None) -> str:
    """A time to the second, in UTC as all times of ``show``."""
    return _text(when.replace(microsecond=0)) if when else ""


def _text(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else to_json(value, indent=None).strip('"')
