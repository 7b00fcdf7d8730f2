"""A group of commands that suggests the nearest name for an unknown command."""

from __future__ import annotations

import difflib

import click


class SuggestingGroup(click.Group):
    """Suggests the nearest command if the given name is unknown."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that ``args`` begin with. Raises ``click.UsageError`` with a suggestion."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            given = args[0]
            names = self.list_commands(ctx)
            near = [] if given.startswith("-") else difflib.get_close_matches(_plain(given), names, n=1)
            if not near:
                raise
            raise click.UsageError(f"No such command '{given}'. Did you mean {near[0]}?", ctx) from error


def _plain(name: str) -> str:
    return name.lower().replace("_", "-")
