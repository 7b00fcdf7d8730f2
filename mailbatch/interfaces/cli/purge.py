"""``mailbatch purge``."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import click

from mailbatch.interfaces.cli.caller import actor
from mailbatch.interfaces.cli.filter_options import agreed, warn_of_yes, yes
from mailbatch.interfaces.cli.numbers import Amount
from mailbatch.interfaces.cli.output import as_json, print_json
from mailbatch.interfaces.cli.session import opened

if TYPE_CHECKING:
    from mailbatch.application.acting.act import ActOnReservations
    from mailbatch.domain.selection import Counted

_DAY = 86_400.0


@click.command
@click.option(
    "--older-than",
    metavar="DAYS",
    type=Amount(min=0),
    help="Days since a reservation ended, in place of MAILBATCH_RETENTION_DAYS.",
)
@yes
@as_json
def purge(*, older_than: float | None, yes: bool, as_json: bool) -> None:
    """Delete old finished reservations: sent, failed, cancelled or expired ones, no others.

    With --older-than the command first shows how many reservations it affects, and asks.
    """
    with opened() as parts:
        days = parts.settings.retention_days if older_than is None else older_than
        if older_than is None and not days:
            raise click.ClickException(
                "MAILBATCH_RETENTION_DAYS is 0, which keeps everything; set it or give --older-than"
            )
        asked = older_than is None or agreed("purge", lambda: _count(parts.acting.act, days), yes=yes, alone=True)
        with parts.acting.audit.around(actor(), "purge", {"older_than_days": days}) as entry:
            entry.affected = deleted = parts.acting.purge(days * _DAY)
    if as_json:
        print_json({"deleted": deleted})
    else:
        click.echo(f"{deleted} deleted")
    if not asked:
        warn_of_yes("purge")


def _count(act: ActOnReservations, days: float) -> Counted:
    """Count the finished reservations that ended at least so many days ago, state by state."""
    from mailbatch.domain.act import Act
    from mailbatch.domain.limits import EARLIEST
    from mailbatch.domain.reservation import FINISHED
    from mailbatch.domain.selection import Counted, Selection

    now = datetime.now(UTC)
    until = now - timedelta(days=days) if days < (now - EARLIEST).days else EARLIEST
    found = [act.count(Act.DELETE, Selection(status=status, until=until)) for status in sorted(FINISHED)]
    return Counted(sum(one.many for one in found), exact=all(one.exact for one in found))
