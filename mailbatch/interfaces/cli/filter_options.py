"""The options of a filter, and the question before a command changes many reservations."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

import click

from mailbatch.application.looking.filters import FIELDS, read_filter
from mailbatch.domain.errors import InvalidReservation
from mailbatch.domain.reservation import Status

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from mailbatch.application.looking.filters import FilterField
    from mailbatch.domain.selection import Counted, Selection

yes = click.option("--yes", "-y", is_flag=True, help="Do not ask.")


def filter_options(states: Collection[Status] = tuple(Status)) -> Callable[[Any], Any]:
    """Decorate a command with the options of a filter; with ``--status`` if there are several ``states``."""
    options = [_option(field) for field in FIELDS.values() if field.type is not Status]
    if len(states) > 1:
        names = [status.value for status in Status if status in states]
        options.insert(0, _state_option(FIELDS["status"], names))

    def decorate(command: Any) -> Any:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


def _option(field: FilterField) -> Callable[[Any], Any]:
    of_type = click.UUID if field.type is UUID else None
    return click.option(f"--{field.name}", type=of_type, metavar=field.metavar, help=field.option_help)


def _state_option(field: FilterField, names: list[str]) -> Callable[[Any], Any]:
    text = field.option_help.format(states=", ".join(names))
    return click.option(f"--{field.name}", type=click.Choice(names), metavar=field.metavar, help=text)


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
