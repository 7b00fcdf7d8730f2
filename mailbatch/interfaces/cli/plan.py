"""``mailbatch plan``: what the next run would send."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import click

from mailbatch.domain.job_name import SEND_ALL
from mailbatch.interfaces.cli.numbers import Count
from mailbatch.interfaces.cli.output import as_json, clean, moment, print_json, print_table
from mailbatch.interfaces.cli.reserve import Moment
from mailbatch.interfaces.cli.session import opened
from mailbatch.interfaces.documents import of_planned

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from mailbatch.application.looking.carried import Carried
    from mailbatch.application.looking.plan import Planned

_FIRST = 10
_NAMED = 3
"""Ids shown with each reason; --json has them all."""


@click.command
@click.option("--by", type=Moment(), help="What is due by then (default: by the next tick).")
@click.option("--limit", type=Count(), default=1000, show_default=True, help="How many to render.")
@as_json
def plan(*, by: datetime | None, limit: int, as_json: bool) -> int:
    """Render what the next run would send, and send nothing.

    Exit code 1 if a mail cannot be composed.
    """
    with opened() as parts:
        ask = parts.operating.plan_run
        when = by or parts.operating.watch(SEND_ALL, lock=False).look(SEND_ALL).next_run.to_come
        due, exact = parts.stores.upcoming.count(when)
        rate = ask.rate(SEND_ALL)
        zone = parts.settings.timezone
        found = _Found()
        for one in ask(when, limit):
            found.add(one)
            if len(found.first) < _FIRST:
                found.first.append((one, ask.carried(one)))
    if as_json:
        print_json(found.as_dict(due, exact, when, rate))
    else:
        _print(found, due, exact, when, rate, zone)
    return 1 if found.broken else 0


class _Found:
    """The problems that rendering found, without the mails."""

    def __init__(self) -> None:
        self.rendered = self.bytes = 0
        self.first: list[tuple[Planned, Carried]] = []
        self.broken: list[tuple[str, tuple[str, ...]]] = []
        self.held_back: Counter[str] = Counter()

    def add(self, one: Planned) -> None:
        self.rendered += 1
        self.bytes += one.size
        if one.errors:
            self.broken.append((str(one.mail.claim.reservation_id), one.errors))
        if one.waits_for is not None:
            self.held_back[one.waits_for] += 1

    def reasons(self) -> Iterable[tuple[str, list[str]]]:
        """Return each reason with its ids, the most frequent first."""
        by_reason: dict[str, list[str]] = {}
        for reservation_id, errors in self.broken:
            for error in errors:
                by_reason.setdefault(error, []).append(reservation_id)
        return sorted(by_reason.items(), key=lambda item: -len(item[1]))

    def as_dict(self, due: int, exact: bool, by: datetime | None, rate: float | None) -> dict[str, Any]:  # noqa: FBT001
        return {
            "by": by,
            "due": due,
            "exact": exact,
            "rendered": self.rendered,
            "bytes": self.bytes,
            "mails_per_second": round(rate, 1) if rate else None,
            "seconds": round(due / rate, 1) if rate else None,
            "broken": [{"id": reservation_id, "errors": list(errors)} for reservation_id, errors in self.broken],
            "held_back": dict(self.held_back),
            "first": [of_planned(one, carried) for one, carried in self.first],
        }


def _print(found: _Found, due: int, exact: bool, by: datetime | None, rate: float | None, zone: str) -> None:  # noqa: FBT001
    when = f"by {moment(by, zone)}" if by else "now"
    if not due:
        click.echo(f"nothing is due {when}")
        return
    many = f"{due:,}" if exact else f"more than {due:,}"
    takes = f"; at {rate:,.0f} mails/s, as in the last runs, a run takes {_span(due / rate)}" if rate else ""
    click.echo(f"{many} due {when}{takes}")
    rest = f", the first {found.rendered:,} of them" if found.rendered < due else ""
    good = found.rendered - len(found.broken)
    click.echo(f"rendered{rest}: {good:,} can be sent ({found.bytes / 2**20:,.1f} MB), {len(found.broken):,} cannot")
    for reason, ids in found.reasons():
        more = f" and {len(ids) - _NAMED:,} more" if len(ids) > _NAMED else ""
        click.echo(f"  {len(ids):,} × {clean(reason)}\n      {', '.join(ids[:_NAMED])}{more}")
    for why, count in found.held_back.most_common():
        click.echo(f"  {count:,} held back: {clean(why)}")
    click.echo()
    columns = [("FIRST", "fixed"), ("TO", "text"), ("SUBJECT", "text"), ("", "fixed")]
    carries = any(carried.beside_text for _, carried in found.first)
    rows = [[*_cells(one), *([" · ".join(carried.beside_text)] if carries else [])] for one, carried in found.first]
    print_table([*columns, *([("CARRIES", "whole")] if carries else [])], rows, "")


def _cells(one: Planned) -> list[str]:
    mail = one.mail.mail
    return [
        str(one.mail.claim.reservation_id),
        str(mail.recipients or ""),
        one.subject,
        "cannot" if one.errors else "held back" if one.waits_for else "",
    ]


def _span(seconds: float) -> str:
    if seconds < 90:  # noqa: PLR2004 - a minute and a half is better told in seconds
        return f"{max(1, round(seconds))} s"
    return f"{round(seconds / 60)} min"
