"""``mailbatch block`` and ``unblock``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from mailbatch.interfaces.cli.caller import actor
from mailbatch.interfaces.cli.output import as_json, clean, moment, print_json, print_table
from mailbatch.interfaces.cli.session import opened
from mailbatch.interfaces.documents import of_block

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mailbatch.domain.rows import BlockRow


@click.command
@click.argument("tag", required=False)
@click.option("--note", help="Why: operators see it beside the tag.")
@as_json
def block(*, tag: str | None, note: str | None, as_json: bool) -> None:
    """Hold back all mails of TAG until `mailbatch unblock TAG`, also those that are reserved later.

    A run in progress holds them back within a second. Without TAG: list the blocked tags, and how many mails runs have
    held back.
    """
    if tag is None and note is not None:
        raise click.UsageError("--note needs a TAG")
    with opened() as parts:
        new = parts.acting.block_tag.block(actor(), tag, note) if tag is not None else False
        found = [row for row in parts.stores.blocks.all() if tag in {None, row.tag}]
        zone = parts.settings.timezone
    if as_json:
        print_json([of_block(row) for row in found])
    elif tag is None:
        _print(found, zone)
    else:
        ends = f"`mailbatch unblock {tag}` ends it"
        click.echo(clean(f"{'blocked' if new else 'it was blocked already'}: {tag}; {ends}"))


@click.command
@click.argument("tag")
@as_json
def unblock(*, tag: str, as_json: bool) -> None:
    """Let the mails of TAG go again. The run in progress or the next one sends what waited."""
    with opened() as parts:
        lifted = parts.acting.block_tag.lift(actor(), tag)
    if as_json:
        print_json({"tag": tag, "unblocked": lifted})
    else:
        click.echo(clean(f"unblocked: {tag}" if lifted else f"it was not blocked: {tag}"))


def _print(rows: Sequence[BlockRow], zone: str) -> None:
    columns = [("TAG", "text"), ("SINCE", "fixed"), ("BY", "text"), ("HELD BACK", "number"), ("NOTE", "text")]
    cells = [[row.tag, moment(row.since, zone), row.by, str(row.waiting), row.note or ""] for row in rows]
    print_table(columns, cells, "no tag is blocked")
