"""Messages such as people and broken programs write, made from a seed, so that they need no data of others.

Some are what they should be; others are cut off, mislabelled, or made to harm. The standard library's own test data
come with them where Python is installed with its tests.
"""

from __future__ import annotations

import importlib.util
import random
from base64 import encodebytes
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

HEAD = b"From: ann@example.org\nTo: bob@example.org\nDate: Sat, 28 Nov 2026 12:00:00 +0000\nSubject: %d\n"
TEXTS = [
    ("utf-8", "Grüße aus Köln.\nFrom here on\n.\n..\n\n"),
    ("iso-8859-1", "Café, naïve, Ærø\n"),
    ("koi8-r", "Привет, мир\n"),
    ("shift_jis", "日本語のメール\n"),
    ("gb18030", "中文邮件\n"),
    ("utf-16", "two bytes each\n"),
    ("us-ascii", "Plain.\n"),
    ("utf-8", "🎉 " * 90 + "\n"),
    ("utf-8", "x" * 1200 + "\n"),
    ("utf-8", ""),
]
ENCODINGS = (b"7bit", b"8bit", b"binary", b"base64", b"quoted-printable", b"x-unknown", b"")
TYPES = (b"text/plain", b"text/html", b"text/calendar; method=REQUEST", b"application/pdf; name=a.pdf", b"image/png")


def corpus(seed: int, count: int) -> dict[str, bytes]:
    """Return ``count`` messages by their names: the library's, and made ones of each kind in turn."""
    made = _library_data()
    drawn = random.Random(seed)  # noqa: S311 - the same messages each time
    kinds = list(KINDS.items())
    for n in range(count - len(made)):
        name, make = kinds[n % len(kinds)]
        message = HEAD % n + make(drawn)
        made[f"{n}-{name}"] = message.replace(b"\n", b"\r\n") if drawn.random() < 0.5 else message
    return made


def _library_data() -> dict[str, bytes]:
    """Return the messages with which the standard library tests its own parser, where it is installed with them."""
    found = importlib.util.find_spec("test")
    places = list(found.submodule_search_locations or ()) if found else []
    paths = sorted(path for place in places for path in Path(place, "test_email", "data").glob("*.txt"))
    return {path.stem: path.read_bytes() for path in paths}


def _text(drawn: random.Random) -> bytes:
    """A body in one charset, labelled with it or with another."""
    charset, text = drawn.choice(TEXTS)
    label = charset if drawn.random() < 0.7 else drawn.choice(TEXTS)[0]
    return _part(drawn, b"text/plain; charset=" + label.encode(), text.encode(charset, "replace"))


def _part(drawn: random.Random, kind: bytes, content: bytes) -> bytes:
    """A header and a body; the encoding says what it is, or not."""
    encoding = drawn.choice(ENCODINGS)
    head = b"Content-Type: " + kind + b"\n" + (b"Content-Transfer-Encoding: " + encoding + b"\n" if encoding else b"")
    body = encodebytes(content) if encoding == b"base64" else content
    if encoding == b"quoted-printable":
        body = content.replace(b"=", b"=3D")
    return head + b"\n" + body


def _attached(drawn: random.Random) -> bytes:
    """A multipart of texts and binary data, with a text before and behind its parts."""
    parts = [
        _text(drawn),
        *(_part(drawn, drawn.choice(TYPES), drawn.randbytes(300)) for _ in range(drawn.randrange(4))),
    ]
    return _multipart(b"mixed", b"b%d" % drawn.randrange(10**6), parts)


def _multipart(subtype: bytes, boundary: bytes, parts: list[bytes]) -> bytes:
    between = b"\n--" + boundary + b"\n"
    head = b"MIME-Version: 1.0\nContent-Type: multipart/" + subtype + b'; boundary="' + boundary + b'"\n\npreamble'
    return head + between + between.join(parts) + b"\n--" + boundary + b"--\nepilogue\n"


