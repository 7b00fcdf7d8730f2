"""``mailbatch purge``."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import click

from mailbatch.interfaces.cli.cli_audit import noted_act
from mailbatch.interfaces.cli.filter_options import agreed, warn_of_yes, yes
from mailbatch.interfaces.cli.numbers import Amount
from mailbatch.interfaces.cli.output import as_json, print_json
from mailbatch.interfaces.cli.session import opened

if TYPE_CHECKING:
    from mailbatch.application.acting.bulk import Preview
    from mailbatch.bootstrap import Parts

_DAY = 86_400.0


@click.command
@click.option(
    "--older-than",
    metavar="DAYS",
    type=Amount(min=0),
    help="Days since they were finished, in place of MAILBATCH_RETENTION_DAYS.",
)
@yes
@as_json
def purge(*, older_than: float | None, yes: bool, as_json: bool) -> None:
    """Delete finished reservations that are old: sent, failed, cancelled or expired, nothing else.

    With --older-than it first says how many it affects, and asks.
    """
    from mailbatch.application.acting.purge import Purge

    with opened() as parts:
        days = parts.settings.retention_days if older_than is None else older_than
        if older_than is None and not days:
            raise click.ClickException(
                "MAILBATCH_RETENTION_DAYS is 0, which keeps everything; set it or give --older-than"
            )
        asked = older_than is None or agreed("purge", lambda: _count(parts, days), yes=yes, alone=True)
        with noted_act(parts, "purge", {"older_than_days": days}) as noting:
            noting.affected = deleted = Purge(interventions=parts.stores.interventions)(days * _DAY)
    if as_json:
        print_json({"deleted": deleted})
    else:
        click.echo(f"{deleted} deleted")
    if not asked:
        warn_of_yes("purge")


def _count(parts: Parts, days: float) -> Preview:
    """How many are so old; those of each state are counted by themselves."""
    from mailbatch.application.acting.bulk import Act, Preview, PreviewBulk
    from mailbatch.domain.reservation import EARLIEST, FINISHED
    from mailbatch.domain.selection import Selection

    now = datetime.now(UTC)
    until = now - timedelta(days=days) if days < (now - EARLIEST).days else EARLIEST
    preview = PreviewBulk(parts.stores.reservations)
    found = [preview(Act.DELETE, Selection(status=status, until=until)) for status in sorted(FINISHED)]
    return Preview(sum(one.affects for one in found), exact=all(one.exact for one in found))
