"""Which reservations a command means: the options of a filter, and the question before many are changed."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from mailbatch.application.looking.filters import FIELDS, read_filter
from mailbatch.domain.errors import InvalidReservation
from mailbatch.domain.reservation import Status

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from mailbatch.domain.selection import Counted, Selection

yes = click.option("--yes", "-y", is_flag=True, help="Do not ask, whatever the filter means.")


def filter_options(states: Collection[Status] = tuple(Status)) -> Callable[[Any], Any]:
    """Decorate a command with the options of a filter; ``--status`` only where there is a choice of ``states``."""
    options = [
        click.option("--tag", help="Only those with this tag."),
        click.option("--to", metavar="TEXT", help="Only those whose recipients contain this."),
        click.option("--since", metavar="TIME", help="Finished since then, or made if not finished: 1h, or ISO 8601."),
        click.option("--until", metavar="TIME", help="Before then, as --since."),
        click.option("--reply", metavar="CODE", help="What the relay said last: 4xx, 5xx, 550, or none."),
        click.option("--run", type=click.UUID, metavar="RUN", help="What this run had in hand last, or put off."),
    ]
    if len(states) > 1:
        names = [status.value for status in Status if status in states]
        told = f"Only those in this state: {', '.join(names)}."
        options.insert(0, click.option("--status", type=click.Choice(names), metavar="STATE", help=told))

    def decorate(command: Any) -> Any:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


def read_selection(given: dict[str, Any]) -> Selection:
    """What the options mean, times counted back from now.

    Raises:
        click.UsageError: with a line for what is wrong. An empty value is: a variable of a script that was not set
            must not widen a filter.
    """
    asked = {name: str(given[name]) for name in FIELDS if given.get(name) is not None}
    if empty := [f"--{name}" for name, text in asked.items() if not text.strip()]:
        raise click.UsageError(f"{' and '.join(empty)}: nothing is given")
    try:
        return read_filter(asked, datetime.now(UTC))
    except InvalidReservation as error:
        raise click.UsageError("; ".join(f"--{problem}" for problem in error.problems)) from error


def agreed(act: str, count: Callable[[], Counted], *, yes: bool, alone: bool = False) -> bool:
    """Whether ``act`` shall be done to all that ``count`` finds: it was said by --yes, or is now.

    ``alone``: it may still be done where there is nobody to ask, as it was in earlier versions. Returns false then:
    the caller does it, and says by ``warn_of_yes`` that this will end.

    Raises:
        click.ClickException: if it was declined, or if there is nobody to ask.
    """
    if yes:
        return True
    if alone and not sys.stdin.isatty():
        return False
    found = count()
    if found.exact and not found.many:
        return True
    many = f"{act} affects {found.many:,}{'' if found.exact else ' or more'}"
    many += " reservation" if found.many == 1 else " reservations"
    if not sys.stdin.isatty():
        raise click.ClickException(f"{many}, and there is nobody to ask; add --yes to do it")
    if not click.confirm(f"{many}; go on?", err=True):
        raise click.ClickException("nothing was done")
    return True


def warn_of_yes(act: str) -> None:
    """Say that the next version refuses what has just been done, because nobody could be asked."""
    click.echo(
        f"mailbatch: warning: without a terminal the next version refuses to {act} by a filter unless it has --yes; "
        "add --yes now",
        err=True,
    )
