"""``mailbatch purge``."""

from __future__ import annotations

import click

from mailbatch.interfaces.cli.acting import noted_act
from mailbatch.interfaces.cli.numbers import Amount
from mailbatch.interfaces.cli.opening import opened
from mailbatch.interfaces.cli.output import as_json, print_json

_DAY = 86_400.0


@click.command
@click.option(
    "--older-than",
    metavar="DAYS",
    type=Amount(min=0),
    help="Days since they were finished, in place of MAILBATCH_RETENTION_DAYS.",
)
@as_json
def purge(*, older_than: float | None, as_json: bool) -> None:
    """Delete finished reservations that are old: sent, failed, cancelled or expired, nothing else."""
    from mailbatch.application.purge import Purge

    with opened() as parts:
        days = parts.settings.retention_days if older_than is None else older_than
        if older_than is None and not days:
            raise click.ClickException(
                "MAILBATCH_RETENTION_DAYS is 0, which keeps everything; set it or give --older-than"
            )
        with noted_act(parts, "purge", {"older_than_days": days}) as noting:
            noting.affected = deleted = Purge(interventions=parts.interventions)(days * _DAY)
    if as_json:
        print_json({"deleted": deleted})
    else:
        click.echo(f"{deleted} deleted")
