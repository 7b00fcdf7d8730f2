"""Numbers on the command line: whatever somebody types, no database and no clock stumbles over it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Sequence

_MOST = 2**31 - 1


class Count(click.IntRange):
    """How many, at least one; more than anybody has is all."""

    def __init__(self) -> None:
        super().__init__(min=1)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Read it."""
        return min(int(super().convert(value, param, ctx)), _MOST)


def hint_if_more(found: Sequence[Any], limit: int) -> None:
    """Say on stderr that there is more than ``limit``, if that is so: ``found`` was asked for one more.

    Not on stdout: whoever counts lines, or reads JSON, counts rows.
    """
    if len(found) > limit:
        click.echo(f"the newest {limit:,}, and there are more; --limit shows more", err=True)


class Amount(click.FloatRange):
    """How much: a number of this range that is one, and ends."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Read it."""
        number = float(super().convert(value, param, ctx))
        if not math.isfinite(number):
            self.fail(f"{value} is no amount", param, ctx)
        return number
