"""Takes the files that a caller attaches to a mail, and stores them where the mail names them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from mailbatch.domain.attachment import Attachment
from mailbatch.domain.attachment import shown as attachment_shown
from mailbatch.domain.attachment_list import read_attachments
from mailbatch.domain.errors import InvalidReservation
from mailbatch.domain.file_rules import sizes_problem
from mailbatch.domain.redaction.lines import shown

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mailbatch.application.ports.stores import Intake

Given: TypeAlias = "str | os.PathLike[str] | tuple[str, bytes] | Attachment | Mapping[str, Any]"
_FILE_ID = re.compile("[0-9a-f]{64}")
_LONGEST_SHOWN = 80
_UNKNOWN = Attachment(filename="", content=b"").content_type


@dataclass(frozen=True, slots=True)
class Attached:
    """A file of a mail: its object in the column ``attachments``, and its content if that is not stored yet."""

    entry: Mapping[str, Any]
    content: bytes | None = field(default=None, repr=False)


def attached(given: Iterable[Given] | None, read: Callable[[Path], bytes]) -> list[Attached]:
    """Return the files that are ``given``: paths, ``(name, bytes)``, attachments, ids of stored files, and objects.

    A text of 64 hexadecimal digits is an id, any other text is a path on this host. An object is one of the column
    ``attachments``. A single one needs no list. ``read`` returns the content of a path, or raises ``OSError`` or
    ``ValueError``.

    Raises:
        InvalidReservation: with one line for each that is none of these, or that cannot be read.
    """
    found, problems = list[Attached](), list[str]()
    for one in _each(given):
        try:
            found.append(_attached(one, read))
        except InvalidReservation as error:
            problems += error.problems
    if problems:
        raise InvalidReservation(problems)
    return found


def store_files(
    intake: Intake, attachments: Sequence[Any], max_message_bytes: int, files: Sequence[Attached] = ()
) -> None:
    """Store the contents of ``files``, and keep those that ``attachments`` name by their ids from being purged.

    Raises:
        InvalidReservation: if there is no file with an id, or the message is too large with one; then nothing was
            stored.
    """
    contents = {file.entry["file"]: file for file in files if file.content is not None}
    named = named_files(attachments) - contents.keys()
    sizes = {own: len(file.content or b"") for own, file in contents.items()}
    if problem := problem_of_stored(
        attachments, sizes | (intake.touch_files(named) if named else {}), max_message_bytes
    ):
        raise problem
    # In the order of their ids, so that two applications that store the same files do not wait for each other.
    for _, file in sorted(contents.items()):
        intake.store_file(file.content or b"", file.entry.get("filename"), file.entry.get("content_type"))


def problem_of_stored(
    attachments: Sequence[Any] | None, sizes: Mapping[str, int], max_message_bytes: int
) -> InvalidReservation | None:
    """Return the error of a mail with these ``attachments``, None if it has none; ``sizes``: of the stored files."""
    if lacking := named_files(attachments) - sizes.keys():
        return _missing(lacking)
    too_large = sizes_problem(read_attachments(attachments, []), sizes, max_message_bytes)
    return InvalidReservation([too_large]) if too_large else None


def named_files(attachments: Sequence[Any] | None) -> set[str]:
    """Return the ids of the stored files that the column ``attachments`` names."""
    entries = [entry for entry in attachments or () if isinstance(entry, Mapping)]
    return {entry["file"] for entry in entries if isinstance(entry.get("file"), str)}


def _missing(ids: set[str]) -> InvalidReservation:
    return InvalidReservation(
        [f"attachments: there is no file {shown(own, _LONGEST_SHOWN)}; store it first" for own in sorted(ids)]
    )


def _each(given: object) -> Iterable[object]:
    match given:
        case None:
            return ()
        case str() | os.PathLike() | Mapping() | Attachment() | bytes() | bytearray() | (str(), bytes() | bytearray()):
            return [given]
        case Iterable():
            return given
    return [given]


def _attached(one: object, read: Callable[[Path], bytes]) -> Attached:
    match one:
        case Attachment():
            return _by_attachment(one)
        case Mapping():
            return Attached(dict(one))
        case str() if _FILE_ID.fullmatch(one):
            return Attached({"file": one})
        case str() | os.PathLike():
            return _by_path(Path(one), read)
        case (str() as name, bytes() | bytearray() | memoryview() as content):
            return _by_value(bytes(content), name)
    raise InvalidReservation(
        [f"attachments: {type(one).__name__} is no file; give a path, (name, bytes), an Attachment, or a file's id"]
    )


def _by_attachment(one: Attachment) -> Attached:
    name, content = cast("object", one.filename), cast("object", one.content)
    if not isinstance(name, str):
        raise InvalidReservation([f"attachments: filename of an Attachment is {type(name).__name__}, not text"])
    if not isinstance(content, bytes | bytearray | memoryview):
        raise InvalidReservation([f"{attachment_shown(name)}: content is {type(content).__name__}, not bytes"])
    kind = None if one.content_type == _UNKNOWN else one.content_type
    return _by_value(bytes(content), one.basename, kind, one.content_id)


def _by_path(path: Path, read: Callable[[Path], bytes]) -> Attached:
    try:
        return _by_value(read(path), path.name)
    except (OSError, ValueError) as error:
        why = f"cannot be read ({error.strerror})" if isinstance(error, OSError) else str(error)
        end = shown(str(path)[-_LONGEST_SHOWN:], _LONGEST_SHOWN)
        raise InvalidReservation([f"attachments: {end}: {why}"]) from None


def _by_value(
    content: bytes, filename: str, content_type: str | None = None, content_id: str | None = None
) -> Attached:
    labels = {"filename": filename, "content_type": content_type, "content_id": content_id}
    given = {name: value for name, value in labels.items() if value is not None}
    return Attached({"file": sha256(content).hexdigest(), **given}, content)
