"""Reads address lists (RFC 5322 §3.4, RFC 6532): ``tokens`` splits them, email-validator checks each address.

The standard library's parser is the measure in the tests, but is not used: it repairs what it should refuse, leaves out
comments, and takes seconds for 50 kB of them. ``email.utils`` is worse (CVE-2023-27043).

Nearly all addresses have one plain form, which a pattern recognises at a fiftieth of the cost. The pattern matches less
than the full reader accepts, and a text that it does not match goes to the full reader. A property test compares the
two.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from typing import TYPE_CHECKING
from uuid import UUID

from email_validator import SPECIAL_USE_DOMAIN_NAMES, EmailNotValidError, validate_email

from mailbatch.application.sending.envelope_sender import read_envelope_sender
from mailbatch.domain.address_list import ADDR_SPEC, QUOTED, parted
from mailbatch.domain.message import Address
from mailbatch.domain.return_path import ReturnPath, return_path_problem
from mailbatch.infrastructure.mime.tokens import comment, looks_encoded, phrase, split_entry, unprintable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mailbatch.infrastructure.mime.tokens import Piece

LONGEST_LIST = 1_000_000
"""The longest list in characters: some 40,000 addresses; a longer one is a mistake or an attack."""
LONGEST_ENTRY = 1_000
"""The longest entry in characters, with its display name."""

# One entry and its comma: a bare address, or a display name, quoted or of words, and an address in angle brackets.
# Left to the full reader: encoded, escaped or commented text; addresses beyond ASCII, with a quoted local part, with
# capitals there (the validator knows which of them mean nothing), with A-labels ("--") or only one label.
_WORD = r"[^\s\"(),.:;<>@\[\\\]=?]+(?:\.[^\s\"(),.:;<>@\[\\\]=?]*)*"
_ATOM = r"[a-z0-9!#$%&'*+/^_`{|}~-]+"
_LABEL = "[A-Za-z0-9](?:[A-Za-z0-9]|-(?!-)){0,61}(?<!-)"
_PLAIN = re.compile(
    rf" *+(?:(?:\"(?P<quoted>[^\"\\=?]*)\"|(?P<words>{_WORD}(?: +{_WORD})*))? *(?<!\.)(?P<angle><))?"
    rf"(?P<local>{_ATOM}(?:\.{_ATOM})*)@(?P<domain>(?:{_LABEL}\.)+[A-Za-z]{{2,63}})"
    rf"(?(angle)>) *(?:,|$)",
)
# RFC 5321 §4.5.3.1.3. Its limit of 64 for the local part is not applied, because longer bounce addresses work.
_LONGEST_SPEC = 254
_LONGEST_DOMAIN = 180
_SPECIAL = re.compile(r"[,:;<>@\[\\\])]")
_QUOTED = re.compile(QUOTED)
_WHOLLY_QUOTED = re.compile('["\'`\u00ab\u00b4\u2018-\u201f]+([^<>()"]*@[^<>()"]*?)["\'`\u00bb\u00b4\u2018-\u201f]+')
_MISTAKES = (
    (re.compile("(?:^|<) *mailto:", re.IGNORECASE), "write the address without mailto:"),
    (re.compile(r"@\["), "write a domain after the @, not an address in brackets"),
    (re.compile("\uff20"), "write @ in place of \uff20 (U+FF20)"),
    (
        re.compile("^[^<]*:.*<"),
        "groups are not supported; list the addresses themselves (a name with a colon in it needs quotes)",
    ),
    (re.compile("^[^<]*:"), "groups are not supported; list the addresses themselves"),
)
_DOTTED = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~.-]+")
# Characters that word processors and telephones write in place of the typed ones.
_TYPED = {
    **dict.fromkeys("\u2018\u2019\u201a\u201b\u2032\u00b4\u02bc", "'"),
    **dict.fromkeys("\u201c\u201d\u201e\u201f\u2033", '"'),
    **dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2015\u2212", "-"),
    "\u2026": "...",
}
_TYPOGRAPHIC = re.compile(f"[{''.join(_TYPED)}]")
_CURLY = re.compile("[\u201c\u201d\u201e]")
# The validator refuses domains for special use (.test, .local), which test relays and intranets use. It is given the
# address with this name in their place.
_STAND_IN = "org"
_LONGEST_SHOWN = 120
_LONGEST_KEPT = 1_000


def read_addresses(text: str) -> list[Address]:
    """Return the mailboxes of ``text`` in its order; domains are A-labels (RFC 5890).

    A comment in a name is a part of the name, as in ``ACME (UK) Ltd <a@example.org>``; a comment beside a bare address
    is its name, as in ``a@example.org (Ann)``.

    Raises:
        ValueError: one line that names the first entry that is no address, says why, and what to write.
    """
    return list(_remembered(text) if len(text) <= _LONGEST_KEPT else _read(text))


def read_return_path(text: str) -> str:
    """Return the envelope sender that ``text`` makes for some reservation.

    Raises:
        ValueError: one line that says what to write.
    """
    if wrong := return_path_problem(text):
        raise ValueError(wrong)
    sample = ReturnPath(text, "secret").address(UUID(int=0))
    address = read_envelope_sender(sample or "<>", read_addresses)
    if address.lower() != sample.lower():
        raise ValueError(f"must be written plainly, as bounces+{{id}}@{address.rpartition('@')[2]}")
    return address


def ascii_domain(domain: str) -> str:
    """Return ``domain`` as A-labels (RFC 5890).

    Raises:
        ValueError: it is no domain.
    """
    try:
        return _validated(domain, "", f"a@{domain}").domain
    except ValueError:
        raise ValueError(f'"{_shown(domain)}" is no domain') from None


def _read(text: str) -> tuple[Address, ...]:
    if len(text) > LONGEST_LIST:
        raise ValueError(f"the list has {len(text)} characters; at most {LONGEST_LIST} are read")
    if text.isprintable() and (plain := _plain(text)):
        return plain
    if found := unprintable(text):
        raise _no_address(text, f"it has the character U+{ord(found):04X}, which no address may have")
    entries = [entry.strip() for entry in parted(text)]
    return tuple(_address(entry, entries[n + 1 : n + 4]) for n, entry in enumerate(entries))


# Many mails have the same sender; long lists would only fill the memory.
_remembered = lru_cache(maxsize=1024)(_read)


def _plain(text: str) -> tuple[Address, ...] | None:
    """Return the mailboxes of ``text`` if all of them have the plain form, else None."""
    addresses, at = [], 0
    while True:
        found = _PLAIN.match(text, at)
        if not found:
            return None
        quoted, words, _, local, domain = found.groups()
        if (
            len(local) + 1 + len(domain) > _LONGEST_SPEC
            or len(domain) > _LONGEST_DOMAIN
            or found.end() - at > LONGEST_ENTRY
        ):
            return None
        addresses.append(Address(" ".join((quoted or words or "").split()), local, domain.lower()))
        at = found.end()
        if at == len(text):
            return tuple(addresses) if text[-1] != "," else None


def _address(entry: str, following: Sequence[str] = ()) -> Address:
    """Read one entry. ``following``: the next entries; a comma may have cut this one off from them."""
    if not entry:
        raise ValueError("has an empty entry; look for a comma too many")
    if len(entry) > LONGEST_ENTRY:
        raise _no_address(entry, f"it has {len(entry)} characters; at most {LONGEST_ENTRY} are read")
    if quoted := _WHOLLY_QUOTED.fullmatch(entry):
        raise _no_address(entry, f"write it without quotation marks: {_shown(quoted[1])}")
    if "@" not in entry:
        raise _no_address(entry, _mistake(entry) or _no_domain(entry, following))
    try:
        before, angle, after = split_entry(entry)
        if angle is None:
            name, addr_spec = _bare_address(before)
        else:
            name, addr_spec = _display_name(before, angle.strip(), after), angle.strip()
    except ValueError as error:
        raise _no_address(entry, _mistake(entry) or str(error)) from None
    return _validated(entry, name, addr_spec)


def _bare_address(pieces: Sequence[Piece]) -> tuple[str, str]:
    """Return the text of the comments around a bare address, and the address."""
    at = [n for n, piece in enumerate(pieces) if piece.kind != "comment"]
    inner = pieces[at[0] : at[-1] + 1] if at else ()
    if len(inner) != len(at) or any(piece.spaced for piece in inner[1:]):
        raise ValueError(_not_together(pieces))
    comments = (comment(piece) for piece in pieces if piece.kind == "comment")
    return " ".join(comments), _plainly("".join(piece.raw for piece in inner))


def _display_name(name: Sequence[Piece], addr_spec: str, after: Sequence[Piece]) -> str:
    """Return the display name before the angle brackets, with comments after them."""
    _plainly(addr_spec)
    if any(piece.kind != "comment" for piece in after):
        raise ValueError("it has text behind the angle bracket; put a comma between two addresses")
    for piece in name:
        found = _SPECIAL.search(piece.raw) if piece.kind == "word" else None
        if found and not _is_same(piece.raw, addr_spec):
            text = "".join(f"{' ' if one.spaced else ''}{one.raw}" for one in name).strip()
            raise ValueError(f"a name with {found[0]} in it needs quotes{_example(text, addr_spec)}")
    return phrase([*name, *after])


def _plainly(addr_spec: str) -> str:
    if not ADDR_SPEC.fullmatch(addr_spec) or looks_encoded(addr_spec):
        raise ValueError("write the address plainly, as local@domain")
    return addr_spec


def _is_same(word: str, addr_spec: str) -> bool:
    """Whether a name is the address itself: many programs write it so, Outlook in single quotes."""
    return word.strip("'").casefold() == addr_spec.casefold()


def _validated(entry: str, display_name: str, addr_spec: str) -> Address:
    local, _, domain = addr_spec.rpartition("@")
    if found := _TYPOGRAPHIC.search(local):
        typed = _TYPOGRAPHIC.sub(lambda one: _TYPED[one[0]], addr_spec)
        raise _no_address(entry, f"it has {found[0]} (U+{ord(found[0]):04X}); write {_shown(typed)}")
    last = domain.rpartition(".")[2]
    is_special = last.lower() in SPECIAL_USE_DOMAIN_NAMES
    try:
        valid = validate_email(
            addr_spec.removesuffix(last) + _STAND_IN if is_special else addr_spec,
            check_deliverability=False,
            globally_deliverable=False,
            allow_quoted_local=True,
        )
    except EmailNotValidError as error:
        raise _no_address(entry, f"{error}{_in_quotes(local, domain)}") from error
    plain = unicodedata.normalize("NFKC", valid.local_part)
    if plain != valid.local_part:
        why = "its local part has look-alike characters (not in Unicode form NFKC)"
        raise _no_address(entry, f"{why}; write {_shown(f'{plain}@{domain}')}")
    found_domain = valid.ascii_domain or ""
    if is_special:
        found_domain = found_domain.removesuffix(_STAND_IN) + last.lower()
    return Address(display_name, valid.local_part, found_domain)


# --- what to write instead -----------------------------------------------------------------------------------------


def _mistake(entry: str) -> str | None:
    """Return what to write, if the entry has a known mistake."""
    bare = _QUOTED.sub("", entry)
    for pattern, advice in _MISTAKES:
        if pattern.search(bare):
            return advice
    if ";" in bare and all("@" in part for part in bare.split(";") if part.strip()):
        return "put commas between addresses, not semicolons"
    if "@" not in bare and (found := _CURLY.search(bare)):
        return f'it has {found[0]} (U+{ord(found[0]):04X}); write straight quotes (") round a name'
    return None


def _no_domain(entry: str, following: Sequence[str]) -> str:
    """Return what to write if a comma cut a name off from its address."""
    example = ""
    for n, one in enumerate(following):
        if "@" in one:
            name, bracket, rest = ", ".join([entry, *following[: n + 1]]).partition("<")
            example = _example(name.strip(), rest.rstrip("> ")) if bracket else ""
            break
    return f"it has no @ and domain (a name with a comma in it needs quotes{example})"


def _not_together(pieces: Sequence[Piece]) -> str:
    """Return what is wrong with several words in place of an address."""
    words = [piece.raw for piece in pieces]
    addresses = [word for word in words if ADDR_SPEC.fullmatch(word.rstrip(";"))]
    if len(addresses) > 1:
        return "put a comma between two addresses"
    if addresses == words[-1:] and "@" not in "".join(words[:-1]):
        example = _example(" ".join(words[:-1]), words[-1])
        return f"an address after a name needs angle brackets{example}"
    return "write the address plainly, as local@domain"


def _example(name: str, addr_spec: str) -> str:
    """Return an address with a name in quotes, if it is short enough to be shown."""
    name = name.replace('"', "").replace("\\", "\\\\")
    shown = f': "{name}" <{addr_spec}>'
    return shown if len(shown) <= _LONGEST_SHOWN and shown.isprintable() else ""


def _in_quotes(local: str, domain: str) -> str:
    """Return a local part in quotes if only its dots are wrong, as in ``a..b@docomo.ne.jp``; such addresses exist."""
    if not _DOTTED.fullmatch(local) or not (".." in local or local[0] == "." or local[-1] == "."):
        return ""
    quoted = f'"{local}"@{domain}'
    return f" If it is so, write it in quotes: {_shown(quoted)}"


def _no_address(entry: str, why: str) -> ValueError:
    return ValueError(f'"{_shown(entry)}" is no address: {why}')


def _shown(text: str) -> str:
    shown = "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in text[:_LONGEST_SHOWN])
    return f"{shown}{'…' if len(text) > _LONGEST_SHOWN else ''}"
