"""Read address lists (RFC 5322 §3.4, RFC 6532): the standard library takes them apart, email-validator judges each.

Neither is trusted alone: the parser mends what it should refuse, so each of its defects is a refusal here, and the
validator knows no lists. ``email.utils`` is not used at all (CVE-2023-27043).

Nearly all addresses are of one plain form, which a pattern knows at a fiftieth of that cost. It is narrower than what
both accept, so that it decides nothing by itself: whatever it does not match takes the long way, and a property test
holds the two against each other.
"""

from __future__ import annotations

import re
import unicodedata
from email.errors import MessageError, NonASCIILocalPartDefect, ObsoleteHeaderDefect
from email.policy import SMTPUTF8
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from email_validator import SPECIAL_USE_DOMAIN_NAMES, EmailNotValidError, validate_email

from mailbatch.domain.message import Address

if TYPE_CHECKING:
    from collections.abc import Iterator

LONGEST_LIST = 1_000_000
"""Characters of one list that are looked at: some 40,000 addresses; more is a mistake or an attack."""
LONGEST_ENTRY = 1_000
"""Characters of one entry, its display name included."""

# One entry and its comma: a bare address, or a display name, quoted or of words, and an address in angle brackets.
# Left to the long way: whatever is encoded, escaped or commented; of addresses those beyond ASCII, with a quoted local
# part, with capitals there (the validator knows which of them mean nothing), with A-labels ("--") or but one label.
_WORD = r"[^\s\"(),.:;<>@\[\\\]=?]+(?:\.[^\s\"(),.:;<>@\[\\\]=?]*)*"
_ATOM = r"[a-z0-9!#$%&'*+/^_`{|}~-]+"
_LABEL = "[A-Za-z0-9](?:[A-Za-z0-9]|-(?!-)){0,61}(?<!-)"
_PLAIN = re.compile(
    rf" *+(?:(?:\"(?P<quoted>[^\"\\=?]*)\"|(?P<words>{_WORD}(?: +{_WORD})*))? *(?<!\.)(?P<angle><))?"
    rf"(?P<local>{_ATOM}(?:\.{_ATOM})*)@(?P<domain>(?:{_LABEL}\.)+[A-Za-z]{{2,63}})"
    rf"(?(angle)>) *(?:,|$)",
)
_LONGEST_LOCAL = 64
_LONGEST_DOMAIN = 180
_BARE = re.compile(r"[^\s\"(),:;<>@\[\\\]=?]+@[^\s\"(),:;<>@\[\\\]=?]+")
# Commas outside of quoted strings, comments, angle brackets and domain literals part the entries. Whatever this
# tears apart wrongly is no address by itself and is refused below.
_PIECE = re.compile(r'"(?:[^"\\]|\\.)*"?|\((?:[^()\\]|\\.)*\)?|<[^<>]*>?|.', re.DOTALL)
# Under these names mail goes no further than the house, and there it is welcome: test relays, intranets.
_STAND_IN = ".example.org"
_LONGEST_SHOWN = 120
_LONGEST_KEPT = 1_000
_UNPRINTABLE = re.compile("[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
# RFC 5322 §4.1: a full stop in a display name ("John Q. Public <…>") is obsolete, and everywhere.
_HARMLESS = ("period in 'phrase'", "comment found without atom")


def read_addresses(text: str) -> list[Address]:
    """Answer the mailboxes of ``text`` in its order; domains come as A-labels (RFC 5890).

    Raises:
        ValueError: one line that names the first entry that is no address and says why.
    """
    return list(_remembered(text) if len(text) <= _LONGEST_KEPT else _read(text))


def _read(text: str) -> tuple[Address, ...]:
    if len(text) > LONGEST_LIST:
        raise ValueError(f"the list has {len(text)} characters; at most {LONGEST_LIST} are read")
    if text.isprintable() and (plain := _plain(text)):
        return plain
    _refuse_unprintable(text)
    return tuple(_address(entry) for entry in _entries(text))


# Senders repeat from mail to mail; long lists would only fill the memory.
_remembered = lru_cache(maxsize=1024)(_read)


def _plain(text: str) -> tuple[Address, ...] | None:
    """Answer the mailboxes of ``text`` if all of them are of the plain form."""
    addresses, at = [], 0
    while True:
        found = _PLAIN.match(text, at)
        if not found:
            return None
        quoted, words, _, local, domain = found.groups()
        if len(local) > _LONGEST_LOCAL or len(domain) > _LONGEST_DOMAIN or found.end() - at > LONGEST_ENTRY:
            return None
        addresses.append(Address(" ".join((quoted or words or "").split()), local, domain.lower()))
        at = found.end()
        if at == len(text):
            return tuple(addresses) if text[-1] != "," else None


def _entries(text: str) -> Iterator[str]:
    """Part a list at its commas; a list has at least one entry, and an empty one is an entry."""
    entry: list[str] = []
    for piece in _PIECE.findall(text):
        if piece == ",":
            yield "".join(entry)
            entry = []
        else:
            entry.append(piece)
    yield "".join(entry)


def _address(entry: str) -> Address:
    entry = entry.strip()
    if not entry:
        raise ValueError("has an empty entry; look for a comma too many")
    if _BARE.fullmatch(entry):
        return _judged(entry, "", entry)
    return _parsed(entry)


def _parsed(entry: str) -> Address:
    if len(entry) > LONGEST_ENTRY:
        raise _no_address(entry, f"it has {len(entry)} characters; at most {LONGEST_ENTRY} are read")
    try:
        header: Any = SMTPUTF8.header_factory("To", entry)
    except (MessageError, ValueError, LookupError, RecursionError, AttributeError, TypeError) as error:
        raise _no_address(entry, "it cannot be parsed (RFC 5322 §3.4)") from error
    defects = [d for d in header.defects if not _is_harmless(d)]
    if any(group.display_name is not None for group in header.groups):
        raise _no_address(entry, "groups are not supported; list the addresses themselves")
    if "@" not in entry:
        raise _no_address(entry, "it has no @ and domain (a name with a comma in it needs quotes)")
    if defects or len(header.addresses) != 1:
        raise _no_address(entry, f"{defects[0]}" if defects else "it is not one mailbox")
    [found] = header.addresses
    _refuse_unprintable(found.display_name)
    if found.addr_spec not in entry:
        # Comments, white space or encoded words inside the address itself: legal once, an attack today.
        raise _no_address(entry, "write the address plainly, as local@domain")
    return _judged(entry, " ".join(found.display_name.split()), found.addr_spec)


def _judged(entry: str, display_name: str, addr_spec: str) -> Address:
    stand_in = _STAND_IN if addr_spec.rpartition("@")[2].rpartition(".")[2].lower() in SPECIAL_USE_DOMAIN_NAMES else ""
    try:
        valid = validate_email(
            addr_spec + stand_in,
            strict=True,
            check_deliverability=False,
            globally_deliverable=False,
            allow_quoted_local=True,
        )
    except EmailNotValidError as error:
        raise _no_address(entry, str(error)) from error
    if unicodedata.normalize("NFKC", valid.local_part) != valid.local_part:
        raise _no_address(entry, "its local part has look-alike characters (not in Unicode form NFKC)")
    return Address(display_name, valid.local_part, (valid.ascii_domain or "").removesuffix(stand_in))


def _is_harmless(defect: Exception) -> bool:
    if isinstance(defect, NonASCIILocalPartDefect):
        return True
    return isinstance(defect, ObsoleteHeaderDefect) and str(defect) in _HARMLESS


def _refuse_unprintable(text: str) -> None:
    """Refuse control characters, line breaks of any kind and lone surrogates, before and after decoding."""
    if found := _UNPRINTABLE.search(text):
        raise _no_address(text, f"it has the character U+{ord(found[0]):04X}, which no address may have")


def _no_address(entry: str, why: str) -> ValueError:
    shown = "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in entry[:_LONGEST_SHOWN])
    return ValueError(f'"{shown}{"…" if len(entry) > _LONGEST_SHOWN else ""}" is no address: {why}')
