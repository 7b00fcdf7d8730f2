"""``mailbatch migrate``."""

from __future__ import annotations

import click

from mailbatch.interfaces.cli.opening import opened
from mailbatch.interfaces.cli.output import as_json, print_json


@click.command
@as_json
def migrate(*, as_json: bool) -> None:
    """Make the tables, or bring them up to date. Harmless when they are."""
    from mailbatch.infrastructure.db import engine, migrate

    with opened(migrated=False) as parts:
        before = migrate.current(parts.engine)
        settings = parts.settings
        notes = migrate.upgrade(settings.database_url, schema=settings.database_schema)
        now, where = migrate.head(), engine.place(parts.engine)
    if as_json:
        print_json({"database": where, "before": before, "revision": now, "notes": notes})
        return
    if before == now:
        click.echo(f"{where} is at revision {now} already")
    else:
        click.echo(f"migrated {where} from {before or 'nothing'} to revision {now}")
    for note in notes:
        click.echo(f"note: {note}")
