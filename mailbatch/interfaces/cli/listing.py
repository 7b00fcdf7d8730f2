"""``mailbatch list`` and ``mailbatch show``."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any

import click

from mailbatch.application.ports.stores import PATIENCE
from mailbatch.domain.content import size_of
from mailbatch.domain.reservation import Status
from mailbatch.domain.rows import ReservationPlace, ReservationRow, ReservationSummary
from mailbatch.interfaces.cli.filter_options import filter_options, read_selection
from mailbatch.interfaces.cli.numbers import Count
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
from mailbatch.interfaces.cli.session import opened
from mailbatch.interfaces.documents import of_reservation, of_row

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from datetime import datetime
    from uuid import UUID

    from mailbatch.application.ports.stores import Reservations
    from mailbatch.domain.rows import AttemptRow
    from mailbatch.domain.selection import Selection

_COUNTED, _COUNTED_WITHIN = 10_000, 0.2
"""The limits for counting how many more there are: reservations, and seconds."""
_TROUBLED = frozenset({Status.FAILED, Status.IN_DOUBT, Status.EXPIRED})


@click.command("list")
@filter_options()
@click.option("--limit", type=Count(), default=50, show_default=True)
@click.option("--whole", is_flag=True, help="Look through all there are, however long that takes; --json always does.")
@as_json
def list_command(*, limit: int, whole: bool, as_json: bool, **given: Any) -> None:
    """List reservations, newest first.

    With --status failed (or in_doubt, expired) each has its last error. With --since, --until or --run finished ones
    are sorted by their end. A filter without an index, such as --to, is searched for about a second; the last line
    then shows how far back the search came.
    """
    which = read_selection(given)
    with opened() as parts:
        if as_json:
            every = parts.operating.list_reservations(which, limit + 1, ReservationRow)
            print_json_list(of_row(row) for row in islice(every, limit))
            if next(every, None) is not None:
                _hint_of_more(parts.stores.reservations, which, limit)
            return
        found = parts.stores.reservations.search(
            which, ReservationSummary, None, limit + 1, None if whole else PATIENCE
        )
        rows = found.rows
        _print_list(rows[:limit], parts.settings.timezone, troubled=which.status in _TROUBLED, so_far=found.further)
        if found.further:
            back = moment(found.further.created_at, parts.settings.timezone)
            click.echo(f"looked back as far as {back}; --whole looks through all, --since no further", err=True)
        elif len(rows) > limit:
            _hint_of_more(parts.stores.reservations, which, limit)


def _hint_of_more(reservations: Reservations, which: Selection, limit: int) -> None:
    # On stderr, so that the lines of stdout can be counted.
    click.echo(f"the newest {limit:,} of {_counted(reservations, which)}; --limit shows more", err=True)


def _counted(reservations: Reservations, which: Selection) -> str:
    counted = reservations.estimate(which, _COUNTED, _COUNTED_WITHIN)
    return f"{counted.many:,}" if counted.exact else f"more than {min(counted.many, _COUNTED):,}"


def _print_list(
    rows: Iterable[ReservationSummary], zone: str, *, troubled: bool, so_far: ReservationPlace | None
) -> None:
    columns = [("ID", "fixed"), ("STATUS", "fixed"), ("WHEN", "fixed"), ("TO", "text")]
    names = ["recipients"]
    if troubled:
        del columns[1]
        columns.append(("LAST ERROR", "below"))
        names.append("last_error")
    elif width() >= WIDE:
        columns.append(("SUBJECT", "text"))
        names.append("shown_subject")

    def cells(row: ReservationSummary) -> Sequence[str]:
        when = moment(row.sent_at or row.finished_at or row.due_at, zone)
        state = [] if troubled else [row.status]
        return [str(row.id), *state, when, *(getattr(row, name) or "" for name in names)]

    print_table(columns, map(cells, rows), "no reservations so far" if so_far else "no reservations")


@click.command
@click.argument("reservation_id", metavar="ID", type=click.UUID)
@as_json
def show(*, reservation_id: UUID, as_json: bool) -> None:
    """Show one reservation with all its attempts: by which run and lane, and what the relay said."""
    with opened() as parts:
        row, attempts = parts.operating.show_reservation(reservation_id)
        carried = parts.operating.show_carried(row, row.id)
        # Here, because the beginning of a finished message is read from the database when its subject is shown.
        if as_json:
            print_json(of_reservation(row, attempts, carried))
            return
        values = of_row(row) | {
            "attachments": "\n".join(carried.lines),
            "message": "" if row.message is None else f"a finished message of {size_of(row.message)} bytes",
            "language": carried.language if carried.served_in else None,
            "returns_to": carried.returns_to,
        }
    print_fields((name, _text(value)) for name, value in values.items())
    click.echo("\nits life:")
    columns = [("WHEN", "fixed"), ("WHAT", "fixed"), ("RUN", "fixed"), ("RELAY", "text"), ("REPLY", "whole")]
    print_table(columns, _life(row, attempts), "")


def _life(row: ReservationRow, attempts: Sequence[AttemptRow]) -> Iterator[Sequence[str]]:
    """Yield a line for each event from the reservation to its present state, and one for each different reply."""
    yield _second(row.created_at), "reserved", "", "", ""
    for a in attempts:
        yield _second(a.ended_at), a.outcome, _run(a), a.relay or "", _reply(a)
        for recipient, verdict in (a.verdicts or {}).items():
            yield "", verdict["kind"], "", recipient, f"{verdict['code']} {verdict['text']}".strip()
    if row.status == Status.SENT and row.relay and row.sent_at:
        yield _second(row.sent_at), "accepted", _run(row), row.relay, _reply(row)
    if row.status == Status.PENDING:
        yield _second(row.due_at), "is due (pending)", "", "", ""
    else:
        yield _second(row.finished_at or row.wire_at), f"is {row.status}", "", "", ""


def _run(attempt: AttemptRow | ReservationRow) -> str:
    """Return the shortened id of the run, and the lane."""
    return f"…{str(attempt.run_id)[-8:]} lane {attempt.lane}" if attempt.run_id else ""


def _reply(attempt: AttemptRow | ReservationRow) -> str:
    return f"{attempt.reply_code or ''} {attempt.reply_text or ''}".strip()


def _second(when: datetime | None) -> str:
    """Return a time to the second, in UTC as all times of ``show``."""
    return _text(when.replace(microsecond=0)) if when else ""


def _text(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else to_json(value, indent=None).strip('"')
