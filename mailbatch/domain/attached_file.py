"""What screens show of a file of a mail, without reading its content."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from mailbatch.domain.attachment_list import InFolder, Inline, InStore, InTemplates, read_attachments
from mailbatch.domain.content_types import content_type_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mailbatch.domain.attachment_list import Reference
    from mailbatch.domain.file_rules import FileRules
    from mailbatch.domain.rows import StoredFile


@dataclass(frozen=True, slots=True, kw_only=True)
class AttachedFile:
    """A file of a mail, as every screen shows it.

    ``source``: ``path``, ``file`` or ``content``, as in the column ``attachments``, or ``template`` for an image of a
    template. ``named``: the path, or the id in ``mail_files``; None for ``content``. ``size`` in bytes; None if it is
    not known. ``problems``: why the mail cannot be sent with it, one line for each reason.
    """

    source: str
    named: str | None
    filename: str
    content_type: str
    content_id: str | None
    size: int | None
    problems: tuple[str, ...] = ()

    def with_problem(self, problem: str) -> AttachedFile:
        """Return the same with one problem more."""
        return replace(self, problems=(*self.problems, problem))


def references_of(column: object) -> tuple[list[Reference], list[str]]:
    """Return the files in the column ``attachments`` that can be read, and a line for each that cannot.

    The place of a file in this list, counted from 1, is its number on every screen.
    """
    faults = list[str]()
    references = read_attachments(column, faults) if column else []
    return references, faults


def stored_ids(references: Sequence[Reference]) -> set[str]:
    """Return the ids of those in ``mail_files``."""
    return {one.source.file_id for one in references if isinstance(one.source, InStore)}


def attached_file(reference: Reference, stored: Mapping[str, StoredFile], rules: FileRules) -> AttachedFile:
    """Return what is known of the file of ``reference``. ``stored``: rows of ``mail_files`` by their ids.

    It reads only contents that the mail itself holds. The size of a file at a path is not known.
    """
    source, named, size, problems = _origin(reference, stored)
    if row := stored.get(named or "") if source == "file" else None:
        reference = replace(
            reference,
            filename=reference.filename or row.filename,
            content_type=reference.content_type or row.content_type,
        )
    name = reference.name
    if not problems and name is None:
        problems = [f"{reference.known_as}: the stored file has no name; give filename"]
    return AttachedFile(
        source=source,
        named=named,
        filename=name or "",
        content_type=reference.content_type or content_type_of(name or ""),
        content_id=reference.content_id,
        size=size,
        problems=tuple(problems or rules.problems(reference)),
    )


def _origin(reference: Reference, stored: Mapping[str, StoredFile]) -> tuple[str, str | None, int | None, list[str]]:
    """Return where the file is, by what it is named there, its size if that is known, and what is wrong."""
    match reference.source:
        case InFolder(path):
            return "path", path, None, []
        case InTemplates(path):
            return "template", path, None, []
        case InStore(file_id) if (row := stored.get(file_id)) is not None:
            return "file", file_id, row.size, []
        case InStore(file_id):
            return "file", file_id, None, [f"{reference.known_as}: there is no stored file with the id {file_id}"]
        case Inline() as inline:
            return "content", None, inline.size, []
