"""The name in our EHLO (RFC 5321 §4.1.4): a full domain name, or an address literal."""

from __future__ import annotations

import ipaddress
import re
import socket

_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_DOMAIN = re.compile(rf"(?:{_LABEL}\.)+{_LABEL}")
_LITERAL = re.compile(r"\[(?:(IPv6):)?([0-9A-Fa-f:.]+)\]", re.IGNORECASE)
_LONGEST = 255
_WANTED = "must be a full domain name (mail.example.com), or an address literal ([192.0.2.1], [IPv6:2001:db8::1])"


def read_ehlo_name(text: str) -> str:
    """Return ``text`` if EHLO may send it.

    Raises:
        ValueError: in one line, what it must be.
    """
    if not text.isascii():
        raise ValueError(f"{_WANTED}; write a name with other letters in its ASCII form (xn--…)")
    if not (_is_domain(text) or _is_literal(text)):
        raise ValueError(_WANTED)
    return text


def host_name() -> str | None:
    """Return the host's name if it has a domain, without a DNS query; else None, and EHLO sends our address."""
    name = socket.gethostname().rstrip(".")
    return name if _is_domain(name) and not name.lower().startswith("localhost.") else None


def _is_domain(text: str) -> bool:
    # A last label of digits alone would be an address (RFC 3696 §2).
    return len(text) <= _LONGEST and bool(_DOMAIN.fullmatch(text)) and not text.rpartition(".")[2].isdigit()


def _is_literal(text: str) -> bool:
    found = _LITERAL.fullmatch(text)
    if found is None:
        return False
    try:
        return ipaddress.ip_address(found[2]).version == (6 if found[1] else 4)
    except ValueError:
        return False
