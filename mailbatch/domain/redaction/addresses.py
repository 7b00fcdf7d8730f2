"""Hides mail addresses in texts."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import TYPE_CHECKING

from mailbatch.domain.redaction.lines import one_line

if TYPE_CHECKING:
    from collections.abc import Callable

_LONGEST = 300
"""Bytes of a public text."""
# A quoted local part, or a run of atoms (from its beginning: if it is too long, no half of it may show); then a domain,
# an address literal, or what is meant for one. Greedy enough for the texts of relays.
_ATOMS = r"""[^\s<>@,;:"'()\[\]]"""
_ADDRESS = re.compile(rf"""(?:"[^"\n]{{1,64}}"|(?<!{_ATOMS}){_ATOMS}+)@+(\[[^\]\s]{{1,64}}\]|[\w.\-]{{0,255}})""")
# A text that is not an address, as the error of our reader of addresses quotes it (up to 120 characters).
_NO_ADDRESS = re.compile(r'"([^\n]{1,125}?)"(?= is no address)')


class AddressDisplay(StrEnum):
    """How log lines show mail addresses."""

    MASKED = "masked"
    HASHED = "hashed"
    """The same address gives the same characters, so that lines about one address can be found together."""
    PLAIN = "plain"


def mask_addresses(text: str, instead: Callable[[str], str] = lambda _address: "***") -> str:
    """Return ``text`` with the local part of each mail address hidden, as in ``***@example.com``.

    Text that stands in place of an address is hidden whole. ``instead`` takes a whole address and returns what
    replaces its local part.
    """
    text = _NO_ADDRESS.sub(lambda found: f'"{instead(found[1])}"', text)
    return _ADDRESS.sub(lambda found: f"{instead(found[0])}@{found[1]}", text)


def public(text: str) -> str:
    """Return ``text`` as it may leave the database: one line, addresses masked, at most 300 bytes of UTF-8."""
    data = mask_addresses(one_line(text)).encode("utf-8", "replace")
    if len(data) <= _LONGEST:
        return data.decode()
    return data[: _LONGEST - 3].decode("utf-8", "ignore") + "…"
