"""The options of a filter, and the question before a command changes many reservations."""

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

yes = click.option("--yes", "-y", is_flag=True, help="Do not ask.")


def filter_options(states: Collection[Status] = tuple(Status)) -> Callable[[Any], Any]:
    """Decorate a command with the options of a filter; with ``--status`` if there are several ``states``."""
    options = [
        click.option("--tag", help="Only those with this tag."),
        click.option("--to", metavar="TEXT", help="Only those whose recipients contain this."),
        click.option(
            "--since",
            metavar="TIME",
            help="Only those finished since then, or created if not finished: 1h, or ISO 8601.",
        ),
        click.option("--until", metavar="TIME", help="Only those before then, as --since."),
        click.option("--reply", metavar="CODE", help="Only those whose last reply was 4xx, 5xx, 550, or none."),
        click.option(
            "--run", type=click.UUID, metavar="RUN", help="Only those that this run handled last, or deferred."
        ),
    ]
    if len(states) > 1:
        names = [status.value for status in Status if status in states]
        text = f"Only those in one of these states: {', '.join(names)}."
        options.insert(0, click.option("--status", type=click.Choice(names), metavar="STATE", help=text))

    def decorate(command: Any) -> Any:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


def read_selection(given: dict[str, Any]) -> Selection:
    """Return the filter that the options mean; times count back from now.

    Raises:
        click.UsageError: with one line. Also for an empty value: a variable that is not set in a script must not
            widen a filter.
    """
    asked = {name: str(given[name]) for name in FIELDS if given.get(name) is not None}
    if empty := [f"--{name}" for name, text in asked.items() if not text.strip()]:
        raise click.UsageError(f"{' and '.join(empty)}: nothing is given")
    try:
        return read_filter(asked, datetime.now(UTC))
    except InvalidReservation as error:
        raise click.UsageError("; ".join(f"--{problem}" for problem in error.problems)) from error


def agreed(act: str, count: Callable[[], Counted], *, yes: bool, alone: bool = False) -> bool:
    """Ask before ``act`` changes all that ``count`` finds. Return true if --yes or the user agreed.

    ``alone``: without a terminal the act is still done, as in earlier versions. Then this returns false, and the caller
    warns with ``warn_of_yes``.

    Raises:
        click.ClickException: if the user declined, or if there is no terminal.
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
    """Warn that the next version refuses what was just done, because it could not ask."""
    click.echo(
        f"mailbatch: warning: without a terminal the next version refuses to {act} by a filter unless it has --yes; "
        "add --yes now",
        err=True,
    )
