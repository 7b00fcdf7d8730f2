"""Stores a file that mails may name by its id."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mailbatch.domain.attachment import file_problems
from mailbatch.domain.attachment_list import InStore, Reference
from mailbatch.domain.errors import InvalidReservation, StoreError

if TYPE_CHECKING:
    from collections.abc import Callable

    from mailbatch.application.ports.stores import Files, Reservations
    from mailbatch.domain.file_rules import FileRules
    from mailbatch.domain.rows import StoredFile


@dataclass(frozen=True, slots=True, kw_only=True)
class FileLabels:
    """What the caller says of a file: its name without folders, and its type. None: it says nothing."""

    filename: str | None = None
    content_type: str | None = None


def check_labels(labels: FileLabels, rules: FileRules) -> None:
    """Raise ``InvalidReservation`` with one line for each thing for which no mail could have such a file."""
    given = {"filename": labels.filename, "content_type": labels.content_type}
    problems = [f"{name}: is {type(text).__name__}, not text" for name, text in given.items() if not _is_text(text)]
    if not problems:
        named = Reference(source=InStore(""), filename=labels.filename or "file")
        problems = [one.replace("attachments:", "filename:", 1) for one in rules.problems(named)]
        if labels.content_type:
            wrong = file_problems("file", labels.content_type, None)
            problems += [one.replace("attachments: file:", "content_type:", 1) for one in wrong]
    if problems:
        raise InvalidReservation(problems)


def _is_text(given: object) -> bool:
    return given is None or isinstance(given, str)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreFile:
    """Stores a file, unless the same content is stored already."""

    reservations: Reservations
    files: Files
    rules: FileRules

    def check(self, labels: FileLabels) -> None:
        """Raise ``InvalidReservation`` with one line for each thing for which no mail could have such a file."""
        check_labels(labels, self.rules)

    def __call__(self, file_id: str, read: Callable[[], bytes], labels: FileLabels) -> tuple[StoredFile, bool]:
        """Store what ``read`` returns. Return the file as it is stored, and whether it is new.

        ``file_id``: the SHA-256 of the content. A file that is stored already keeps its name and type, and is not
        read. Raises ``StoreError``.
        """
        with self.reservations.intake() as intake:
            is_new = not intake.touch_files([file_id])
            if is_new:
                intake.store_file(read(), labels.filename, labels.content_type)
        if (stored := self.files.find(file_id)) is None:
            raise StoreError(f"file {file_id} was deleted while it was stored; store it again", transient=True)
        return stored, is_new
