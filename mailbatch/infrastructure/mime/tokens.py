"""Splits the text of a structured header field (RFC 5322 §3.2) into quoted strings, comments, brackets and words.

Each character is read at most twice, in any text; the standard library's parser takes seconds for 50 kB of comments. It
also leaves comments out, although people write names such as ``ACME (UK) Ltd``.
"""

from __future__ import annotations

import re
from email.errors import MessageError
from email.header import decode_header
from typing import TYPE_CHECKING, Literal, NamedTuple

from mailbatch.domain.address_list import ANGLE, QUOTED, comment_end

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_PIECE = re.compile(rf"(?P<blank>\s++)|(?P<quoted>{QUOTED})|(?P<angle>{ANGLE})|(?P<word>[^\s\"(<]++)", re.DOTALL)
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
_WORD = r"=\?[!->@-~]+\?[BbQq]\?[!->@-~]*\?="
_ENCODED = re.compile(f"(?:{_WORD})+")
_UNPRINTABLE = re.compile("[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_UNDECODED = "it has an encoded word (RFC 2047) that cannot be decoded; write the name itself"
_LOOKS_ENCODED = re.compile(r"(?<!\\)=\?[!->@-~]+\?[BbQq]\?")


class Piece(NamedTuple):
    """A word, a quoted string or a comment, as it is written. ``spaced``: a blank comes before it."""

    kind: Literal["word", "quoted", "comment"]
    raw: str
    spaced: bool


class AddressEntry(NamedTuple):
    """The pieces before and after the text in angle brackets; ``angle`` is None if there are no brackets."""

    before: tuple[Piece, ...]
    angle: str | None
    after: tuple[Piece, ...]


def looks_encoded(text: str) -> bool:
    """Return whether a mail program might decode a part of ``text`` (RFC 2047)."""
    return bool(_LOOKS_ENCODED.search(text))


def unprintable(text: str) -> str | None:
    """Return the first control character, line break of any kind or lone surrogate, or None."""
    found = _UNPRINTABLE.search(text)
    return found[0] if found else None


def split_entry(text: str) -> AddressEntry:
    """Return the pieces of ``text``, which is one entry.

    Raises:
        ValueError: "it …": something that is opened is not closed, or there are two pairs of angle brackets.
    """
    sides: tuple[list[Piece], list[Piece]] = ([], [])
    angle, spaced, at = None, False, 0
    while at < len(text):
        kind, end = _next(text, at)
        raw = text[at:end]
        if kind == "angle":
            if angle is not None:
                raise ValueError("it has angle brackets twice; put a comma between two addresses")
            angle = raw[1:-1]
        elif kind != "blank":
            sides[angle is not None].append(Piece(kind, raw, spaced))
        spaced, at = kind == "blank", end
    return AddressEntry(tuple(sides[0]), angle, tuple(sides[1]))


def phrase(pieces: Iterable[Piece]) -> str:
    """Return the name in ``pieces``: without quotes, encoded words decoded (RFC 2047), comments in parentheses.

    Raises:
        ValueError: "it …": an encoded word cannot be decoded.
    """
    spelt: list[str] = []
    coded: list[str] = []
    for piece in pieces:
        is_coded = piece.kind == "word" and looks_encoded(piece.raw)
        if coded and not (is_coded and piece.spaced):
            spelt.append(_decoded(coded))
            coded = []
        if piece.spaced and not coded:
            spelt.append(" ")
        if is_coded:
            coded.append(piece.raw)
        else:
            spelt.append(_spelt(piece))
    return " ".join("".join([*spelt, _decoded(coded)]).split())


def comment(piece: Piece) -> str:
    """Return the text of a comment, without its parentheses. Raises ``ValueError`` as ``phrase`` does."""
    words = _ESCAPED.sub(r"\1", piece.raw[1:-1]).split()
    return phrase(Piece("word", word, spaced=True) for word in words)


def _next(text: str, at: int) -> tuple[Literal["blank", "angle", "word", "quoted", "comment"], int]:
    if text[at] == "(":
        if end := comment_end(text, at):
            return "comment", end
        raise ValueError("it has a parenthesis that is not closed")
    found = _PIECE.match(text, at)
    if found is None:
        what = "a quotation mark" if text[at] == '"' else "an angle bracket"
        raise ValueError(f"it has {what} that is not closed")
    kind: Literal["blank", "angle", "word", "quoted"] = found.lastgroup  # type: ignore[assignment]
    return kind, found.end()


def _spelt(piece: Piece) -> str:
    if piece.kind == "comment":
        return f"({comment(piece)})"
    if piece.kind == "word":
        return piece.raw
    if looks_encoded(piece.raw):
        raise ValueError("it has an encoded word (RFC 2047) in quotes; write the name as it reads")
    return _ESCAPED.sub(r"\1", piece.raw[1:-1])


def _decoded(words: Sequence[str]) -> str:
    """Decode encoded words together, because a character may begin in one and end in the next."""
    if not words:
        return ""
    if not all(map(_ENCODED.fullmatch, words)):
        raise ValueError(_UNDECODED)
    try:
        text = "".join(
            data if isinstance(data, str) else data.decode((charset or "ascii").partition("*")[0])
            for data, charset in decode_header(" ".join(words))
        )
    except (MessageError, LookupError, ValueError) as error:
        raise ValueError(_UNDECODED) from error
    if found := unprintable(text):
        raise ValueError(f"it has the encoded character U+{ord(found):04X}, which no line may have")
    return text
