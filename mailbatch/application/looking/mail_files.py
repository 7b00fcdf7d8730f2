"""Show the files of one mail, and open one of them. Showing them reads no content of a file."""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from mailbatch.domain.attached_file import AttachedFile, attached_file, references_of, stored_ids
from mailbatch.domain.attachment import shown, size_on_wire
from mailbatch.domain.attachment_list import InFolder, Inline, InStore, InTemplates
from mailbatch.domain.content import ContentInMemory
from mailbatch.domain.errors import CannotCompose, NotFound
from mailbatch.domain.file_rules import room_problem
from mailbatch.domain.seen_message import Image

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mailbatch.application.ports.sending import Folder
    from mailbatch.application.ports.stores import Files
    from mailbatch.domain.attachment_list import Reference
    from mailbatch.domain.content import Content
    from mailbatch.domain.file_rules import FileRules


_IMAGE = re.compile(r"image/[a-z0-9.+-]{1,60}")


@dataclass(frozen=True, slots=True)
class OpenedFile:
    """A file of a mail that somebody reads. ``content`` is read in pieces."""

    file: AttachedFile
    content: Content


@dataclass(frozen=True, slots=True, kw_only=True)
class MailFiles:
    """What stands in the column ``attachments`` of a mail.

    ``folder``: the files of ``path``. ``templates``: the images of templates. ``max_bytes``: of a message on the wire.
    """

    files: Files
    folder: Folder
    templates: Folder
    rules: FileRules
    max_bytes: int

    def __call__(self, column: object, images: Sequence[Reference] = ()) -> tuple[list[AttachedFile], list[str]]:
        """Return the files in ``column``, then ``images``, and a line for each entry that cannot be read.

        It costs one statement if the mail names files of ``mail_files``, otherwise none. A file of ``path`` is opened
        for its size, and not read. Raises ``StoreError``.
        """
        references, faults = references_of(column)
        references = [*references, *images]
        stored = self.files.some(stored_ids(references)) if references else {}
        found = [self._looked_at(one, attached_file(one, stored, self.rules)) for one in references]
        return self._fitting(found), faults

    def open(self, column: object, number: int) -> OpenedFile:
        """Return the file with this number, counted from 1, also if the mail cannot be sent with it.

        Raises:
            NotFound: there is no such file, or its content is not there; the text says why.
            StoreError: the database cannot be reached.
        """
        references, _ = references_of(column)
        if not 1 <= number <= len(references):
            raise NotFound(f"the mail has no file number {number}")
        one = references[number - 1]
        stored = self.files.some(stored_ids([one]))
        file = self._looked_at(one, attached_file(one, stored, self.rules))
        if isinstance(one.source, InStore) and (row := stored.get(one.source.file_id)) is not None:
            return OpenedFile(file, self.files.content(row))
        return OpenedFile(file, self._content(one, file))

    def images(self, column: object, most: int) -> dict[str, Image]:
        """Return the images of ``column`` that HTML may show as ``cid:``, by content id: at most ``most`` bytes.

        What cannot be read is left out. Raises ``StoreError``.
        """
        found, left = dict[str, Image](), most
        references, _ = references_of(column)
        for number, one in enumerate(references, 1):
            if one.content_id is None:
                continue
            with suppress(CannotCompose, NotFound):
                opened = self.open(column, number)
                if _IMAGE.fullmatch(opened.file.content_type) and opened.content.size <= left:
                    found[one.content_id] = Image(opened.file.content_type, b"".join(opened.content.pieces()))
                    left -= opened.content.size
        return found

    def _content(self, reference: Reference, file: AttachedFile) -> Content:
        missing = NotFound("; ".join(file.problems) or f"{reference.known_as}: is not there")
        match reference.source:
            case InFolder(path) if file.size is not None:
                return _OnDisk(self.folder, path, file.size)
            case Inline() as inline:
                try:
                    return ContentInMemory(inline.decoded())
                except ValueError as error:
                    raise missing from error
            case _:
                raise missing

    def _looked_at(self, reference: Reference, file: AttachedFile) -> AttachedFile:
        """Return ``file`` with the size that it has on the disk, or with the reason why it cannot be read there."""
        match reference.source:
            case InFolder(path):
                folder = self.folder
            case InTemplates(path):
                folder = self.templates
            case InStore() | Inline():
                return file
        try:
            with folder.open(path) as opened:
                return replace(file, size=opened.size)
        except CannotCompose as error:
            return file if file.problems else file.with_problem(error.errors[0])

    def _fitting(self, files: Sequence[AttachedFile]) -> list[AttachedFile]:
        """Return ``files``; the first with which the message is too large says so."""
        room, fitting = self.max_bytes, list[AttachedFile]()
        for file in files:
            size = file.size or 0
            problem = (
                room_problem(shown(file.filename or file.named or ""), size, room, self.max_bytes)
                if room >= 0
                else None
            )
            fitting.append(file.with_problem(problem) if problem else file)
            room = -1 if problem else room - size_on_wire(size)
        return fitting


@dataclass(frozen=True, slots=True)
class _OnDisk:
    """The ``size`` bytes at ``path`` below ``folder``, opened anew for each reading."""

    folder: Folder
    path: str
    size: int

    def pieces(self) -> Iterator[bytes]:
        with self.folder.open(self.path) as opened:
            yield from opened.pieces()
