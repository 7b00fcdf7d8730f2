"""Finds the Message-ID that a finished message has (RFC 5322 §3.6.4)."""

from __future__ import annotations

import re

LONGEST = 998
"""Characters of a Message-ID that is kept: what fits on a line (RFC 5322 §2.1.1)."""
_LARGEST_HEADER = 2**21
_LINE_END = rb"(?:\r\n|\r(?!\n)|\n)"
_HEADER = re.compile(rb"\A(?:[^\r\n]++" + _LINE_END + rb"?)*")
_FIELD = re.compile(rb"(?:\A|[\r\n])message-id[ \t]*:([^\r\n]*(?:" + _LINE_END + rb"[ \t][^\r\n]*)*)", re.IGNORECASE)


def own_message_id(message: bytes) -> str | None:
    """Return the Message-ID in the header of ``message``, on one line; None if it has none that can be kept.

    ``message`` may be only the beginning of one.
    """
    if not (header := _HEADER.match(message[:_LARGEST_HEADER])):
        return None
    found = _FIELD.search(header[0])
    text = b" ".join(found[1].split()).decode("ascii", "replace") if found else ""
    return text if text.isascii() and text.isprintable() and 0 < len(text) <= LONGEST else None
