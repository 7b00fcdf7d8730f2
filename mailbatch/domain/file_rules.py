"""Rules that keep a file out of every mail, whatever it contains: on its path, its size and its name."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from mailbatch.domain.attachment import file_problems, shown, size_on_wire
from mailbatch.domain.attachment_list import InFolder, Inline, InStore, read_attachments
from mailbatch.domain.content_types import UNKNOWN

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from mailbatch.domain.attachment_list import Reference

NO_FOLDER = "there is no folder for paths; set MAILBATCH_ATTACHMENT_DIR"
_MOST_PARTS = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class FileRules:
    """Rules of the settings about files.

    ``max_inline_bytes``: of a file that the mail itself holds, decoded; None: no limit is known here. ``refused``:
    patterns of file names, in lower case. ``has_folder``: there is a folder for paths, as far as is known here.
    """

    max_inline_bytes: int | None = None
    refused: Sequence[str] = ()
    has_folder: bool = True

    def problems(self, reference: Reference) -> Iterator[str]:
        """Yield one line for each thing for which the file could never be sent, whatever it contains."""
        match reference.source:
            case InFolder(path):
                wrong = path_problem(path) if self.has_folder else NO_FOLDER
                if wrong:
                    yield f"{shown(path)}: {wrong}"
                    return
            case Inline() as inline:
                yield from self.inline_problems(inline, reference.known_as)
            case _:
                pass
        name, kind = _name(reference), reference.content_type or UNKNOWN
        yield from file_problems(name, kind, reference.content_id)
        yield from self.refusals(name)

    def inline_problems(self, inline: Inline, known_as: str) -> Iterator[str]:
        """Yield a line if a file that the mail itself holds is too large, or cannot be decoded."""
        if self.max_inline_bytes is not None and inline.size > self.max_inline_bytes:
            why = f"has {inline.size} bytes; MAILBATCH_MAX_INLINE_BYTES allows {self.max_inline_bytes} for content"
            yield f"{known_as}: {why}"
            return
        try:
            inline.decoded()
        except ValueError as error:
            yield f"{known_as}: content is no base64: {error}"

    def refusals(self, filename: str) -> Iterator[str]:
        """Yield a line for each pattern that refuses ``filename``."""
        # Windows drops blanks and dots at the end of a name.
        name = filename.lower().rstrip(" .")
        for pattern in self.refused:
            if fnmatchcase(name, pattern):
                yield f"attachments: {filename}: may not be attached; MAILBATCH_REFUSED_FILES has {pattern}"


NO_RULES = FileRules()


def attachment_problems(column: object, rules: FileRules, max_bytes: int) -> list[str]:
    """Return one line for each thing in the column ``attachments`` for which its mail could never be sent.

    ``max_bytes``: of a message on the wire.
    """
    problems = list[str]()
    references = read_attachments(column, problems)
    problems += [problem for one in references for problem in rules.problems(one)]
    too_large = sizes_problem(references, {}, max_bytes)
    return [*problems, too_large] if too_large else problems


def path_problem(path: str) -> str | None:
    """Return why ``path`` leads to no file below a folder, whatever is there; None if it may lead to one."""
    if path.startswith("/"):
        return "is an absolute path; give it from the folder of attachments on"
    parts = path_parts(path)
    if ".." in parts:
        return "has .. in its path, which may not lead upwards"
    if not parts or len(parts) > _MOST_PARTS or "\0" in path or path.endswith("/"):
        return "is no path of a file"
    return None


def path_parts(path: str) -> list[str]:
    """Return the folders of ``path`` and its file, one behind the other."""
    return [part for part in path.split("/") if part not in ("", ".")]


def room_problem(known_as: str, size: int, room: int, max_bytes: int) -> str | None:
    """Return a line if a file of ``size`` bytes does not fit into the ``room`` of a message of ``max_bytes``."""
    if (on_wire := size_on_wire(size)) <= room:
        return None
    why = f"has {size} bytes, {on_wire} on the wire; with it the message is larger than"
    return f"{known_as}: {why} MAILBATCH_MAX_MESSAGE_BYTES ({max_bytes})"


def sizes_problem(references: Sequence[Reference], stored: Mapping[str, int], max_bytes: int) -> str | None:
    """Return a line that names the first file with which the message is too large; None if there is none.

    ``stored``: sizes of stored files by their ids. A file whose size is not known counts as empty.
    """
    room = max_bytes
    for reference in references:
        size = _size(reference, stored)
        if problem := room_problem(reference.known_as, size, room, max_bytes):
            return problem
        room -= size_on_wire(size)
    return None


def _name(reference: Reference) -> str:
    """Return the file's name; its id if the mail does not name it, because then ``mail_files`` does."""
    if reference.name is None and isinstance(reference.source, InStore):
        return reference.source.file_id
    return reference.name or ""


def _size(reference: Reference, stored: Mapping[str, int]) -> int:
    match reference.source:
        case Inline() as inline:
            return inline.size
        case InStore(file_id):
            return stored.get(file_id, 0)
        case _:
            return 0
