"""Keeps a text on one line: what relays, strangers and files write goes into logs, reports and terminals."""

from __future__ import annotations

# Line ends, and all else that a terminal obeys. A tab is harmless.
_CONTROLS = (*range(0x20), *range(0x7F, 0xA0), 0x2028, 0x2029)
_ESCAPES = str.maketrans({code: ascii(chr(code))[1:-1] for code in _CONTROLS if chr(code) != "\t"})


def one_line(text: str) -> str:
    r"""Return ``text`` with line ends and control characters written as escapes, such as ``\n``."""
    return text.translate(_ESCAPES)


# Nobody sees these either, but Persian, Indic scripts and emoji need them.
_JOINERS = "\u200c\u200d"


def shown(text: str, most: int) -> str:
    r"""Return the start of ``text``, ``most`` characters; what nobody can see as escapes, such as ``\x00``.

    A backslash stays one: names of Windows have some.
    """
    start = text[:most]
    if start.isprintable():
        return start
    return "".join(c if c.isprintable() or c in _JOINERS else ascii(c)[1:-1] for c in start)[:most]


def quoted(text: str, most: int) -> str:
    """Return the same in quotes."""
    return f"'{shown(text, most)}'"
