"""``mailbatch duplicates``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from mailbatch.domain.rows import as_dict
from mailbatch.interfaces.cli.numbers import Count, hint_if_more
from mailbatch.interfaces.cli.output import as_json, moment, print_json, print_table
from mailbatch.interfaces.cli.session import opened

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mailbatch.domain.rows import DuplicateRow


@click.command
@click.option("--since", default="1d", show_default=True, help="A time, or how long ago: 15m, 1h, 2d.")
@click.option("--limit", type=Count(), default=50, show_default=True)
@as_json
def duplicates(*, since: str, limit: int, as_json: bool) -> None:
    """List who may have got a mail twice.

    Such a mail was sent once without a verdict (a crash, a lost reply), and then again. Both have the same Message-ID:
    the log of the relay shows whether there were two.
    """
    from datetime import UTC, datetime

    from mailbatch.application.looking.filters import read_moment
    from mailbatch.domain.errors import InvalidReservation

    try:
        when = read_moment("--since", since, datetime.now(UTC))
    except InvalidReservation as error:
        raise click.UsageError(str(error)) from error
    with opened() as parts:
        rows = parts.stores.duplicates.resent(when, limit + 1)
        zone = parts.settings.timezone
    if as_json:
        print_json([as_dict(row) for row in rows[:limit]])
    else:
        _print(rows[:limit], f"nobody, since {moment(when, zone)}", zone)
    hint_if_more(rows, limit)


def _print(rows: Sequence[DuplicateRow], nobody: str, zone: str) -> None:
    columns = [("ID", "fixed"), ("DOUBT", "fixed"), ("SENT", "fixed"), ("TO", "text"), ("MESSAGE-ID", "whole")]
    print_table(columns, [_cells(row, zone) for row in rows], nobody)


def _cells(row: DuplicateRow, zone: str) -> list[str]:
    times = moment(row.doubt_at, zone), moment(row.sent_at, zone)
    return [str(row.reservation_id), *times, row.recipients, row.message_id or ""]
