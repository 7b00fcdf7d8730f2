"""``mailbatch grants``."""

from __future__ import annotations

import click

from mailbatch.interfaces.cli.output import as_json, clean, print_json
from mailbatch.interfaces.cli.session import opened

_DUTIES = ("reserve", "send", "operate", "read")


@click.command
@click.argument("duties", type=click.Choice(_DUTIES), nargs=-1)
@click.option("--to", "role", metavar="ROLE", help="The role that gets the privileges (default: mailbatch_DUTY).")
@as_json
def grants(*, duties: tuple[str, ...], role: str | None, as_json: bool) -> None:
    """Print the GRANTs that a role of PostgreSQL needs for each duty that you name (default: all). Nothing is changed.

    reserve: an application that only reserves. send: worker and beat. operate: `serve`, and the commands that act.
    read: the commands that look. Pipe it into psql as the owner of the tables. The roles must exist.
    """
    from mailbatch.infrastructure.db.grants import FOR, Duty, statements

    chosen = [Duty(duty) for duty in duties or _DUTIES]
    if role is not None and len(chosen) > 1:
        raise click.UsageError("--to needs one duty: reserve, send, operate or read")
    with opened() as parts:
        if parts.engine.dialect.name != "postgresql":
            raise click.ClickException(
                "SQLite has no roles: an account that may write the file and its folder may do all"
            )
        found = {duty: statements(parts.engine, duty, role or f"mailbatch_{duty}") for duty in chosen}
    if as_json:
        print_json({duty.value: lines for duty, lines in found.items()})
        return
    for duty, lines in found.items():
        click.echo(f"-- {duty}: {FOR[duty]}")
        for line in lines:
            click.echo(clean(line))
