"""``mailbatch explain``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from mailbatch.application.ports.stores import PATIENCE
from mailbatch.domain.rows import ReservationSummary
from mailbatch.interfaces.cli.filter_options import read_selection
from mailbatch.interfaces.cli.numbers import hint_if_more
from mailbatch.interfaces.cli.output import as_json, clean, moment, print_fields, print_json, to_json
from mailbatch.interfaces.cli.session import opened

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from mailbatch.application.looking.explanation import Explanation
    from mailbatch.application.ports.stores import Reservations


@click.command
@click.argument("reservation_id", metavar="[ID]", required=False, type=click.UUID)
@click.option("--to", metavar="TEXT", help="Instead of an ID: the newest reservations whose recipients contain this.")
@click.option("--limit", type=click.IntRange(1, 100), default=3, show_default=True, help="With --to: how many.")
@as_json
def explain(*, reservation_id: UUID | None, to: str | None, limit: int, as_json: bool) -> None:
    """Explain why a reservation was not sent yet, or how it ended.

    With --json it prints an object for an ID, a list for --to.
    """
    if (reservation_id is None) == (to is None):
        raise click.UsageError("say which: either an ID or --to, a part of an address")
    with opened() as parts:
        if reservation_id is not None:
            found = parts.operating.explain(reservation_id)
            if as_json:
                print_json(_as_dict(found))
            else:
                _print(found)
            return
        rows = _newest(parts.stores.reservations, to, limit + 1, parts.settings.timezone)
        explained = [parts.operating.explain(row.id) for row in rows[:limit]]
    if as_json:
        print_json([_as_dict(found) for found in explained])
    else:
        _print_each(rows[:limit], explained)
    hint_if_more(rows, limit)


def _print_each(rows: Sequence[ReservationSummary], explained: Sequence[Explanation]) -> None:
    for number, (row, found) in enumerate(zip(rows, explained, strict=True)):
        click.echo(("\n" if number else "") + clean(f"{row.id} to {row.recipients}"))
        _print(found)


def _newest(reservations: Reservations, to: str | None, limit: int, zone: str) -> Sequence[ReservationSummary]:
    found = reservations.search(read_selection({"to": to}), ReservationSummary, None, limit, PATIENCE)
    if not found.rows and found.further:
        back = moment(found.further.created_at, zone)
        raise click.ClickException(
            f"no reservation made since {back} has recipients that contain {to}; `mailbatch list --to {to} --whole` "
            "looks through all"
        )
    if not found.rows:
        raise click.ClickException(f"there is no reservation whose recipients contain {to}")
    return found.rows


def _print(found: Explanation) -> None:
    click.echo(clean(found.sentence))
    if found.advice:
        click.echo(clean(f"What to do: {found.advice}."))
    click.echo()
    print_fields((name.replace("_", " "), _text(value)) for name, value in found.facts.items())


def _as_dict(found: Explanation) -> dict[str, Any]:
    return {
        "id": found.reservation_id,
        "status": found.status,
        "reason": found.reason,
        "sentence": found.sentence,
        "advice": found.advice,
        "facts": found.facts,
    }


def _text(value: Any) -> str:
    if isinstance(value, list):
        return "\n".join(map(str, value))
    return value if isinstance(value, str) else to_json(value, indent=None).strip('"')
