"""A file that is sent with a mail, or an image that its HTML shows, and what its name, type and id may be."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mailbatch.domain.checks import line_problems
from mailbatch.domain.content_types import UNKNOWN
from mailbatch.domain.redaction import lines

if TYPE_CHECKING:
    from collections.abc import Iterator

LONGEST_FILENAME = 255
_LONGEST_TYPE = 200
_LONGEST_SHOWN = 80
_TOKEN = r"[A-Za-z0-9!#$&^_.+-]+"  # noqa: S105 - a word of RFC 6838 §4.2
_TYPE = re.compile(rf'{_TOKEN}/{_TOKEN}(?:; ?{_TOKEN}=(?:{_TOKEN}|"[ !#-:<-\[\]-~]*"))*')
_NAME_PARAMETER = re.compile(r"; ?name\*?=", re.IGNORECASE)
_COMPOSITE = ("message", "multipart")
# RFC 2392 §2: what stands between the angle brackets, and behind "cid:" in the HTML.
_CONTENT_ID = re.compile(r"[A-Za-z0-9.!#$&'*+/=?^_`{|}~@-]{1,200}")
# Control characters; and those that turn the order of what follows, so that "exe" is shown as "ends in fdp".
_UNSHOWN = re.compile("[\x01-\x09\x0e-\x1b\x7f-\x84\x86-\x9f\u202a-\u202e\u2066-\u2069]")


@dataclass(frozen=True, slots=True, weakref_slot=True, kw_only=True)
class Attachment:
    """A file by value. Making one checks nothing; ``problems`` tells what is wrong with it.

    With a ``content_id`` (without angle brackets) it is shown in the HTML at ``cid:<content_id>``, and is not listed.
    Only the part of ``filename`` behind the last slash or backslash is sent.
    """

    filename: str
    content: bytes = field(repr=False)
    content_type: str = UNKNOWN
    content_id: str | None = None

    @property
    def basename(self) -> str:
        """The name without the folders in which the file stood."""
        return basename(self.filename)

    def problems(self) -> Iterator[str]:
        """Yield one line for each thing that keeps it out of a mail."""
        return file_problems(self.basename, self.content_type, self.content_id)


def basename(path: str) -> str:
    """Return what follows the last slash of either kind."""
    return path.replace("\\", "/").rpartition("/")[2]


def shown(name: str) -> str:
    """Return how each line about the file ``name`` begins."""
    return f"attachments: {lines.shown(name, _LONGEST_SHOWN)}"


def file_problems(filename: str, content_type: str, content_id: str | None) -> Iterator[str]:
    """Yield one line for each thing that is wrong with what the header fields of a file say."""
    start = shown(filename)
    yield from line_problems(start, filename)
    if found := _UNSHOWN.search(filename):
        yield f"{start}: has the character U+{ord(found[0]):04X}, which no file name may have"
    if not filename.strip(" .") or len(filename.encode(errors="replace")) > LONGEST_FILENAME:
        yield f"{start}: is no file name; give one of at most {LONGEST_FILENAME} bytes"
    yield from _type_problems(start, content_type)
    if content_id is not None and not _CONTENT_ID.fullmatch(content_id):
        what = lines.quoted(content_id, _LONGEST_SHOWN)
        yield f"{start}: {what} is no content id (RFC 2392 §2); write it without angle brackets"


def _type_problems(start: str, content_type: str) -> Iterator[str]:
    if len(content_type) > _LONGEST_TYPE or not _TYPE.fullmatch(content_type):
        yield f"{start}: {lines.quoted(content_type, _LONGEST_SHOWN)} is no content type (RFC 2045 §5.1: type/subtype)"
    elif content_type.partition("/")[0].lower() in _COMPOSITE:
        # RFC 2046 §5.2.1: they may not be base64, and what is in them may be anything.
        yield f"{start}: {content_type} cannot be attached as it is; call it {UNKNOWN}"
    elif _NAME_PARAMETER.search(content_type):
        yield f"{start}: {content_type} has a name; give filename instead"


def size_on_wire(size: int) -> int:
    """Return how many bytes a file of ``size`` bytes has in base64, in lines of 76 characters (RFC 2045 §6.8)."""
    coded = 4 * -(-size // 3)
    return coded + 2 * -(-coded // 76)


def largest_file(room: int) -> int:
    """Return how many bytes a file may have that has at most ``room`` bytes on the wire."""
    lines, rest = divmod(room, 78)
    return lines * 57 + max(0, rest - 2) // 4 * 3
