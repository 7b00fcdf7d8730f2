"""Opens the parts of a command, and closes them at its end."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mailbatch.bootstrap import Parts


@contextmanager
def opened(*, migrated: bool = True, slips: bool = True) -> Iterator[Parts]:
    """Yield the parts for the settings of the environment; ``migrated``: check first that the tables are up to date.

    ``slips=False``: the command names misspelt variables itself.
    Raises ``SettingsError``, ``StoreError`` and ``NotMigrated``.
    """
    from mailbatch.bootstrap import Parts, read_settings

    if slips:
        name_slips()
    parts = Parts(read_settings())
    try:
        if migrated:
            parts.ensure_migrated()
        yield parts
    finally:
        parts.close()


def name_slips() -> None:
    """Name on stderr each variable that is probably a misspelt setting."""
    from mailbatch.config import unknown_variables

    for line in unknown_variables():
        click.echo(f"mailbatch: {line}", err=True)
