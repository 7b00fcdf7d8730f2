"""``mailbatch import``."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mailbatch.domain.errors import StoreError
from mailbatch.interfaces.cli.import_sources import opened_source
from mailbatch.interfaces.cli.output import as_json, clean, print_json
from mailbatch.interfaces.cli.reserve import Moment
from mailbatch.interfaces.cli.session import opened

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mailbatch.application.acting.importing import Import, Imported
    from mailbatch.application.acting.records import BadLine, Record
    from mailbatch.domain.reservation import Mail
    from mailbatch.interfaces.cli.import_sources import Source

_REASONS_KEPT = 10_000
"""Bad lines that ``--json`` lists at most; they stay in memory until the end."""
_WARNINGS = 20
"""Warnings about unchecked templates at most."""


@click.command("import")
@click.argument("source", metavar="FILE", type=click.Path(exists=True, path_type=Path))
@click.option("--strict", is_flag=True, help="Keep nothing if one line, or one message, is bad.")
@click.option(
    "--context-column",
    "variables",
    multiple=True,
    metavar="NAME",
    help="A column that is a template variable although its name resembles a column of the table; may be repeated.",
)
@click.option("--at", type=Moment(), help="Messages: when they are due (default: now).")
@click.option("--expires", type=Moment(), help="Messages: after this they are not sent any more.")
@click.option("--priority", type=int, help="Messages: higher goes first.")
@click.option("--tag", help="Messages: a name for all of them.")
@click.option("--envelope-sender", help="Messages: where bounces go; <> for no bounces.")
@click.option(
    "--mbox-format",
    type=click.Choice(["mboxrd", "mboxo", "mboxcl2"]),
    help="How lines that begin with From are written in an mbox (default: mboxrd).",
)
@as_json
def import_command(*, source: Path, strict: bool, variables: tuple[str, ...], as_json: bool, **given: Any) -> None:
    """Reserve mails from FILE: a .csv or .jsonl in UTF-8, an .mbox, or a folder of .eml files (also a Maildir).

    Columns have the names of the table (recipients, subject, body_text …); other CSV columns become template variables.
    A file with column names that are nearly right (Scheduled_At, CC, send_at) is refused before its first row.
    Paths in the column attachments begin at the folder of FILE.

    A message goes to its To, Cc and Bcc. Its Message-ID is its idempotency key: imported again, it is known.

    Bad lines and messages are reported with their number and the reason; good ones are kept.
    """
    bad: list[BadLine] = []

    def note(line: BadLine) -> None:
        if as_json and len(bad) < _REASONS_KEPT:
            bad.append(line)
        elif not as_json:
            place = f"{source.name}/{line.file}" if line.file else f"{source.name}:{line.line}"
            click.echo(clean(f"{place}: {'; '.join(line.reasons)}"), err=True)

    def say(line: str) -> None:
        click.echo(f"{source.name}: {clean(line)}", err=True)

    with (
        opened() as parts,
        opened_source(parts.reserving.message_records, source, variables, given, say) as it,
        _progress(source, it.total, shown=not as_json) as show,
    ):
        reserving = parts.reserving
        records = _warned(reserving.template_warning, it.records, say)
        done = _run(reserving.import_mails(it.below), source, it, records, strict, note, show)
    if as_json:
        print_json({"imported": done.new, "known": done.known, "bad": done.bad, "errors": list(map(_as_dict, bad))})
    else:
        _print(done, strict=strict)
    if done.bad:
        click.get_current_context().exit(1)


def _as_dict(bad: BadLine) -> dict[str, Any]:
    named = {"file": bad.file} if bad.file else {}
    return {"line": bad.line, **named, "errors": list(bad.reasons)}


def _run(
    reserve: Import,
    path: Path,
    source: Source,
    records: Iterator[Record | BadLine],
    strict: bool,  # noqa: FBT001 - the option, as it was given
    note: Callable[[BadLine], None],
    show: Callable[[int], None],
) -> Imported:
    from mailbatch.application.acting.importing import Imported
    from mailbatch.application.acting.records import UnreadableFile

    last = Imported()

    def advance(done: Imported) -> None:
        nonlocal last
        last = done
        show(source.position())

    try:
        return reserve(records, strict=strict, on_bad=note, on_progress=advance)
    except UnreadableFile as error:
        raise click.ClickException(f"{path}: {error}") from error
    except StoreError as error:
        kept = 0 if strict else last.new
        raise StoreError(
            f"{error}; {kept} reservations had been stored before that", transient=error.transient
        ) from error


def _warned(
    template_warning: Callable[[Mail], str | None], records: Iterator[Record | BadLine], say: Callable[[str], None]
) -> Iterator[Record | BadLine]:
    """Yield ``records``; print, once for each template, the warning that ``template_warning`` returns."""
    from mailbatch.application.acting.records import Record

    warned: set[str | None] = set()
    for record in records:
        if isinstance(record, Record) and record.draft.mail.template not in warned and len(warned) < _WARNINGS:
            warned.add(record.draft.mail.template)
            if warning := template_warning(record.draft.mail):
                say(warning)
        yield record


def _print(done: Imported, *, strict: bool) -> None:
    if strict and done.bad:
        click.echo(f"nothing imported: {done.bad} bad")
        return
    known = f", {done.known} known before" if done.known else ""
    click.echo(f"{done.new} imported{known}{f', {done.bad} bad' if done.bad else ''}")


@contextmanager
def _progress(path: Path, total: int, *, shown: bool) -> Iterator[Callable[[int], None]]:
    """Show a progress bar in bytes read, or in files of a folder, if stderr is a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    amount = MofNCompleteColumn() if path.is_dir() else DownloadColumn()
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), amount, TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not (shown and console.is_terminal)) as bar:
        task = bar.add_task(path.name, total=total)
        yield lambda position: bar.update(task, completed=position)
