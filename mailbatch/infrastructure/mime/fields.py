"""Writes extra header fields: each known one by its grammar, all others as free text.

Programs read the known ones, and do not decode encoded words (RFC 2047). So an encoded word is written only where the
grammar allows it: in names, phrases and comments. A value that cannot be written like this is refused.
"""

from __future__ import annotations

import json
import re
from functools import lru_cache
from typing import TYPE_CHECKING, TypeAlias
from urllib.parse import quote

from mailbatch.domain.address_list import parted
from mailbatch.domain.errors import CannotCompose
from mailbatch.infrastructure.mime.addresses import ascii_domain, read_addresses
from mailbatch.infrastructure.mime.headers import (
    LONGEST_LINE,
    address_field,
    ascii_field,
    in_brackets,
    list_field,
    phrase_text,
    text_field,
)
from mailbatch.infrastructure.mime.tokens import comment, phrase, split_entry
from mailbatch.infrastructure.mime.words import FOLD, encoded_words

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from mailbatch.infrastructure.mime.tokens import Piece

    Grammar: TypeAlias = Callable[[str, Sequence[str]], list[str]]

_LONGEST_KEPT = 500
_LONGEST_SHOWN = 80
_URI = r"[A-Za-z][A-Za-z0-9+.-]*:(?:[!#$&-;=?-Z\[\]_a-z~]|%[0-9A-Fa-f]{2})+"
_URIS = re.compile(f"<{_URI}>(?:, <{_URI}>)*")
_BARE_URI = re.compile(r'[A-Za-z][A-Za-z0-9+.-]*:[^\s<>"]+')
# RFC 3986 §2.2, and the percent sign of characters that are encoded already.
_URI_CHARACTERS = "!#$%&'()*+,/:;=?@[]~"
_STRAY_PERCENT = re.compile("%(?![0-9A-Fa-f]{2})")
_BEYOND_ASCII = re.compile("[^\x00-\x7f]")
_ID = re.compile(r"<[^<>]*>|[^\s<>,]+|[<>]")
_MESSAGE_ID = re.compile(r"<[!-;=?-~]+>|[!-;=?-~]+@[!-;=?-~]+")
_LIST_ID = re.compile(r"[!-;=?-~]+")
_HOW_URI = "write <https://example.org/x>, <mailto:ann@example.org>, each in angle brackets"
_HOW_ID = "write Name <news.example.org>, the id between the brackets in ASCII"


def header_fields(name: str, value: str | Sequence[str]) -> Sequence[str]:
    """Return the fields ``name`` with ``value``, folded, each ending with CRLF.

    Each of several values becomes a field. Values of a list (addresses, URIs, message ids, keywords) become one field,
    because a mail has such a field once (RFC 5322 §3.6, RFC 2369 §3). An empty text makes no field if the grammar is
    known.

    Raises:
        ValueError: one line that says what to write.
    """
    if isinstance(value, str):
        return _remembered(name, value) if len(value) <= _LONGEST_KEPT else _written(name, (value,))
    return _written(name, value)


def unwritable(headers: Mapping[str, str | Sequence[str]]) -> list[str]:
    """Return one line for each of ``headers`` that cannot be written. Names and texts were checked before."""
    problems = []
    for name, value in headers.items():
        try:
            header_fields(name, value)
        except ValueError as error:
            problems.append(f"headers: {name}: {error}")
    return problems


@lru_cache(maxsize=1024)
def _remembered(name: str, value: str) -> Sequence[str]:
    """Return the fields from a cache, because many mails have the same."""
    return tuple(_written(name, (value,)))


def _written(name: str, values: Sequence[str]) -> Sequence[str]:
    grammar = _GRAMMARS.get(name.lower())
    if grammar is None:
        return [text_field(name, value) for value in values]
    given = [value.replace("\t", " ") for value in values if value.strip()]
    try:
        fields = grammar(name, given) if given else []
    except CannotCompose as error:
        raise ValueError("; ".join(error.errors)) from None
    longest = max((len(line) for field in fields for line in field.split("\r\n")), default=0)
    if longest > LONGEST_LINE:
        raise ValueError(f"has a part of {longest} characters; a line holds {LONGEST_LINE} (RFC 5322 §2.1.1)")
    return fields


