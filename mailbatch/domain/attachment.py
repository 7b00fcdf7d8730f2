"""A file that travels with a mail, or an image that its HTML shows."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mailbatch.domain.checks import line_problems

if TYPE_CHECKING:
    from collections.abc import Iterator

LONGEST_FILENAME = 255
_LONGEST_TYPE = 200
_TOKEN = r"[A-Za-z0-9!#$&^_.+-]+"  # noqa: S105 - a word of RFC 6838 §4.2
_TYPE = re.compile(rf'{_TOKEN}/{_TOKEN}(?:; ?{_TOKEN}=(?:{_TOKEN}|"[ !#-:<-\[\]-~]*"))*')
_COMPOSITE = ("message", "multipart")
# RFC 2392 §2: what stands between the angle brackets, and behind "cid:" in the HTML.
_CONTENT_ID = re.compile(r"[A-Za-z0-9.!#$&'*+/=?^_`{|}~@-]{1,200}")


@dataclass(frozen=True, slots=True, weakref_slot=True, kw_only=True)
class Attachment:
    """A file by value. Making one checks nothing; ``problems`` tells what is wrong with it.

    With a ``content_id`` (without angle brackets) it is what ``cid:<content_id>`` in the HTML means, and is shown there
    rather than listed. Of ``filename`` only what follows the last slash, of either kind, leaves the house.
    """

    filename: str
    content: bytes = field(repr=False)
    content_type: str = "application/octet-stream"
    content_id: str | None = None

    @property
    def basename(self) -> str:
        """The name without the folders in which the file stood."""
        return self.filename.replace("\\", "/").rpartition("/")[2]

    def problems(self) -> Iterator[str]:
        """Yield one line for each thing that keeps it out of a mail."""
        shown = f"attachments: {ascii(self.basename)[1:-1][:80]}"
        yield from line_problems(shown, self.basename)
        if not self.basename.strip() or len(self.basename.encode(errors="replace")) > LONGEST_FILENAME:
            yield f"{shown}: is no file name; give one of at most {LONGEST_FILENAME} bytes"
        if len(self.content_type) > _LONGEST_TYPE or not _TYPE.fullmatch(self.content_type):
            yield f"{shown}: {ascii(self.content_type)[:80]} is no content type (RFC 2045 §5.1: type/subtype)"
        elif self.content_type.partition("/")[0].lower() in _COMPOSITE:
            # RFC 2046 §5.2.1: they may not be base64, and what is in them may be anything.
            yield f"{shown}: {self.content_type} cannot be attached as it is; call it application/octet-stream"
        if self.content_id is not None and not _CONTENT_ID.fullmatch(self.content_id):
            yield f"{shown}: {ascii(self.content_id)[:80]} is no content id (RFC 2392 §2)"
