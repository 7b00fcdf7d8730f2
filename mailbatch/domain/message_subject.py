"""Finds the Subject that a finished message has (RFC 5322 §3.6.5), as a reader sees it."""

from __future__ import annotations

import re
from email.header import decode_header, make_header

HEAD = 16_384
"""Bytes at the beginning of a message in which lists look for its Subject."""
_LONGEST = 2_000
"""Characters of a field that are decoded: for more, the standard library takes seconds."""
_LINE_END = rb"(?:\r\n|\r(?!\n)|\n)"
_HEADER = re.compile(rb"\A(?:[^\r\n]++" + _LINE_END + rb"?)*")
_FIELD = re.compile(rb"(?:\A|[\r\n])subject[ \t]*:([^\r\n]*(?:" + _LINE_END + rb"[ \t][^\r\n]*)*)", re.IGNORECASE)


def own_subject(message: bytes) -> str | None:
    """Return the Subject in the header of ``message``, which may be only the beginning of one; None if it has none."""
    header = _HEADER.match(message[:HEAD])
    found = _FIELD.search(header[0]) if header else None
    return decoded(found[1].decode("utf-8", "replace")) if found else None


def decoded(text: str) -> str:
    """Return the value of a field on one line, with its encoded words in plain characters (RFC 2047)."""
    line = " ".join(text.strip()[:_LONGEST].split())
    if "=?" not in line:
        return line
    try:
        return " ".join(str(make_header(decode_header(line))).split())
    except Exception:  # noqa: BLE001 - an unknown charset, broken base64: the standard library raises many kinds
        return line
