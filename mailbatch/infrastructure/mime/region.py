"""A stretch of a message between two headers or boundaries: what SMTP cannot carry of it, and how it is encoded then.

What cannot be carried is encoded in 7 bits whatever the relay offers, because a later relay may not offer 8BITMIME, and
one that has to convert breaks the signature that it or we have added (RFC 6376 §5.3). What a signature covers stays.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

from mailbatch.infrastructure.mime.headers import LONGEST_LINE

if TYPE_CHECKING:
    from mailbatch.infrastructure.mime.entity import Entity

How: TypeAlias = Literal["base64", "quoted-printable", "bytes"]
_HIGH = bytes(range(0x80, 0x100))
_FEW = 6
"""Quoted-printable is shorter than base64 if fewer than one byte in so many must be encoded."""


@dataclass(frozen=True, slots=True)
class Edit:
    """What stands in place of the bytes from ``start`` to ``end``: ``new``, or these bytes encoded.

    ``decode``: the encoding that they have. ``keeps_breaks``: line ends are data; else they become CRLF.
    """

    start: int
    end: int
    how: How = "bytes"
    new: bytes = b""
    decode: str = ""
    keeps_breaks: bool = False


@dataclass(slots=True)
class Region:
    """The bytes from ``start`` on, which belong to ``entity``, and what was found in them.

    ``is_preamble``, ``is_epilogue``: they stand before the first part of a multipart, or behind the last.
    """

    entity: Entity
    start: int
    is_preamble: bool = False
    is_epilogue: bool = False
    size: int = 0
    high: int = 0
    """Bytes above 127."""
    has_long_line: bool = False
    has_nul: bool = False
    pairs: int = 0
    """CR LF; then each CR, and each LF."""
    returns: int = 0
    feeds: int = 0

    def add(self, data: bytes) -> None:
        """Take in the next bytes; CR LF is not split between two calls."""
        self.size += len(data)
        if not data.isascii():
            self.high += len(data) - len(data.translate(None, _HIGH))
        self.has_nul = self.has_nul or b"\x00" in data
        self.pairs += data.count(b"\r\n")
        self.returns += data.count(b"\r")
        self.feeds += data.count(b"\n")
        self.has_long_line = self.has_long_line or has_long_line(data)

    def edit(self) -> Edit | None:
        """Return how the body of a part must be encoded, or None if it can be sent as it is.

        Raises:
            ValueError: one line that names the part and says what is wrong with it.
        """
        if self.entity.signs_below:
            self._refuse(self._what_signed, "and a signature covers it; sign it in base64 or quoted-printable")
            return None
        if not (what := self._what):
            return None
        if not self.entity.may_be_encoded:
            self._refuse(what, "and a part of this type may not be encoded (RFC 2046 §5)")
        return self._encoded()

    def edit_of_gap(self) -> Edit | None:
        """Return the edit that leaves the region out if it cannot be sent, which no program notices.

        Raises:
            ValueError: a signature covers it.
        """
        if self.entity.signs_below or not (self.high or self._what_signed):
            return self.edit()
        return Edit(self.start, self.start + self.size)

    @property
    def _what(self) -> str | None:
        """What SMTP cannot carry, or may not carry the same to every relay."""
        if self.high:
            return "8-bit text"
        if self.entity.encoding == "binary" or (self._has_mixed_breaks and not self._is_plain_text):
            return "binary data"
        return self._what_signed

    @property
    def _what_signed(self) -> str | None:
        """What SMTP cannot carry even to a relay that offers 8BITMIME."""
        if self.has_nul:
            return "a NUL byte"
        if self.has_long_line:
            return f"a line of more than {LONGEST_LINE} bytes (RFC 5322 §2.1.1)"
        if self.returns != self.pairs and not self._is_plain_text:
            return "a CR without LF"
        return None

    @property
    def _is_plain_text(self) -> bool:
        """Whether each kind of line end means the same."""
        encoded = self.entity.encoding in {"base64", "quoted-printable"}
        return (self.entity.is_text or encoded) and not self.has_nul and not self.entity.signs_below

    @property
    def _has_mixed_breaks(self) -> bool:
        return self.returns != self.pairs or self.pairs not in {0, self.feeds}

    def _encoded(self) -> Edit:
        end, encoding = self.start + self.size, self.entity.encoding
        if encoding in {"base64", "quoted-printable"}:
            return Edit(self.start, end, "base64", decode=encoding, keeps_breaks=True)
        if self.entity.is_text and not self.has_nul and encoding != "binary":
            how: How = "quoted-printable" if self.high * _FEW < self.size else "base64"
            return Edit(self.start, end, how)
        return Edit(self.start, end, "base64", keeps_breaks=True)

    def _refuse(self, what: str | None, why: str) -> None:
        if what:
            raise ValueError(f"{self.entity} has {what}, {why}")


def has_long_line(data: bytes) -> bool:
    """Return whether a line of ``data`` has more than 998 bytes without its line end (RFC 5322 §2.1.1)."""
    lines = data.split(b"\n")
    return max(map(len, lines)) > LONGEST_LINE and any(len(one.removesuffix(b"\r")) > LONGEST_LINE for one in lines)
