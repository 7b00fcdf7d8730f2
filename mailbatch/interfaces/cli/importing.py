"""``mailbatch import``."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING

import click

from mailbatch.domain.errors import StoreError
from mailbatch.interfaces.cli.output import as_json, clean, print_json
from mailbatch.interfaces.cli.session import opened

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mailbatch.application.acting.importing import Imported
    from mailbatch.application.acting.records import BadLine, Record
    from mailbatch.bootstrap import Parts

_REASONS_KEPT = 10_000
"""Bad lines that ``--json`` lists at most; they stay in memory until the end."""
_WARNINGS = 20
"""Warnings about unchecked templates at most."""


@click.command("import")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--strict", is_flag=True, help="Keep nothing if one line is bad.")
@click.option(
    "--context-column",
    "variables",
    multiple=True,
    metavar="NAME",
    help="A column that is a template variable although its name resembles a column of the table; may be repeated.",
)
@as_json
def import_command(*, file: Path, strict: bool, variables: tuple[str, ...], as_json: bool) -> None:
    """Reserve mails from FILE, a .csv or .jsonl in UTF-8.

    Columns have the names of the table (recipients, subject, body_text …); other CSV columns become template variables.
    A file with column names that are nearly right (Scheduled_At, CC, send_at) is refused before its first row.
    Bad lines are reported with their number and the reason; good ones are kept.
    """
    bad: list[BadLine] = []

    def note(line: BadLine) -> None:
        if as_json and len(bad) < _REASONS_KEPT:
            bad.append(line)
        elif not as_json:
            click.echo(f"{file.name}:{line.line}: {clean('; '.join(line.reasons))}", err=True)

    def say(line: str) -> None:
        click.echo(f"{file.name}: {clean(line)}", err=True)

    read = _reader(file, variables, say)
    with opened() as parts, file.open("rb") as stream, _progress(file, shown=not as_json) as show:
        done = _run(parts, file, stream, lambda it: _warned(parts, read(it), say), strict, note, show)
    if as_json:
        errors = [{"line": b.line, "errors": list(b.reasons)} for b in bad]
        print_json({"imported": done.new, "known": done.known, "bad": done.bad, "errors": errors})
    else:
        _print(done, strict=strict)
    if done.bad:
        click.get_current_context().exit(1)


def _run(
    parts: Parts,
    file: Path,
    stream: IO[bytes],
    read: Callable[[IO[bytes]], Iterator[Record | BadLine]],
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
        if stream.seekable():  # a pipe has no position
            show(stream.tell())

    try:
        return parts.operating.import_mails(read(stream), strict=strict, on_bad=note, on_progress=advance)
    except UnreadableFile as error:
        raise click.ClickException(f"{file}: {error}") from error
    except StoreError as error:
        kept = 0 if strict else last.new
        raise StoreError(
            f"{error}; {kept} reservations had been stored before that", transient=error.transient
        ) from error


def _reader(
    file: Path, variables: tuple[str, ...], say: Callable[[str], None]
) -> Callable[[IO[bytes]], Iterator[Record | BadLine]]:
    from mailbatch.application.acting.csv_records import read_csv
    from mailbatch.application.acting.jsonl_records import read_jsonl

    match file.suffix.lower():
        case ".csv":
            return lambda stream: read_csv(stream, variables, say)
        case ".jsonl" | ".ndjson":
            return lambda stream: read_jsonl(stream, variables)
        case other:
            found = f"{other} is not known" if other else "its name has no ending"
            raise click.UsageError(f"{file.name}: {found}; name it .csv or .jsonl")


def _warned(
    parts: Parts, records: Iterator[Record | BadLine], say: Callable[[str], None]
) -> Iterator[Record | BadLine]:
    """Yield ``records``; warn once about each template that cannot be checked here."""
    from mailbatch.application.acting.records import Record

    warned: set[str | None] = set()
    for record in records:
        if isinstance(record, Record) and record.draft.mail.template not in warned and len(warned) < _WARNINGS:
            warned.add(record.draft.mail.template)
            if warning := parts.operating.template_warning(record.draft.mail):
                say(warning)
        yield record


def _print(done: Imported, *, strict: bool) -> None:
    if strict and done.bad:
        click.echo(f"nothing imported: {done.bad} bad")
        return
    known = f", {done.known} known before" if done.known else ""
    click.echo(f"{done.new} imported{known}{f', {done.bad} bad' if done.bad else ''}")


@contextmanager
def _progress(file: Path, *, shown: bool) -> Iterator[Callable[[int], None]]:
    """Show a progress bar in bytes read, if stderr is a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not (shown and console.is_terminal)) as bar:
        task = bar.add_task(file.name, total=file.stat().st_size)
        yield lambda position: bar.update(task, completed=position)