def _alternative(drawn: random.Random) -> bytes:
    related = _multipart(
        b"related", b"r=_%d" % drawn.randrange(99), [_text(drawn), _part(drawn, b"image/png", b"\x89PNG")]
    )
    return _multipart(b"alternative", b"a b'()+_,-./:=?", [_text(drawn), related])


def _inside(drawn: random.Random) -> bytes:
    """A message inside of another, some in an encoding that it may not have."""
    return b"Content-Type: message/rfc822\n\n" + HEAD % 1 + drawn.choice([_text, _attached])(drawn)


def _deep(drawn: random.Random) -> bytes:
    """Fifty parts inside each other."""
    found = _text(drawn)
    for n in range(50):
        found = _multipart(b"mixed", b"deep%d" % n, [found])
    return found


def _cut_off(drawn: random.Random) -> bytes:
    """A message of which the end is missing."""
    whole = drawn.choice([_attached, _alternative, _inside])(drawn)
    return whole[: drawn.randrange(len(whole))]


def _broken_boundaries(drawn: random.Random) -> bytes:
    """Boundaries that are missing, doubled, or of another part."""
    whole = _attached(drawn)
    boundary = whole.partition(b'boundary="')[2].partition(b'"')[0]
    other = drawn.choice([b"", b"other", boundary + b"x", boundary[:-1], boundary + b"--\n--" + boundary])
    return whole.replace(b"--" + boundary, b"--" + other, drawn.randrange(1, 4))


def _bare_returns(drawn: random.Random) -> bytes:
    return _attached(drawn).replace(b"\n", b"\r", drawn.randrange(1, 40))


def _nuls(drawn: random.Random) -> bytes:
    """NUL bytes in texts and data. In base64 they mean nothing, and Python's reader then decodes nothing."""
    while b"base64" in (attached := _attached(drawn)):
        pass
    whole = bytearray(attached)
    for _ in range(3):
        whole[drawn.randrange(len(whole) // 2, len(whole))] = 0
    return bytes(whole)


def _noise(drawn: random.Random) -> bytes:
    """A message in which some bytes are others."""
    whole = bytearray(_alternative(drawn))
    for _ in range(drawn.randrange(1, 9)):
        whole[drawn.randrange(len(whole))] = drawn.randrange(256)
    return bytes(whole)


def _large_header(drawn: random.Random) -> bytes:
    """Fields of forty kilobytes, in words that fit on a line, or not."""
    word = b"w" * drawn.choice([5, 70, 900, 996, 1100])
    return b"X-Long: " + b" ".join([word] * (40_000 // len(word))) + b"\n" + b"X: y\n" * 400 + _text(drawn)


def _odd_header(drawn: random.Random) -> bytes:
    odd = [
        "X-Utf: grüße\n".encode(),
        b"X-Latin: gr\xfc\n",
        b"X Blank: y\n",
        b": nothing\n",
        b"X-Empty:\n",
        b" lone fold\n",
    ]
    return drawn.choice(odd) + b"Content-Type: text/plain; charset\nContent-Type: ;\n" + b"\nhi\n"


def _under_dkim(drawn: random.Random) -> bytes:
    """A message whose header and body a signature covers."""
    body = drawn.choice([_text, _attached])(drawn)
    return b"DKIM-Signature: v=1; a=rsa-sha256; d=example.org; s=x;\n bh=eA==; b=eQ==\n" + body


KINDS: dict[str, Callable[[random.Random], bytes]] = {
    "text": _text,
    "attached": _attached,
    "alternative": _alternative,
    "inside": _inside,
    "deep": _deep,
    "cut off": _cut_off,
    "broken boundaries": _broken_boundaries,
    "bare returns": _bare_returns,
    "nuls": _nuls,
    "noise": _noise,
    "large header": _large_header,
    "odd header": _odd_header,
    "under dkim": _under_dkim,
}
