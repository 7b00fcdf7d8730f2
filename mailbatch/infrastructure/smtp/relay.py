"""The relay as the settings describe it, and how it is written as a URL."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, unquote, urlsplit

if TYPE_CHECKING:
    from mailbatch.infrastructure.smtp.access_token import AccessToken


class Security(StrEnum):
    """How the connection is encrypted. With TLS, certificate and host name are always verified."""

    TLS = "tls"
    """TLS from the first byte (RFC 8314)."""
    STARTTLS_REQUIRED = "starttls-required"
    """STARTTLS (RFC 3207), or nothing is sent."""
    STARTTLS_TRY = "starttls-try"
    """STARTTLS where the relay offers it; a password is never sent without it."""
    OFF = "off"
    """Never encrypted; a password is sent in clear."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SmtpRelay:
    """A relay: its address, how to log in, and its timeouts.

    ``timeout`` and ``data_timeout`` are seconds, each for the *whole* of one phase. ``timeout``: connecting (with TLS),
    or one command with its reply. ``data_timeout``: writing the body, or waiting for the reply to its end. ``ca_file``
    replaces the system's authorities. ``local_hostname`` is sent by EHLO; without it, EHLO sends the address of our end
    (RFC 5321 §4.1.3), never the result of a DNS query. ``label``: its name, if that is not ``host:port``.
    ``access_token``: log in by it (XOAUTH2), without a password.
    """

    host: str
    port: int
    security: Security = Security.STARTTLS_TRY
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    ca_file: str | None = None
    timeout: float = 30.0
    data_timeout: float = 300.0
    local_hostname: str | None = None
    label: str | None = None
    access_token: AccessToken | None = field(default=None, repr=False)

    @property
    def name(self) -> str:
        """Its ``label``, else ``host:port``. Logs and outcomes show it, and what is known of a relay is kept by it."""
        if self.label is not None:
            return self.label
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


_DEFAULT_PORT = {"smtp": 25, "smtps": 465}
_STARTTLS = {
    "required": Security.STARTTLS_REQUIRED,
    "try": Security.STARTTLS_TRY,
    "off": Security.OFF,
}
_PARAMETERS = ("starttls", "ca_file", "timeout", "data_timeout")
_LONGEST_TIMEOUT = 86_400
_SECONDS = re.compile(r"[0-9]{1,6}(?:\.[0-9]{1,6})?")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_ESCAPE = "percent-encode : / ? # @ and blanks in user and password"


def parse_smtp_url(url: str, *, has_secret: bool = False) -> SmtpRelay:
    """Read ``smtp[s]://[user:password@]host[:port][?starttls=&ca_file=&timeout=&data_timeout=]``.

    ``has_secret``: password or token are elsewhere, so the URL has only a user.

    Raises:
        ValueError: in one line, which begins with the name of the part that is wrong and never holds the password.
    """
    parts = _split(url)
    username, password = _user(parts) if has_secret else _credentials(parts)
    parameters = _parameters(parts.query)
    return SmtpRelay(
        host=_host(parts),
        port=_port(parts),
        security=_security(parts.scheme, parameters.get("starttls"), has_password=username is not None),
        username=username,
        password=password,
        ca_file=parameters.get("ca_file"),
        timeout=_seconds("timeout", parameters.get("timeout"), 30.0),
        data_timeout=_seconds("data_timeout", parameters.get("data_timeout"), 300.0),
    )


def read_smtp_url(url: str, *, has_secret: bool = False) -> SmtpRelay:
    """Read ``url`` as ``parse_smtp_url`` does, and check that its ``ca_file`` exists. Raises ``ValueError``."""
    relay = parse_smtp_url(url, has_secret=has_secret)
    if relay.ca_file and not Path(relay.ca_file).is_file():
        place = Path(relay.ca_file).resolve()
        raise ValueError(f"ca_file: must be an existing PEM file; there is none at {place}")
    return relay


def _split(url: str) -> SplitResult:
    # urlsplit() drops tabs and line ends without a word, and its own errors quote the password.
    if re.search(r"\s", url) or _CONTROL.search(url):
        raise ValueError(f"url: has a blank or a control character; {_ESCAPE}")
    try:
        parts = urlsplit(url)
    except ValueError:
        raise ValueError(f"host: cannot be read; {_ESCAPE}") from None
    if parts.scheme not in _DEFAULT_PORT:
        raise ValueError("scheme: must be smtp:// or smtps://")
    if parts.path not in ("", "/") or parts.fragment:
        raise ValueError(f"path: nothing but ?parameters may follow the port; {_ESCAPE}")
    return parts


def _host(parts: SplitResult) -> str:
    if not parts.hostname:
        raise ValueError("host: is missing")
    return parts.hostname


def _port(parts: SplitResult) -> int:
    try:
        port = parts.port
    except ValueError:
        port = 0
    if port == 0:
        raise ValueError(f"port: must be a number from 1 to 65535; {_ESCAPE}")
    return port or _DEFAULT_PORT[parts.scheme]


def _credentials(parts: SplitResult) -> tuple[str | None, str | None]:
    if not parts.username and not parts.password:
        return None, None
    if not parts.username:
        raise ValueError("user: is missing before the password")
    if not parts.password:
        raise ValueError("password: is missing after the user")
    return _decoded("user", parts.username), _decoded("password", parts.password)


def _user(parts: SplitResult) -> tuple[str, None]:
    if parts.password:
        raise ValueError("password: must not be in the URL, because it comes from elsewhere")
    if not parts.username:
        raise ValueError("user: is missing; the URL must name who logs in: smtp://user@host")
    return _decoded("user", parts.username), None


def _decoded(part: str, text: str) -> str:
    try:
        decoded = unquote(text, errors="strict")
    except UnicodeDecodeError:
        raise ValueError(f"{part}: its percent-encoding is not UTF-8") from None
    if _CONTROL.search(decoded):
        raise ValueError(f"{part}: has a control character")
    return decoded


def _parameters(query: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for pair in query.split("&") if query else ():
        name, _, value = pair.partition("=")
        if name not in _PARAMETERS:
            # Not quoted: it may be the rest of a password with a bare '?' in it.
            raise ValueError(f"parameters: only {', '.join(_PARAMETERS)} may follow the '?'; {_ESCAPE}")
        if name in found:
            raise ValueError(f"{name}: is given twice")
        found[name] = _decoded(name, value)
    return {name: value for name, value in found.items() if value}


def _security(scheme: str, starttls: str | None, *, has_password: bool) -> Security:
    if scheme == "smtps":
        if starttls:
            raise ValueError("starttls: has no meaning with smtps://, which is encrypted from the start")
        return Security.TLS
    if starttls is None:
        return Security.STARTTLS_REQUIRED if has_password else Security.STARTTLS_TRY
    if starttls not in _STARTTLS:
        raise ValueError(f"starttls: must be one of {', '.join(_STARTTLS)}")
    return _STARTTLS[starttls]


def _seconds(name: str, text: str | None, default: float) -> float:
    if text is None:
        return default
    seconds = float(text) if _SECONDS.fullmatch(text) else 0.0
    if not 0 < seconds <= _LONGEST_TIMEOUT:
        raise ValueError(f"{name}: must be seconds, more than 0 and at most {_LONGEST_TIMEOUT}")
    return seconds
