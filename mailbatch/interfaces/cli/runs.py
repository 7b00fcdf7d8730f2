"""``mailbatch runs`` and ``mailbatch run``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from mailbatch.domain.run import REPORTED
from mailbatch.interfaces.cli.jobs import hint_if_unknown, job_option
from mailbatch.interfaces.cli.numbers import Count, hint_if_more
from mailbatch.interfaces.cli.output import as_json, clean, moment, print_fields, print_json, print_table, to_json
from mailbatch.interfaces.cli.session import opened
from mailbatch.interfaces.documents import of_run, outcome_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from uuid import UUID

    from mailbatch.domain.rows import RunRow
    from mailbatch.domain.run import ItemError


@click.command
@click.option("--limit", type=Count(), default=20, show_default=True)
@job_option("Whose runs")
@as_json
def runs(*, limit: int, job: str, as_json: bool) -> None:
    """List the last runs, newest first."""
    with opened() as parts:
        rows = parts.stores.reports.runs(job, limit + 1)
        zone = parts.settings.timezone
        if not rows:
            hint_if_unknown(parts.stores.reports, job)
    if as_json:
        print_json([of_run(row) for row in rows[:limit]])
    else:
        _print(rows[:limit], zone)
    hint_if_more(rows, limit)


def _print(rows: Sequence[RunRow], zone: str) -> None:
    columns = [("RUN", "fixed"), ("STARTED", "fixed"), ("OUTCOME", "fixed"), ("SENT", "number"), ("OTHER", "text")]
    print_table(columns, [_cells(row, zone) for row in rows], "no runs yet")


@click.command
@click.argument("run_id", metavar="ID", type=click.UUID)
@click.option("--csv", "as_csv", is_flag=True, help="Print only its errors, as CSV that is safe in a spreadsheet.")
@as_json
def run(*, run_id: UUID, as_csv: bool, as_json: bool) -> None:
    """Show one run and the errors of its items, in full: they contain addresses."""
    if as_csv and as_json:
        raise click.UsageError("either --csv or --json")
    with opened() as parts:
        row, errors = parts.operating.show_run(run_id)
        if as_csv:
            _print_csv(errors)
            return
        report = {**of_run(row), "job": row.job, "bound": row.bound, "error": row.error}
        if as_json:
            print_json({**report, "errors": [error.text() for error in errors]})
            return
        print_fields((name, "" if value is None else to_json(value).strip('"')) for name, value in report.items())
        for error in errors:
            click.echo(clean(error.text()))


def _print_csv(errors: Iterable[ItemError]) -> None:
    from mailbatch.interfaces.csvs import errors_as_csv

    for line in errors_as_csv(errors):
        click.echo(line, nl=False)


def _cells(row: RunRow, zone: str) -> Sequence[str]:
    other = ", ".join(f"{getattr(row, name)} {name}" for name in REPORTED[1:] if getattr(row, name))
    return [str(row.run_id), moment(row.started_at, zone), outcome_of(row), str(row.sent), other]
