"""Hides the password of a login in what a relay replies to it."""

from __future__ import annotations

import base64
import re

from mailbatch.domain.redaction.urls import HIDDEN

_WORD = 4
"""Characters below which a secret is hidden only where it stands by itself."""
_RUN = 6
"""Characters of base64 from which on a part of it is looked for."""

_GAP = r"\s{0,3}"
"""Where a relay may break a line."""


def without_secrets(text: str, username: str, password: str) -> str:
    """Return ``text`` without the parts of a login that a relay repeats, as it was sent or encoded in another way.

    It finds the password and the response of AUTH PLAIN, in upper or lower case, also broken over lines: each
    character plain, percent-encoded (RFC 3986), even twice, as an entity, or escaped; all in hexadecimal; all in
    base64, from five bytes on also inside a longer text. A password of up to three characters is hidden only where it
    stands alone, because such a text occurs in many words.
    """
    if not password:
        return text
    secrets = (f"\0{username}\0{password}", password)
    written = [pattern for secret in secrets for way in _cases(secret) for pattern in (*_in_base64(way), _in_hex(way))]
    for pattern in (*written, *map(_spelt, _cases(password))):
        text = pattern.sub(HIDDEN, text)
    return text


def _cases(secret: str) -> list[str]:
    """Return ``secret`` and its other cases: a relay may change the case before it encodes."""
    return list(dict.fromkeys((secret, secret.upper(), secret.lower())))


def _spelt(password: str) -> re.Pattern[str]:
    alone = len(password) < _WORD
    signs = ("" if alone else _GAP).join(_sign(sign) for sign in password)
    return re.compile(rf"(?<![\w.]){signs}(?!\.?\w)" if alone else signs, re.IGNORECASE)


def _sign(sign: str) -> str:
    """Return a pattern for one character: plain, percent-encoded, quoted-printable, an entity, or escaped."""
    octets = sign.encode("utf-8", "surrogatepass")
    encoded = "".join(f"(?:%(?:25)*|=){octet:02x}" for octet in octets)
    escaped = "".join(rf"\\x{octet:02x}" for octet in octets)
    code = ord(sign)
    blank = r"|\+" if sign == " " else ""
    return rf"(?:\\?{re.escape(sign)}|{encoded}|{escaped}|\\u{code:04x}|&#0*{code};|&#x0*{code:x};{blank})"


def _in_hex(secret: str) -> re.Pattern[str]:
    octets = [f"{octet:02x}" for octet in secret.encode("utf-8", "surrogatepass")]
    pairs = r"[\s:,-]{0,3}(?:0x|\\x)?".join(octets)
    return re.compile(rf"(?<![0-9a-f]){pairs}(?![0-9a-f])" if len(octets) < _WORD else pairs, re.IGNORECASE)


def _in_base64(secret: str) -> list[re.Pattern[str]]:
    """Return patterns for the base64 of ``secret``: alone, and at each offset inside a longer text."""
    octets = secret.encode("utf-8", "surrogatepass")
    whole = base64.b64encode(octets).decode().rstrip("=")
    found = [rf"(?<![A-Za-z0-9+/_-]){_base64_signs(whole)}(?:=|%3d)*(?![A-Za-z0-9+/_-])"]
    for before in range(3):
        cut = base64.b64encode(bytes(before) + octets).decode().rstrip("=")
        # The characters at both ends also hold bits of the neighbouring bytes.
        first, last = (before * 8 + 5) // 6, (before + len(octets)) * 8 // 6
        if last - first >= _RUN:
            found.append(f"{_base64_signs(cut[first:last])}(?:=|%3d)*")
    return [re.compile(pattern, re.IGNORECASE) for pattern in found]


def _base64_signs(text: str) -> str:
    """Return a pattern for ``text`` in the alphabets of RFC 4648, sections 4 and 5, perhaps percent-encoded."""
    return _GAP.join({"+": r"(?:[+-]|%2b)", "/": r"(?:[/_]|%2f)"}.get(sign, sign) for sign in text)
