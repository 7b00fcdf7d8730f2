"""Opens what ``mailbatch import`` reads: a table, or a mail folder."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path
    from typing import IO

    from mailbatch.application.acting.message_records import MessageRecords
    from mailbatch.application.acting.records import BadLine, Record

    MakeRecords = Callable[..., MessageRecords]

_KNOWN = "name it .csv or .jsonl, or .mbox if it has messages; mailbatch reserve --message takes a single one"


@dataclass(frozen=True, slots=True)
class Source:
    """An open source.

    ``total``: how much is to be read, in bytes, or in files of a folder. ``position`` returns how much was read so far.
    ``below``: the folder where paths of attachments begin.
    """

    records: Iterator[Record | BadLine]
    total: int
    position: Callable[[], int]
    below: Path


@contextmanager
def opened_source(
    message_records: MakeRecords,
    path: Path,
    variables: tuple[str, ...],
    of_messages: Mapping[str, Any],
    say: Callable[[str], None],
) -> Iterator[Source]:
    """Open ``path`` until the block ends.

    ``message_records`` makes the reader of finished messages. ``variables``: the columns that are template variables.
    ``of_messages``: the options for finished messages. ``say`` prints a line.

    Raises:
        click.UsageError: an option does not fit the kind of ``path``, or its kind is not known.
        click.ClickException: the folder cannot be read, or has no message.
    """
    _refuse_options(path, variables, of_messages)
    if path.is_dir():
        yield _folder(message_records, path, of_messages)
        return
    read = _reader(message_records, path, variables, of_messages, say)
    with path.open("rb") as stream:
        # A pipe has no position.
        yield Source(read(stream), path.stat().st_size, stream.tell if stream.seekable() else lambda: 0, path.parent)


def _refuse_options(path: Path, variables: tuple[str, ...], of_messages: Mapping[str, Any]) -> None:
    given = [f"--{name.replace('_', '-')}" for name, value in sorted(of_messages.items()) if value is not None]
    if has_messages(path):
        if variables:
            raise click.UsageError("--context-column: finished messages have no columns")
        if path.is_dir() and "--mbox-format" in given:
            raise click.UsageError("--mbox-format: a folder has no mbox")
    elif given:
        raise click.UsageError(f"{', '.join(given)}: only for finished messages; a table says this in its columns")


def has_messages(path: Path) -> bool:
    """Return whether ``path`` has finished messages."""
    return path.is_dir() or path.suffix.lower() == ".mbox"


def _folder(message_records: MakeRecords, path: Path, of_messages: Mapping[str, Any]) -> Source:
    from mailbatch.infrastructure.files.folder import FilesBelow
    from mailbatch.infrastructure.files.mail_folder import message_files

    try:
        names = message_files(path)
    except OSError as error:
        raise click.ClickException(f"{path}: cannot be read: {error.strerror}") from error
    if not names:
        raise click.ClickException(
            f"{path}: has no message; messages are files that end with .eml, or are in cur and new of a Maildir"
        )
    done = 0

    def count() -> None:
        nonlocal done
        done += 1

    records = _messages(message_records, of_messages).of_folder(FilesBelow(path, "message"), names, count)
    return Source(records, len(names), lambda: done, path)


def _messages(message_records: MakeRecords, of_messages: Mapping[str, Any]) -> MessageRecords:
    given = {name: value for name, value in of_messages.items() if value is not None and name != "mbox_format"}
    names = {"at": "scheduled_at", "expires": "expires_at"}
    return message_records(**{names.get(name, name): value for name, value in given.items()})


def _reader(
    message_records: MakeRecords,
    path: Path,
    variables: tuple[str, ...],
    of_messages: Mapping[str, Any],
    say: Callable[[str], None],
) -> Callable[[IO[bytes]], Iterator[Record | BadLine]]:
    from mailbatch.application.acting.csv_records import read_csv
    from mailbatch.application.acting.jsonl_records import read_jsonl
    from mailbatch.application.acting.mbox_records import Mbox

    match path.suffix.lower():
        case ".csv":
            return lambda stream: read_csv(stream, variables, say)
        case ".jsonl" | ".ndjson":
            return lambda stream: read_jsonl(stream, variables)
        case ".mbox":
            style = Mbox(of_messages["mbox_format"] or Mbox.QUOTED)
            return lambda stream: _messages(message_records, of_messages).of_mbox(stream, style)
        case other:
            found = f"{other} is not known" if other else "its name has no ending"
            raise click.UsageError(f"{path.name}: {found}; {_KNOWN}")
