"""``mailbatch config``: shows the settings and their sources, or checks them."""

from __future__ import annotations

import click

from mailbatch.interfaces.cli.output import as_json, print_json, print_table
from mailbatch.interfaces.cli.session import name_slips
from mailbatch.interfaces.cli.suggesting import SuggestingGroup


@click.group(cls=SuggestingGroup)
def config() -> None:
    """Show the settings, or check them. Secrets are masked."""


@config.command(epilog="\b\nExample:\n  mailbatch config show --json")
@as_json
def show(*, as_json: bool) -> None:
    """Show every setting, its value and where it comes from."""
    from mailbatch.bootstrap import read_settings
    from mailbatch.config import shown

    name_slips()
    settings = shown(read_settings())
    if as_json:
        print_json([{"name": s.name, "value": s.value, "source": s.source} for s in settings])
        return
    columns = [("SETTING", "fixed"), ("VALUE", "text"), ("FROM", "fixed")]
    print_table(columns, [(s.name, "–" if s.value is None else s.value, s.source) for s in settings], "")


@config.command(epilog="\b\nExample:\n  mailbatch config check && systemctl restart mailbatch")
def check() -> None:
    """Check the settings, without connecting to anything. `mailbatch doctor` also connects."""
    from mailbatch.bootstrap import read_settings
    from mailbatch.config import shown, unknown_variables

    given = sum(s.source == "environment" for s in shown(read_settings()))
    if slips := unknown_variables():
        raise click.ClickException("; ".join(slips))
    click.echo(f"the settings are in order: {given} from the environment, the others by default")