# --- the grammars --------------------------------------------------------------------------------------------------


def _ascii(name: str, values: Sequence[str]) -> list[str]:
    """Words for programs; each value becomes a field."""
    return [ascii_field(name, value) for value in values]


def _json(name: str, values: Sequence[str]) -> list[str]:
    """JSON for a provider; each value becomes a field, characters beyond ASCII are escaped (RFC 8259 §7)."""
    for value in values:
        try:
            json.loads(value)
        except (ValueError, RecursionError):
            raise ValueError(f"{_shown(value)} is no JSON") from None
    return _ascii(name, [_BEYOND_ASCII.sub(lambda it: json.dumps(it[0])[1:-1], value) for value in values])


def _addresses(name: str, values: Sequence[str]) -> list[str]:
    """An address list (RFC 5322 §3.4)."""
    return [address_field(name, read_addresses(", ".join(values)))]


def _uris(name: str, values: Sequence[str]) -> list[str]:
    """URIs in angle brackets, which may have comments (RFC 2369 §2). An IRI becomes a URI (RFC 3987 §3.1)."""
    text = ", ".join(values)
    items = text.split(", ") if _URIS.fullmatch(text) else [_uri_item(name, entry.strip()) for entry in parted(text)]
    return [list_field(name, items, ", ")]


def _message_ids(name: str, values: Sequence[str]) -> list[str]:
    """Message ids (RFC 5322 §3.6.4); missing brackets are added."""
    ids = _ID.findall(" ".join(values))
    for one in ids:
        if not _MESSAGE_ID.fullmatch(one):
            raise ValueError(f"{_shown(one)} is no message id; write <id@example.org> in ASCII, with blanks between")
    return [list_field(name, [f"<{one.strip('<>')}>" for one in ids], " ")]


def _list_id(name: str, values: Sequence[str]) -> list[str]:
    """A phrase, and an id in angle brackets (RFC 2919 §3); missing brackets are added."""
    if len(values) > 1:
        raise ValueError("may occur once in a mail; give one text")
    try:
        before, angle, after = split_entry(values[0])
        words, inner = (phrase(before), angle.strip()) if angle is not None else ("", values[0].strip())
    except ValueError as error:
        raise ValueError(f"{_shown(values[0])} is no list id ({error}); {_HOW_ID}") from None
    if after or not _LIST_ID.fullmatch(inner):
        raise ValueError(f"{_shown(values[0])} is no list id; {_HOW_ID}")
    room = len(name) + 2
    return [f"{name}: {in_brackets(phrase_text(words, room), inner, room) if words else f'<{inner}>'}\r\n"]


def _phrases(name: str, values: Sequence[str]) -> list[str]:
    """Phrases with commas between (RFC 5322 §3.6.5)."""
    items = [_phrase_of(entry.strip()) for entry in parted(", ".join(values)) if entry.strip()]
    written = [phrase_text(item, len(name) + 2) for item in items]
    if "".join(written) != "".join(items):
        # RFC 2047 §5 (3): there must be a blank between an encoded word and a comma.
        return [f"{name}: {f' ,{FOLD}'.join(written)}\r\n"]
    return [list_field(name, written, ", ")]


