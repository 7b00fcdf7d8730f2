"""Numbers on the command line: within the range of databases and clocks."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Sequence

_MOST = 2**31 - 1


class Count(click.IntRange):
    """A count, at least one. A count above the largest number of the database means all."""

    def __init__(self) -> None:
        super().__init__(min=1)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the count."""
        return min(int(super().convert(value, param, ctx)), _MOST)


def hint_if_more(found: Sequence[Any], limit: int) -> None:
    """Print a hint if there are more than ``limit`` rows. ``found`` must have been read with a limit of one more.

    The hint goes to stderr, because programs count the lines of stdout, or read JSON there.
    """
    if len(found) > limit:
        click.echo(f"the newest {limit:,}, and there are more; --limit shows more", err=True)


class Amount(click.FloatRange):
    """A finite number in a range."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the number."""
        number = float(super().convert(value, param, ctx))
        if not math.isfinite(number):
            self.fail(f"{value} is no amount", param, ctx)
        return number
