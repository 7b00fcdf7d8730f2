"""``mailbatch healthcheck``: whether the worker or beat beside it is alive. It is for probes, so it is fast."""

from __future__ import annotations

import os
from pathlib import Path

import click

from mailbatch.infrastructure.system.heartbeat import age
from mailbatch.interfaces.cli.numbers import Amount
from mailbatch.interfaces.cli.session import name_slips

VARIABLE = "MAILBATCH_HEARTBEAT_FILE"


@click.command
@click.option(
    "--within",
    type=Amount(min=0, min_open=True),
    default=60.0,
    show_default=True,
    metavar="SECONDS",
    help="The longest time without a sign of life.",
)
def healthcheck(*, within: float) -> None:
    """Exit 0 if the worker (or beat) of this container lives, 1 if not.

    It reads the file that MAILBATCH_HEARTBEAT_FILE names, and does not ask Redis or the database: a worker survives
    their outages, and a restart would not help.
    """
    # Only the environment is read: probes come often, and reading all settings costs more than the probe.
    named = os.environ.get(VARIABLE)
    if not named:
        name_slips()
        raise click.UsageError(f"{VARIABLE} names no file; set it for the worker and for this command alike")
    seconds = age(Path(named))
    if seconds is None:
        raise click.ClickException(f"no heartbeat: there is no {named}")
    if seconds > within:
        raise click.ClickException(f"no heartbeat for {seconds:.0f} s ({named})")
    click.echo(f"alive, {seconds:.0f} s ago")