_GRAMMARS: Mapping[str, Grammar] = {
    **dict.fromkeys(
        (
            *("errors-to", "return-receipt-to", "disposition-notification-to", "x-confirm-reading-to"),
            *("mail-followup-to", "mail-reply-to", "author", "apparently-to", "abuse-reports-to", "x-complaints-to"),
        ),
        _addresses,
    ),
    **dict.fromkeys(
        (
            *("list-help", "list-unsubscribe", "list-subscribe", "list-post", "list-owner", "list-archive"),
            "archived-at",
        ),
        _uris,
    ),
    **dict.fromkeys(("references", "in-reply-to", "supersedes", "obsoletes", "original-message-id"), _message_ids),
    "list-id": _list_id,
    "keywords": _phrases,
    **dict.fromkeys(
        ("x-smtpapi", "x-msys-api", "x-mailgun-variables", "x-mc-mergevars", "x-mc-metadata"),
        _json,
    ),
    **dict.fromkeys(
        (
            *("list-unsubscribe-post", "auto-submitted", "precedence", "importance", "priority", "sensitivity"),
            *("x-priority", "x-msmail-priority", "x-auto-response-suppress", "feedback-id", "tls-required"),
            *("content-language", "accept-language", "mt-priority", "bimi-selector", "autocrypt"),
            *("expires", "expiry-date", "reply-by", "deferred-delivery", "latest-delivery-time"),
        ),
        _ascii,
    ),
}


# --- their parts ---------------------------------------------------------------------------------------------------


def _uri_item(name: str, entry: str) -> str:
    if _BARE_URI.fullmatch(entry):
        return f"<{_uri(entry)}>"
    try:
        before, angle, after = split_entry(entry)
        comments = [_comment(piece) for piece in (*before, *after) if piece.kind == "comment"]
        words = [piece.raw for piece in (*before, *after) if piece.kind != "comment"]
    except ValueError as error:
        raise ValueError(f"{_shown(entry)} is no URI ({error}); {_HOW_URI}") from None
    # RFC 2369 §3.4: NO means that nobody may write to the list.
    nobody = angle is None and words == ["NO"] and name.lower() == "list-post"
    if not nobody and (angle is None or words):
        raise ValueError(f"{_shown(entry)} is no URI; {_HOW_URI}")
    return FOLD.join(["NO" if nobody else f"<{_uri((angle or '').strip())}>", *comments])


def _uri(iri: str) -> str:
    scheme, colon, rest = iri.partition(":")
    if not (colon and rest and scheme.isascii() and _BARE_URI.fullmatch(f"{scheme}:x")):
        raise ValueError(f"{_shown(iri)} is no URI; {_HOW_URI}")
    for character in iri:
        if character.isspace():
            raise ValueError(f"{_shown(iri)} has a blank; write {quote(character, safe='')} in its place")
        if not character.isprintable():
            raise ValueError(f"{_shown(iri)} has the character U+{ord(character):04X}, which cannot be seen; remove it")
    if not rest.isascii():
        rest = _with_ascii_domains(scheme.lower(), rest)
    return f"{scheme}:{quote(_STRAY_PERCENT.sub('%25', rest), safe=_URI_CHARACTERS)}"


def _with_ascii_domains(scheme: str, rest: str) -> str:
    """Write hosts as A-labels (RFC 3987 §3.1), because not all programs read percent-encoding there."""
    if scheme == "mailto":
        addresses, mark, query = rest.partition("?")
        return f"{','.join(map(_with_ascii_domain, addresses.split(',')))}{mark}{query}"
    if not rest.startswith("//"):
        return rest
    end = next((n for n, character in enumerate(rest) if n > 1 and character in "/?#"), len(rest))
    user, at, place = rest[2:end].rpartition("@")
    host, colon, port = place.partition(":")
    return f"//{user}{at}{host if host.isascii() else ascii_domain(host)}{colon}{port}{rest[end:]}"


def _with_ascii_domain(address: str) -> str:
    local, at, domain = address.rpartition("@")
    return f"{local}{at}{domain if domain.isascii() else ascii_domain(domain)}"


def _comment(piece: Piece) -> str:
    text = comment(piece)
    if text.isascii() and text.isprintable():
        return piece.raw
    return f"({encoded_words(text, len(' (') + len(')'))})"


def _phrase_of(entry: str) -> str:
    try:
        before, angle, _ = split_entry(entry)
        return phrase(before) if angle is None else entry
    except ValueError:
        return entry


def _shown(text: str) -> str:
    shown = "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in text[:_LONGEST_SHOWN])
    return f'"{shown}{"…" if len(text) > _LONGEST_SHOWN else ""}"'
