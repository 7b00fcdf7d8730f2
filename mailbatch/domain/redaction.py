"""Shows URLs and replies without their secrets, however badly they are written.

What cannot be told from a password counts as one: a URL that was mistyped is the one that stands in an error.
"""

from __future__ import annotations

import base64
import re

HIDDEN = "***"
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*")
_HOST = re.compile(r"(?:\[[0-9A-Fa-f:.]*\]|[^:/#\[\]\s]*)(?::(\d{0,5}))?")
_HIGHEST_PORT = 65_535
# In a name that somebody has given, misspelt ones among them.
_SECRET_NAME = re.compile(r"pas|pwd|^pw|secret|token|key|auth|cred", re.IGNORECASE)
_SHOWN_PARAMETERS = frozenset(
    [
        "application_name",
        "ca_file",
        "cache",
        "cached_statements",
        "channel_binding",
        "check_same_thread",
        "client_encoding",
        "client_name",
        "connect_timeout",
        "data_timeout",
        "db",
        "dbname",
        "gssencmode",
        "health_check_interval",
        "heartbeat",
        "host",
        "immutable",
        "keepalives",
        "keepalives_count",
        "keepalives_idle",
        "keepalives_interval",
        "max_connections",
        "max_overflow",
        "mode",
        "nolock",
        "options",
        "pool_pre_ping",
        "pool_recycle",
        "pool_size",
        "pool_timeout",
        "pool_use_lifo",
        "port",
        "prepare_threshold",
        "protocol",
        "psow",
        "service",
        "socket_connect_timeout",
        "socket_timeout",
        "ssl_ca_certs",
        "ssl_cert_reqs",
        "ssl_certfile",
        "ssl_check_hostname",
        "sslcert",
        "sslcrl",
        "sslmode",
        "sslrootcert",
        "starttls",
        "target_session_attrs",
        "tcp_user_timeout",
        "timeout",
        "uri",
        "user",
        "vfs",
        "virtual_host",
    ]
)
_WORD = 4
"""Characters below which a secret is hidden only where it stands by itself."""
_RUN = 6
"""Characters of base64 from which on a part of it is looked for."""


# --- URLs ---


def mask_url(url: str) -> str:
    """``url`` on one line, without what is, or may be, a password in it."""
    scheme, end, rest = url.partition("://")
    if not end or "://" in rest or not _SCHEME.fullmatch(scheme):
        scheme, end, rest = "", "", url
    plain, mark, query = rest.partition("?")
    if "@" in query and "@" not in plain and not _is_place(plain):
        # The question mark is one of the password: only the last @ is sure to end it.
        before, _, place = rest.rpartition("@")
        place, mark, query = place.partition("?")
        plain = f"{before.replace('@', ':')}@{place}"
    shown = _without_password(scheme, plain) if end else _without_scheme(plain)
    return one_line(f"{scheme}{end}{shown}{mark}{_mask_query(query)}")


def one_line(text: str) -> str:
    """``text`` with what a log or a terminal would take for the end of a line, or for a command, as escapes."""
    return _CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def shown_name(query: str, name: str) -> str:
    """The name of a parameter in ``query``; hidden where it may be a part of a password with an ``&`` in it."""
    behind_secret = False
    for pair in query.split("&"):
        given = pair.partition("=")[0]
        if given == name and not behind_secret:
            break
        behind_secret = behind_secret or bool(_SECRET_NAME.search(given))
    safe = not behind_secret and "@" not in query and _SCHEME.fullmatch(name.replace("_", "-"))
    return name if safe else HIDDEN


def _without_password(scheme: str, plain: str) -> str:
    userinfo, at, place = plain.rpartition("@")
    if not at:
        return plain if plain.startswith("/") else _mask_place(scheme, plain)
    user, colon, _ = userinfo.partition(":")
    if colon:
        return f"{user}:{HIDDEN}@{place}"
    # A path may have an @. PostgreSQL takes users without a password; elsewhere it is a password without a colon.
    is_user = userinfo.startswith("/") or scheme.startswith("postgres")
    return plain if is_user else f"{HIDDEN}@{place}"


def _without_scheme(plain: str) -> str:
    _, at, place = plain.rpartition("@")
    if at:
        return f"{HIDDEN}@{place}"
    # Where a name of a host or of a file stands, people write a dot or a slash; a password by itself may have neither.
    is_name = plain == "localhost" or re.fullmatch(r"[\w./-]*[./][\w./-]*", plain)
    return plain if not plain or is_name else _mask_place("", plain, known=":" in plain)


