"""``mailbatch completion``: the completion script for a shell."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

_LINES = {
    "bash": 'in ~/.bashrc: eval "$(mailbatch completion bash)"',
    "zsh": 'in ~/.zshrc: eval "$(mailbatch completion zsh)"',
    "fish": "mailbatch completion fish >~/.config/fish/completions/mailbatch.fish",
}


@click.command(epilog="\b\nExamples:\n  " + "\n  ".join(_LINES.values()))
@click.argument("shell", type=click.Choice(list(_LINES)))
def completion(shell: str) -> None:
    """Print the script by which SHELL completes commands and options."""
    from mailbatch.interfaces.cli.main import cli

    if kind := get_completion_class(shell):
        click.echo(kind(cli, {}, "mailbatch", "_MAILBATCH_COMPLETE").source())
