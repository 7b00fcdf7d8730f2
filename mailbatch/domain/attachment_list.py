"""Reads the column ``attachments``: a JSON array with one object for each file."""

from __future__ import annotations

import binascii
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

from mailbatch.domain.attachment import basename, shown
from mailbatch.domain.redaction.lines import quoted

if TYPE_CHECKING:
    from collections.abc import Iterator

MOST = 100
"""Files of one mail."""
_SOURCES = ("path", "file", "content")
_LABELS = ("filename", "content_type", "content_id")
_ONE = "give one of path, file and content"
_FILE_ID = re.compile("[0-9a-f]{64}")
_BLANKS = str.maketrans("", "", " \t\r\n")


@dataclass(frozen=True, slots=True)
class InFolder:
    """A file below the folder of attachments."""

    path: str


@dataclass(frozen=True, slots=True)
class InTemplates:
    """An image below the folder of templates, which a template shows. No column names it."""

    path: str


@dataclass(frozen=True, slots=True)
class InStore:
    """A row of ``mail_files``."""

    file_id: str


@dataclass(frozen=True, slots=True)
class Inline:
    """The bytes themselves, in base64 (RFC 4648 §4) without blanks."""

    base64: str = field(repr=False)

    @property
    def size(self) -> int:
        """How many bytes it has at most."""
        return len(self.base64) // 4 * 3 - self.base64.endswith("=") - self.base64.endswith("==")

    def decoded(self) -> bytes:
        """Return the bytes. Raises ``ValueError`` if it is no base64."""
        return binascii.a2b_base64(self.base64, strict_mode=True) if self.base64 else b""


Source: TypeAlias = InFolder | InTemplates | InStore | Inline


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """What a mail says about one of its files. What is None comes from the file itself."""

    source: Source
    filename: str | None = None
    content_type: str | None = None
    content_id: str | None = None

    @property
    def name(self) -> str | None:
        """The file's name without folders, as far as the reference says it."""
        if self.filename is not None:
            return basename(self.filename)
        return basename(self.source.path) if isinstance(self.source, InFolder | InTemplates) else None

    @property
    def known_as(self) -> str:
        """How lines about the file begin."""
        return shown(self.name or (self.source.file_id if isinstance(self.source, InStore) else ""))


def read_attachments(column: object, faults: list[str]) -> list[Reference]:
    """Return the references in ``column``. Append to ``faults`` one line for each thing that is wrong."""
    if not isinstance(column, Sequence) or isinstance(column, (str, bytes)):
        faults.append(f"attachments: is {type(column).__name__}, not a JSON array of objects")
        return []
    if len(column) > MOST:
        faults.append(f"attachments: has {len(column)} files; at most {MOST} are sent with a mail")
        return []
    found = [_reference(number, entry, faults) for number, entry in enumerate(column, 1)]
    references = [one for one in found if one is not None]
    faults += _repeated(references)
    return references


def _reference(number: int, entry: object, faults: list[str]) -> Reference | None:
    """Read the file at the place ``number``, counted from 1."""
    if not isinstance(entry, Mapping):
        faults.append(f"attachments: number {number} is {type(entry).__name__}, not an object; {_ONE}")
        return None
    given = {key: value for key, value in entry.items() if value is not None and value != ""}
    problems = list(_entry_problems(entry, given))
    faults += [f"{_known_as(number, given)}: {problem}" for problem in problems]
    if problems:
        return None
    labels = {name: given[name] for name in _LABELS if name in given}
    return Reference(source=_source(given), **labels)


def _entry_problems(entry: Mapping[str, object], given: Mapping[str, object]) -> Iterator[str]:
    for key, value in entry.items():
        if key not in _SOURCES and key not in _LABELS:
            yield f"the key {quoted(str(key), 80)} is not known; {_ONE}, and {', '.join(_LABELS)}"
        elif value is not None and not isinstance(value, str):
            yield f"{key} is {type(value).__name__}, not text"
    named = [key for key in _SOURCES if key in given or (key == "content" and entry.get(key) == "")]
    if len(named) != 1:
        yield f"has {' and '.join(named) or 'no content'}; {_ONE}"
    elif named == ["content"] and "filename" not in given:
        yield "content needs a filename"
    elif named == ["file"] and not _FILE_ID.fullmatch(str(given["file"])):
        yield "file is no id of a stored file (64 hexadecimal digits in lower case)"


def _known_as(number: int, given: Mapping[str, object]) -> str:
    named = given.get("filename") or given.get("path") or given.get("file")
    return shown(basename(named)) if isinstance(named, str) and basename(named) else f"attachments: number {number}"


def _source(given: Mapping[str, str]) -> Source:
    if "path" in given:
        return InFolder(given["path"])
    return InStore(given["file"]) if "file" in given else Inline(given.get("content", "").translate(_BLANKS))


def _repeated(references: Sequence[Reference]) -> Iterator[str]:
    """Yield a line for each content id that two files have: the HTML could not say which of them it shows."""
    seen = set[str]()
    for one in references:
        if one.content_id in seen:
            yield f"{one.known_as}: another file has the same content_id"
        if one.content_id:
            seen.add(one.content_id)
