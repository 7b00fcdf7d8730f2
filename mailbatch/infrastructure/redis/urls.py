"""Reads the URL of a Redis server, and writes it as redis-py and as Celery spell it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlencode, urlsplit

from mailbatch.domain.redaction.urls import shown_name

if TYPE_CHECKING:
    from collections.abc import Mapping
    from urllib.parse import SplitResult

_SERVERS, _SOCKETS = ("redis", "rediss"), ("unix", "redis+socket")
_OF_CELERY = ("connect_timeout", "heartbeat")
"""Options in the URL of a broker that Celery knows, beside those of TLS (``ssl_…``)."""
_ESCAPE = "write [, ], /, ?, # and @ in a password as %XX"
_DATABASE_OPTION = {"unix": "db", "redis+socket": "virtual_host"}


@dataclass(frozen=True, slots=True)
class RedisUrl:
    """A Redis server or socket, as its URL names it.

    ``login``: user, password, host and port, as they are written. ``path``: the number of a database, or of a socket
    its path. ``query``: the options.
    """

    scheme: str
    login: str = field(repr=False)
    path: str
    query: str = field(repr=False)

    @property
    def options(self) -> dict[str, str]:
        """The options, as they are written."""
        return dict(parse_qsl(self.query))

    def for_redis_py(self) -> str:
        """Return the URL that redis-py takes: ``unix`` for a socket, and Celery's options in redis-py's spelling."""
        scheme = "unix" if self.scheme in _SOCKETS else self.scheme
        return _written(scheme, self, dict(map(_of_redis_py, self.options.items())))

    def for_celery(self) -> str:
        """Return the URL that Celery takes: ``redis+socket`` for a socket, TLS certificates checked by default.

        Raises ``ValueError`` for an option that Celery does not know: at the first message it would be a TypeError.
        """
        known = (*_OF_CELERY, _DATABASE_OPTION.get(self.scheme))
        for name in self.options:
            if name not in known and not name.startswith("ssl_"):
                raise ValueError(f"Celery knows no option {shown_name(self.query, name)} in the URL of its broker")
        scheme, options = self.scheme, self.options
        if scheme == "unix":
            scheme, options["virtual_host"] = "redis+socket", options.pop("db", "0")
        if scheme == "rediss":
            options.setdefault("ssl_cert_reqs", "required")
        return _written(scheme, self, options)


def read_redis_url(text: str) -> RedisUrl:
    """Read ``redis://``, ``rediss://`` (TLS), ``unix://``, or ``redis+socket://`` as Celery writes it.

    Raises:
        ValueError: in one line that never holds the password.
    """
    if not text.startswith(tuple(f"{scheme}://" for scheme in (*_SERVERS, *_SOCKETS))):
        raise ValueError("must begin with redis://, rediss:// or redis+socket://")
    parts = _split(text)
    if parts.scheme in _SERVERS:
        database = parts.path.strip("/")
        # redis-py would take any other text for database 0, without an error.
        if database and not database.isdecimal():
            raise ValueError("must end with the number of a database: redis://host:6379/0")
    elif not parts.path.strip("/"):
        raise ValueError("must name a socket: redis+socket:///path?virtual_host=0")
    return RedisUrl(parts.scheme, parts.netloc, parts.path, parts.query)


def _split(text: str) -> SplitResult:
    # urlsplit's own texts quote the password.
    try:
        parts = urlsplit(text)
    except ValueError:
        raise ValueError(f"has a host that cannot be read; {_ESCAPE}") from None
    try:
        port = parts.port
    except ValueError:
        port = 0
    if port == 0:
        raise ValueError(f"has a port that is no number from 1 to 65535; {_ESCAPE}")
    return parts


def _of_redis_py(option: tuple[str, str]) -> tuple[str, str]:
    match option:
        case "virtual_host", value:
            return "db", value.strip("/")
        case "ssl_cert_reqs", value:
            return "ssl_cert_reqs", value.lower().removeprefix("cert_")
    return option


def _written(scheme: str, url: RedisUrl, options: Mapping[str, str]) -> str:
    query = f"?{urlencode(options)}" if options else ""
    return f"{scheme}://{url.login}{url.path}{query}"
