"""The files of a mail in words, one line for each."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mailbatch.application.looking.carried import Carried
    from mailbatch.domain.attached_file import AttachedFile

_FROM = {"path": "path", "file": "stored file", "content": "in the row", "template": "image of the template"}


def files_text(carried: Carried) -> str:
    """Return a line for each file, and for each entry of ``attachments`` that is none."""
    return "\n".join([*map(file_text, carried.files), *carried.problems])


def file_text(file: AttachedFile) -> str:
    """Return the line of one file: name, type, size, where it is, and what is wrong with it."""
    facts = [file.content_type, "size not known" if file.size is None else f"{file.size} bytes"]
    if file.content_id:
        facts.append(f"cid:{file.content_id}")
    facts.append(f"{_FROM[file.source]} {file.named}" if file.named else _FROM[file.source])
    return " · ".join([f"{file.filename} ({', '.join(facts)})", *file.problems])
