"""Loads the files of a mail, and encodes each once for all mails that name it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import TYPE_CHECKING

from mailbatch.application.sending.encoded_files import EncodedFiles
from mailbatch.domain.attachment import file_problems
from mailbatch.domain.attachment_list import InFolder, Inline, InStore, InTemplates
from mailbatch.domain.content import ContentInMemory
from mailbatch.domain.content_types import content_type_of
from mailbatch.domain.errors import CannotCompose
from mailbatch.domain.file_rules import NO_RULES, FileRules, room_problem
from mailbatch.domain.letter import FilePart

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence

    from mailbatch.application.ports.sending import Folder
    from mailbatch.application.ports.stores import Files
    from mailbatch.domain.attachment_list import Reference
    from mailbatch.domain.content import Content, LineContent
    from mailbatch.domain.rows import StoredFile

_MOST_ROWS = 1_000


@dataclass(slots=True, kw_only=True)
class Enclose:
    """Loads and encodes the files of a mail.

    ``encode`` stores bytes in base64, where they cost no memory. ``max_bytes``: of a message on the wire.
    """

    folder: Folder
    templates: Folder
    files: Files
    encode: Callable[[Iterable[bytes]], LineContent]
    max_bytes: int
    rules: FileRules = NO_RULES
    encoded: EncodedFiles = field(default_factory=EncodedFiles)
    _rows: dict[str, StoredFile] = field(default_factory=dict, init=False)

    def __call__(self, references: Sequence[Reference]) -> tuple[FilePart, ...]:
        """Return the files, in the same order.

        Raises:
            CannotCompose: with a line for the first file that cannot be sent.
            ContentUnavailable: a file cannot be read or stored at this moment.
            StoreError: the database cannot be reached.
        """
        parts, room = list[FilePart](), self.max_bytes
        for reference in references:
            parts.append(self._part(reference, room))
            room -= parts[-1].encoded.size
        return tuple(parts)

    def _part(self, reference: Reference, room: int) -> FilePart:
        """Return one file. ``room``: bytes that the message may have with it, on the wire."""
        match reference.source:
            case InFolder(path):
                return self._on_disk(self.folder, path, reference, room)
            case InTemplates(path):
                return self._on_disk(self.templates, path, reference, room)
            case InStore(file_id):
                return self._stored(file_id, reference, room)
            case Inline() as inline:
                return self._inline(inline, reference, room)

    def _on_disk(self, folder: Folder, path: str, reference: Reference, room: int) -> FilePart:
        with folder.open(path) as file:
            return self._encoded(reference, file, file.version, room)

    def _stored(self, file_id: str, reference: Reference, room: int) -> FilePart:
        row = self._rows.get(file_id)
        if row is None:
            row = self.files.find(file_id)
            if row is None:
                raise CannotCompose([f"{reference.known_as}: there is no stored file with the id {file_id}"])
            if len(self._rows) >= _MOST_ROWS:
                self._rows.clear()
            self._rows[file_id] = row
        named = replace(
            reference,
            filename=reference.filename or row.filename,
            content_type=reference.content_type or row.content_type,
        )
        return self._encoded(named, _Verified(self.files.content(row), file_id, named.known_as), file_id, room)

    def _inline(self, inline: Inline, reference: Reference, room: int) -> FilePart:
        if problems := list(self.rules.inline_problems(inline, reference.known_as)):
            raise CannotCompose(problems)
        content = ContentInMemory(inline.decoded())
        # Most of these are the mail's own: an invoice, a ticket. So they are forgotten with it.
        return self._encoded(reference, content, sha256(content.data).digest(), room, keep=False)

    def _encoded(
        self, reference: Reference, content: Content, key: Hashable, room: int, *, keep: bool = True
    ) -> FilePart:
        filename = reference.name
        if filename is None:
            raise CannotCompose([f"{reference.known_as}: the stored file has no name; give filename"])
        content_type = reference.content_type or content_type_of(filename)
        labelled = file_problems(filename, content_type, reference.content_id)
        if problems := [*labelled, *self.rules.refusals(filename)]:
            raise CannotCompose(problems)
        if problem := room_problem(reference.known_as, content.size, room, self.max_bytes):
            raise CannotCompose([problem])
        encoded = self.encoded.get(key, lambda: self.encode(content.pieces()), keep=keep)
        return FilePart(filename=filename, content_type=content_type, content_id=reference.content_id, encoded=encoded)


@dataclass(frozen=True, slots=True)
class _Verified:
    """The content of a stored file. Reading raises ``CannotCompose`` if it is not what its id says."""

    content: Content
    file_id: str
    known_as: str

    @property
    def size(self) -> int:
        return self.content.size

    def pieces(self) -> Iterator[bytes]:
        digest = sha256()
        for piece in self.content.pieces():
            digest.update(piece)
            yield piece
        if digest.hexdigest() != self.file_id:
            raise CannotCompose([f"{self.known_as}: the stored content does not have the SHA-256 {self.file_id}"])
