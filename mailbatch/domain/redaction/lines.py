"""Keeps a text on one line: what relays, strangers and files write goes into logs, reports and terminals."""

from __future__ import annotations

# Line ends, and all else that a terminal obeys. A tab is harmless.
_CONTROLS = (*range(0x20), *range(0x7F, 0xA0), 0x2028, 0x2029)
_ESCAPES = str.maketrans({code: ascii(chr(code))[1:-1] for code in _CONTROLS if chr(code) != "\t"})


def one_line(text: str) -> str:
    r"""Return ``text`` with line ends and control characters written as escapes, such as ``\n``."""
    return text.translate(_ESCAPES)
