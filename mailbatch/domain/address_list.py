"""Part and join address lists (RFC 5322 §3.4): what one entry is, whoever wrote it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from mailbatch.domain.errors import InvalidReservation

if TYPE_CHECKING:
    from collections.abc import Iterator

QUOTED = r'"(?:[^"\\]|\\.)*+"'
ANGLE = rf'<(?:[^<>"]|{QUOTED})*+>'
# What may hold a comma that parts nothing. Without its end it goes on to where the text ends.
_STOP = re.compile(rf"{QUOTED}?|{ANGLE}?|[(,]", re.DOTALL)
_PARENTHESIS = re.compile(r"\\.|[()]", re.DOTALL)
ADDR_SPEC = re.compile(rf'(?:{QUOTED}|[^\s"(),:;<>@\[\\\]]+)@[^\s"(),:;<>@\[\\\]]+', re.DOTALL)
"""A bare address, as far as its delimiters tell."""
_BRACKETED = re.compile(r"<[^<>]*@[^<>]*>")
_COMMENT = re.compile(r"\([^()]*\)")
_TO_ESCAPE = re.compile(r'["\\]|=(?=\?)')
_LONGEST_SHOWN = 80


def parted(text: str) -> Iterator[str]:
    """Part a list at its commas; a list has at least one entry, and an empty one is an entry.

    The time it takes grows with the length of ``text`` and with nothing else.
    """
    start = at = 0
    while found := _STOP.search(text, at):
        at = found.end()
        if found[0] == "(":
            at = comment_end(text, found.start()) or len(text)
        elif found[0] == ",":
            yield text[start : found.start()]
            start = at
    yield text[start:]


def comment_end(text: str, start: int) -> int | None:
    """Find where the comment that begins at ``start`` ends, None if it does not; comments may hold comments."""
    depth = 0
    for found in _PARENTHESIS.finditer(text, start):
        depth += {"(": 1, ")": -1}.get(found[0], 0)
        if not depth:
            return found.end()
    return None


def address_list(name: str, addresses: Any) -> str:
    """Join ``addresses`` to an address list: a pair of a name and an address, or several pairs and single addresses.

    Who gives them one by one means one by each, and may have it from a stranger: a comma must not make two of it. In a
    pair a name may be anything that people type. ``name`` is what the caller calls the field.

    Raises:
        InvalidReservation: if one of them is several, or is none.
    """
    if isinstance(addresses, bytes) or not isinstance(addresses, Iterable):
        raise InvalidReservation([f"{name}: must be text or a list of addresses, not {type(addresses).__name__}"])
    if isinstance(addresses, tuple) and _is_pair(addresses):
        _refuse_two_addresses(name, *addresses)
        return _of_pair(name, *addresses)
    return ", ".join([_single(name, one) for one in addresses])


def _is_pair(value: Any) -> bool:
    return (
        isinstance(value, tuple | list)
        and len(value) == len(("name", "address"))
        and isinstance(value[0], str | None)
        and isinstance(value[1], str)
    )


def _refuse_two_addresses(field: str, first: str | None, second: str) -> None:
    """Refuse what may be a pair or two addresses, as any tuple of two texts could be before there were pairs."""
    bare = _COMMENT.sub("", first or "").strip()
    if bare.casefold() == second.strip().casefold() or not (ADDR_SPEC.fullmatch(bare) or _BRACKETED.search(bare)):
        return
    one, two = _shown(first), _shown(second)
    raise InvalidReservation(
        [f"{field}: ({one}, {two}) may be two addresses; write [{one}, {two}] for two, [({one}, {two})] for one"]
    )


def _single(field: str, one: Any) -> str:
    if _is_pair(one):
        return _of_pair(field, *one)
    if not isinstance(one, str):
        raise InvalidReservation([f"{field}: {_shown(one)} is neither an address nor a pair (name, address)"])
    # A quote without an end would go on into the next one's.
    if list(parted(f"{one},")) != [one, ""]:
        raise InvalidReservation([f"{field}: {_shown(one)} is more than one address; give each by itself"])
    return one


def _of_pair(field: str, name: str | None, address: str) -> str:
    name, address = " ".join((name or "").split()), address.strip()
    if not ADDR_SPEC.fullmatch(address):
        why = "is not an address; a pair is (name, address), the address as local@domain"
        raise InvalidReservation([f"{field}: {_shown(address)} {why}"])
    if not name:
        return address
    # A name that looks like an encoded word (RFC 2047) is meant as it stands.
    return f'"{_TO_ESCAPE.sub(lambda it: chr(92) + it[0], name)}" <{address}>'


def _shown(value: Any) -> str:
    return (repr(value[:_LONGEST_SHOWN]) if isinstance(value, str) else repr(value))[:_LONGEST_SHOWN]
