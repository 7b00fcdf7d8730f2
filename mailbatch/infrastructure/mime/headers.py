"""Writes header fields as lines of ASCII (RFC 5322), from texts in any script, and checks the result.

Most fields are short and plain, and are written as they are. ``EmailMessage`` is not used: on Python 3.11.7 its folding
encodes the comma between two mailboxes as text, so that a recipient disappears.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING

from mailbatch.domain.checks import line_problems
from mailbatch.domain.errors import CannotCompose
from mailbatch.infrastructure.mime.words import FOLD, WIDTH, encoded_words

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mailbatch.domain.message import Address

LONGEST_LINE = 998
"""The longest line in bytes, without its CRLF (RFC 5322 §2.1.1)."""

# RFC 5322 §2.2: printable ASCII without the colon.
_NAMES = re.compile(r"[!-9;-~]+(?:\n[!-9;-~]+)*")
_WORDS = re.compile(" *[^ ]+")
# RFC 5322 §3.2.3: a phrase that needs no quotes.
_ATOMS = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?: [A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*")
_LONGEST_QUOTED = 64
_LONGEST_NAME = len("Reply-To: ")


def text_field(name: str, value: str) -> str:
    """Return the field ``name`` with free text (RFC 5322 §2.2.1), folded, ending with CRLF.

    White space around ``value`` is dropped, because no mail program keeps it.
    """
    value = value.strip()
    if not _is_plain(value, LONGEST_LINE - len(name) - 2):
        return f"{name}: {_encoded(name, value, len(name) + 2)}\r\n"
    if len(name) + 2 + len(value) <= WIDTH:
        return f"{name}: {value}\r\n"
    return f"{_folded(f'{name}: ', value)}\r\n"


def ascii_field(name: str, value: str) -> str:
    """Return the field ``name`` with a ``value`` for programs: folded at its blanks, never encoded.

    Raises:
        ValueError: the value is not printable ASCII.
    """
    value = value.replace("\t", " ").strip()
    for character in value:
        if not (character.isascii() and character.isprintable()):
            raise ValueError(f"has the character U+{ord(character):04X}; only printable ASCII is allowed there")
    return f"{_folded(_start(name, value.partition(' ')[0]), value)}\r\n"


def list_field(name: str, items: Sequence[str], between: str) -> str:
    """Return the field ``name`` with ``items``: on one line if it is short, else each on its own line."""
    line = f"{name}: {between.join(items)}"
    if len(line) > WIDTH:
        line = f"{_start(name, items[0])}{f'{between.rstrip()}{FOLD}'.join(items)}"
    return f"{line}\r\n"


def _start(name: str, first: str) -> str:
    """Return the beginning of the field ``name``. A first word as long as a line gets its own line."""
    return f"{name}: " if len(name) + 2 + len(first) < LONGEST_LINE else f"{name}:{FOLD}"


def address_field(name: str, addresses: Sequence[Address]) -> str:
    """Return the field ``name`` with a list of mailboxes (RFC 5322 §3.4), each on its own line.

    A local part beyond ASCII is written in UTF-8 (RFC 6532 §3.2); display names are encoded words even then.
    """
    before = max(len(name) + 2, _LONGEST_NAME)
    if len(addresses) == 1:
        return f"{name}: {_mailbox(addresses[0], before)}\r\n"
    return f"{name}: {f',{FOLD}'.join([_mailbox(address, before) for address in addresses])}\r\n"


@lru_cache(maxsize=1024)
def cached_mailbox(name: str, address: Address) -> str:
    """Return ``address_field`` of one mailbox that occurs in many mails, from a cache."""
    return address_field(name, (address,))


def checked(fields: Sequence[str], names: Sequence[str]) -> bytes:
    """Return a block of ``fields``, after checking that a relay reads these ``names`` in it and nothing else.

    Generators have let a value become a header of its own (CVE-2024-6923). This check stops that, whatever its cause.

    Raises:
        CannotCompose: the block has another header, a bare line break or a line that is too long.
    """
    block = "".join(fields)
    lines = block.split("\r\n")
    if not block.count("\r") == block.count("\n") == len(lines) - 1:
        raise CannotCompose(["headers: have a bare line break, which a relay could take for their end"])
    read = [line.partition(":")[0] for line in lines if line[:1] not in (" ", "\t")]
    if read.pop() or read != names or not _NAMES.fullmatch("\n".join(names)):
        raise CannotCompose(["headers: do not read back as they were written; look for hidden characters in them"])
    data = block.encode()
    if max(map(len, data.split(b"\r\n"))) > LONGEST_LINE:
        raise CannotCompose([f"headers: have a line of more than {LONGEST_LINE} bytes (RFC 5322 §2.1.1)"])
    return data


def _folded(start: str, text: str) -> str:
    """Fold ASCII at its blanks; all blanks are kept."""
    lines = [start]
    for word in _WORDS.findall(text):
        if len(lines[-1]) + len(word) <= WIDTH or lines[-1] == start:
            lines[-1] += word
        else:
            lines.append(word)
    return "\r\n".join(lines)


def _encoded(what: str, text: str, before: int) -> str:
    if problems := list(line_problems(what, text)):
        raise CannotCompose(problems)
    return encoded_words(text, before)


def _is_plain(text: str, longest_word: int) -> bool:
    """Whether all mail programs show ``text`` as it is: no control characters, and nothing that looks encoded."""
    if not text.isascii() or not text.isprintable() or "=?" in text:
        return False
    return len(text) <= longest_word or all(len(word) <= longest_word for word in _WORDS.findall(text))


def _mailbox(address: Address, before: int) -> str:
    if not address.display_name:
        return address.addr_spec
    return in_brackets(phrase_text(address.display_name, before), address.addr_spec, before)


def in_brackets(phrase: str, inner: str, before: int) -> str:
    """Return ``phrase <inner>``, on two lines if one is too short; it has ``before`` characters already."""
    fits = len(phrase) + len(inner) < WIDTH - before - len(" <>,") + 1
    return f"{phrase}{' ' if fits else FOLD}<{inner}>"


def phrase_text(name: str, before: int) -> str:
    """Return ``name`` as a phrase (RFC 5322 §3.2.5): as it is, quoted, or in encoded words."""
    if len(name) > _LONGEST_QUOTED or not _is_plain(name, _LONGEST_QUOTED):
        return _encoded("a display name", name, before)
    if _ATOMS.fullmatch(name):
        return name
    return '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'