def _mask_place(scheme: str, plain: str, *, known: bool = True) -> str:
    """``host:port/path`` without the port if that is none, and without a path that means nothing there."""
    place, slash, path = plain.partition("/")
    if known and _is_place(place):
        means = scheme.startswith(("postgres", "sqlite")) or path.isdecimal() or not path
        return f"{place}{slash}{path if means else HIDDEN}"
    host, colon, _ = plain.partition(":")
    return f"{host}:{HIDDEN}" if colon and re.fullmatch(r"[\w.-]*", host) else HIDDEN


def _is_place(text: str) -> bool:
    hosts = [_HOST.fullmatch(host) for host in text.partition("/")[0].split(",")]
    return all(host and int(host[1] or 0) <= _HIGHEST_PORT for host in hosts)


def _mask_query(query: str) -> str:
    shown, behind_secret = [], False
    for pair in query.split("&") if query else ():
        name, equals, value = pair.partition("=")
        if _SECRET_NAME.search(name):
            behind_secret = True
            shown.append(f"{name}={HIDDEN}" if equals and name.replace("_", "").isalnum() else HIDDEN)
        elif name in _SHOWN_PARAMETERS and equals and "@" not in value:
            shown.append(pair)
        elif not behind_secret:
            # Otherwise it is a part of the password, which has an & in it.
            shown.append(f"{name}={HIDDEN}" if equals and name.isidentifier() else HIDDEN)
    return "&".join(shown)


# --- replies ---


def without_secrets(text: str, username: str, password: str) -> str:
    """``text`` without what a relay repeats of a login: as it was sent, decoded, or written in another way.

    Found are the password and the response of AUTH PLAIN, in upper or lower case, character by character as it is or
    percent-encoded (RFC 3986), as an entity or escaped; in hexadecimal; and in base64, from five bytes on also within a
    longer text. A password of up to three characters is hidden where it stands by itself, because it occurs in every
    text.
    """
    if not password:
        return text
    secrets = (f"\0{username}\0{password}", password)
    written = [pattern for secret in secrets for way in _cases(secret) for pattern in (*_in_base64(way), _in_hex(way))]
    for pattern in (*written, *map(_spelt, _cases(password))):
        text = pattern.sub(HIDDEN, text)
    return text


def _cases(secret: str) -> list[str]:
    """``secret``, and what a relay encodes that has changed its case before."""
    return list(dict.fromkeys((secret, secret.upper(), secret.lower())))


def _spelt(password: str) -> re.Pattern[str]:
    signs = "".join(_sign(sign) for sign in password)
    alone = len(password) < _WORD
    return re.compile(rf"(?<![\w.]){signs}(?!\.?\w)" if alone else signs, re.IGNORECASE)


def _sign(sign: str) -> str:
    """A sign as it is, percent-encoded, as a quoted-printable byte, as an entity, or behind a backslash."""
    octets = sign.encode("utf-8", "surrogatepass")
    encoded = "".join(f"[%=]{octet:02x}" for octet in octets)
    escaped = "".join(rf"\\x{octet:02x}" for octet in octets)
    code = ord(sign)
    blank = r"|\+" if sign == " " else ""
    return rf"(?:\\?{re.escape(sign)}|{encoded}|{escaped}|\\u{code:04x}|&#0*{code};|&#x0*{code:x};{blank})"


def _in_hex(secret: str) -> re.Pattern[str]:
    octets = [f"{octet:02x}" for octet in secret.encode("utf-8", "surrogatepass")]
    pairs = r"[\s:,-]?(?:0x|\\x)?".join(octets)
    return re.compile(rf"(?<![0-9a-f]){pairs}(?![0-9a-f])" if len(octets) < _WORD else pairs, re.IGNORECASE)


def _in_base64(secret: str) -> list[re.Pattern[str]]:
    """The base64 of ``secret``, by itself and at each place that it may have in a longer text."""
    octets = secret.encode("utf-8", "surrogatepass")
    whole = base64.b64encode(octets).decode().rstrip("=")
    found = [rf"(?<![A-Za-z0-9+/_-]){_base64_signs(whole)}(?:=|%3d)*(?![A-Za-z0-9+/_-])"]
    for before in range(3):
        cut = base64.b64encode(bytes(before) + octets).decode().rstrip("=")
        # The signs at either end have bits of what stands beside it.
        first, last = (before * 8 + 5) // 6, (before + len(octets)) * 8 // 6
        if last - first >= _RUN:
            found.append(f"{_base64_signs(cut[first:last])}(?:=|%3d)*")
    return [re.compile(pattern, re.IGNORECASE) for pattern in found]


def _base64_signs(text: str) -> str:
    """``text`` in the alphabets of RFC 4648, sections 4 and 5; percent-encoded, perhaps."""
    return "".join({"+": r"(?:[+-]|%2b)", "/": r"(?:[/_]|%2f)"}.get(sign, sign) for sign in text)
