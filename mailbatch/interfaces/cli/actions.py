"""``mailbatch actions``: who did what."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from mailbatch.domain.rows import as_dict
from mailbatch.interfaces.cli.numbers import Count, hint_if_more
from mailbatch.interfaces.cli.output import as_json, moment, print_json, print_table
from mailbatch.interfaces.cli.session import opened

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mailbatch.domain.rows import ActionRow


@click.command
@click.option("--limit", type=Count(), default=20, show_default=True)
@as_json
def actions(*, limit: int, as_json: bool) -> None:
    """List what operators did through command line, API and console, newest first. Looking is not recorded."""
    with opened() as parts:
        rows = parts.stores.audit_log.list(limit + 1)
        zone = parts.settings.timezone
    if as_json:
        print_json([as_dict(row) for row in rows[:limit]])
    else:
        _print(rows[:limit], zone)
    hint_if_more(rows, limit)


def _print(rows: Sequence[ActionRow], zone: str) -> None:
    columns = [("WHEN", "fixed"), ("WHO", "text"), ("DID", "fixed"), ("TO", "text"), ("N", "number"), ("", "fixed")]
    print_table(columns, [_cells(row, zone) for row in rows], "nothing was done yet")


def _cells(row: ActionRow, zone: str) -> Sequence[str]:
    target = ", ".join(f"{name} {_text(value)}" for name, value in (row.target or {}).items())
    affected = "" if row.affected is None else f"{row.affected:,}"
    return [moment(row.at, zone), row.actor, row.action, target, affected, row.outcome]


def _text(value: object) -> str:
    if isinstance(value, list):
        return " ".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)
