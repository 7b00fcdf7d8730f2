"""``celery -A mailbatch mailbatch …``: all our commands under Celery's command (entry point celery.commands)."""

from __future__ import annotations

import sys

import click


@click.command("mailbatch", context_settings={"ignore_unknown_options": True, "help_option_names": []})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def mailbatch(arguments: tuple[str, ...]) -> None:
    """The commands of mailbatch: reserve, list, explain, pause and the others."""
    from mailbatch.interfaces.cli.main import run

    sys.exit(run(list(arguments) or ["--help"]))
