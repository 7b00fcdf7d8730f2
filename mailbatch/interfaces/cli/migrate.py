"""``mailbatch migrate``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from mailbatch.interfaces.cli.output import as_json, print_json
from mailbatch.interfaces.cli.session import opened

if TYPE_CHECKING:
    from mailbatch.config import Settings


@click.command
@click.option(
    "--to",
    "target",
    metavar="REVISION",
    help="Migrate up or down to this revision. Go down to install an earlier version.",
)
@click.option("--yes", is_flag=True, help="Do not ask before going down.")
@as_json
def migrate(*, target: str | None, yes: bool, as_json: bool) -> None:
    """Create the tables, or update them. If they are up to date, nothing changes."""
    from mailbatch.infrastructure.db import location, migrate
    from mailbatch.infrastructure.db.revision import head

    with opened(migrated=False) as parts:
        before, now = migrate.current(parts.engine), target or head()
        if now not in (known := migrate.revisions()):
            raise click.UsageError(f"there is no revision {now}; there are {', '.join(known)}")
        notes = _move(parts.settings, before, target, yes=yes)
        where = location.place(parts.engine)
        if target is None:
            migrate.ensure_whole(parts.engine)
    if as_json:
        print_json({"database": where, "before": before, "revision": now, "notes": notes})
        return
    if before == now:
        click.echo(f"{where} is at revision {now} already")
    else:
        click.echo(f"migrated {where} from {before or 'nothing'} to revision {now}")
    for note in notes:
        click.echo(f"note: {note}")


def _move(settings: Settings, before: str | None, target: str | None, *, yes: bool) -> list[str]:
    """Migrate to the revision ``target``, or to the newest; return what the user must know."""
    from mailbatch.infrastructure.db import migrate

    if target is None or not migrate.leads_down(before, target):
        return migrate.upgrade(settings.database_url, target or "head", schema=settings.database_schema)
    _agree(f"going down to {target} removes what came after it, with the data in it", yes=yes)
    return migrate.downgrade(settings.database_url, target, schema=settings.database_schema)


def _agree(what: str, *, yes: bool) -> None:
    if yes:
        return
    if not sys.stdin.isatty():
        raise click.ClickException(f"{what}, and there is nobody to ask; add --yes to do it")
    if not click.confirm(f"{what}; go on?", err=True):
        raise click.ClickException("nothing was done")
