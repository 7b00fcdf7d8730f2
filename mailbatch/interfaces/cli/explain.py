"""``mailbatch explain``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from mailbatch.interfaces.cli.opening import opened
from mailbatch.interfaces.cli.output import as_json, clean, print_fields, print_json, to_json

if TYPE_CHECKING:
    from uuid import UUID


@click.command
@click.argument("reservation_id", metavar="ID", type=click.UUID)
@as_json
def explain(*, reservation_id: UUID, as_json: bool) -> None:
    """Say why a reservation has not gone yet, or what became of it."""
    with opened() as parts:
        found = parts.explain(reservation_id)
    if as_json:
        print_json(
            {
                "id": found.reservation_id,
                "status": found.status,
                "reason": found.reason,
                "sentence": found.sentence,
                "advice": found.advice,
                "facts": found.facts,
            }
        )
        return
    click.echo(clean(found.sentence))
    if found.advice:
        click.echo(clean(f"What to do: {found.advice}."))
    click.echo()
    print_fields((name.replace("_", " "), _text(value)) for name, value in found.facts.items())


def _text(value: Any) -> str:
    if isinstance(value, list):
        return "\n".join(map(str, value))
    return value if isinstance(value, str) else to_json(value, indent=None).strip('"')
