"""Shows URLs without their secrets, however badly they are written.

A text that may be a password counts as one, because a URL in an error message is often mistyped.
"""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from mailbatch.domain.redaction.lines import one_line

HIDDEN = "***"
# Without the punctuation of the sentence. Only at the beginning of a word: otherwise a long word would be searched once
# for each of its characters.
_URL_WITH_LOGIN = re.compile(r"(?<![A-Za-z0-9+.-])[A-Za-z][A-Za-z0-9+.-]*://\S*@(?:\S*[^\s:.,;)])?")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*")
_HOST = re.compile(r"(?:\[[0-9A-Fa-f:.]*\]|[^:/#\[\]\s]*)(?::(\d{0,5}))?")
_HIGHEST_PORT = 65_535
# Parts of names of parameters, which may be misspelt.
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


def mask_url(url: str) -> str:
    """Return ``url`` on one line, without what is a password in it or may be one."""
    scheme, end, rest = url.partition("://")
    if not end or "://" in rest or not _SCHEME.fullmatch(scheme):
        scheme, end, rest = "", "", url
    plain, mark, query = rest.partition("?")
    if "@" in query and "@" not in plain and not _is_place(plain):
        # The question mark belongs to the password: only the last @ is sure to end it.
        before, _, place = rest.rpartition("@")
        place, mark, query = place.partition("?")
        plain = f"{before.replace('@', ':')}@{place}"
    shown = _without_password(scheme, plain) if end else _without_scheme(plain)
    return one_line(f"{scheme}{end}{shown}{mark}{_mask_query(query)}")


def mask_urls(text: str) -> str:
    """Return ``text``, perhaps of several lines, with each URL in it that has a login masked as by ``mask_url``."""
    return _URL_WITH_LOGIN.sub(lambda found: mask_url(found[0]), text)


def origin(url: str) -> str | None:
    """Return scheme and host of ``url``, for a URL whose path is a secret; None if it has no host that can be read."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return None
    return one_line(f"{parts.scheme}://{parts.hostname}") if parts.hostname else None


def shown_name(query: str, name: str) -> str:
    """Return ``name``, a parameter of ``query``; hidden if it may belong to a password with an ``&`` in it."""
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
        return f"{user}:{HIDDEN}@{_behind_login(scheme, place)}"
    if userinfo.startswith("/"):  # a path may have an @
        return plain
    # PostgreSQL takes users without a password; elsewhere it is a password without a colon.
    return f"{userinfo if scheme.startswith('postgres') else HIDDEN}@{_behind_login(scheme, place)}"


def _behind_login(scheme: str, place: str) -> str:
    """Return ``place`` without a port that is no number, and for SMTP and Redis without a path that is none."""
    if not _is_place(place):
        return _mask_place(scheme, place)
    host, slash, path = place.partition("/")
    hidden = host and path and not path.isdecimal() and scheme.lower().startswith(("smtp", "redis"))
    return f"{host}{slash}{HIDDEN if hidden else path}"


def _without_scheme(plain: str) -> str:
    _, at, place = plain.rpartition("@")
    if at:
        return f"{HIDDEN}@{_behind_login('', place)}"
    # A host's or a file's name has a dot or a slash. A password alone may have neither, so without them all is hidden.
    is_name = plain == "localhost" or re.fullmatch(r"[\w./-]*[./][\w./-]*", plain)
    return plain if not plain or is_name else _mask_place("", plain, known=":" in plain)


def _mask_place(scheme: str, plain: str, *, known: bool = True) -> str:
    """Return ``host:port/path`` without a port that is no number, and without a path that has no meaning there."""
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
            # After a secret this may be the rest of it, behind an &.
            shown.append(f"{name}={HIDDEN}" if equals and name.isidentifier() else HIDDEN)
    return "&".join(shown)
