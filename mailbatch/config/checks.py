"""What a single setting may be. Each check returns the value, or raises ``ValueError`` with what is allowed."""

from __future__ import annotations

import base64
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from mailbatch.domain.checks import schema_name_problem
from mailbatch.domain.locale import ranges
from mailbatch.domain.schedule import read_schedule

if TYPE_CHECKING:
    from pathlib import Path

    from pydantic import SecretStr

_LONGEST_NAMESPACE = 64
# No character with a meaning for Redis (patterns, hash tags, ACLs) or for a shell, and none that separates parts of a
# key's name.
_NAMESPACE = re.compile(rf"[A-Za-z0-9][A-Za-z0-9._-]{{0,{_LONGEST_NAMESPACE - 1}}}")
AUTO = "auto"
_MOST_CONNECTIONS = 100
_SHORTEST_SECRET = 16
_WHOLE_NUMBER = re.compile(r"[+-]?[0-9]{1,10}")
_LARGEST_PRIORITY = 2**31 - 1
# RFC 9110 §5.6.2.
_FIELD_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


def schema_name(name: str) -> str:
    """Check the name of a PostgreSQL schema."""
    if wrong := schema_name_problem(name):
        raise ValueError(wrong)
    return name


def namespace(name: str) -> str:
    """Check the beginning of our keys in Redis."""
    if not _NAMESPACE.fullmatch(name):
        raise ValueError(
            f"must be 1 to {_LONGEST_NAMESPACE} letters, digits, dots, underscores and hyphens, "
            "and begin with a letter or a digit"
        )
    return name


def connections(value: object) -> int | str:
    """Check the number of connections: a number, or that it is to be found."""
    text = str(value).strip().lower()
    if text == AUTO:
        return AUTO
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:4]) <= _MOST_CONNECTIONS):
        raise ValueError(f"must be {AUTO}, or a number from 1 to {_MOST_CONNECTIONS}")
    return int(text)


def folder(path: Path) -> Path:
    """Check that ``path`` is a folder; return it resolved."""
    if not path.is_dir():
        raise ValueError(f"must be an existing folder; there is none at {path.resolve()}")
    return path.resolve()


def existing_file(path: Path) -> Path:
    """Check that ``path`` is a file; return it resolved."""
    if not path.is_file():
        raise ValueError(f"must be an existing file; there is none at {path.resolve()}")
    return path.resolve()


def file_in_folder(path: Path) -> Path:
    """Check that ``path`` lies in a folder that exists; return it resolved."""
    if not path.parent.is_dir():
        raise ValueError(f"must be a file in an existing folder; there is none at {path.resolve().parent}")
    return path.resolve()


def language_tag(tag: str) -> str:
    """Check a tag of BCP 47."""
    if not ranges(tag):
        raise ValueError("must be a language tag (BCP 47), such as de, pt-BR or zh-Hant-TW")
    return tag


def hook_url(url: str) -> str:
    """Check the URL of a webhook."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        # Without urlsplit's own text, which quotes the secret.
        raise ValueError("has a host or a port that cannot be read") from None
    if not url.isprintable() or " " in url:
        raise ValueError("has a space or a control character; write %20 for a space")
    if not url.startswith(("https://", "http://")) or not host:
        raise ValueError("must begin with https:// and name a host")
    return url


def hook_secret(secret: SecretStr) -> SecretStr:
    """Check the key for signatures: behind ``whsec_`` it is base64 (Standard Webhooks)."""
    text = secret.get_secret_value()
    if text.startswith("whsec_"):
        try:
            base64.b64decode(text.removeprefix("whsec_") + "==", validate=False)
        except ValueError as error:
            raise ValueError("must be base64 behind whsec_, or any text that does not begin so") from error
    return secret


def return_path_secret(secret: SecretStr) -> SecretStr:
    """Check the key for the signatures of envelope senders."""
    if len(secret.get_secret_value()) < _SHORTEST_SECRET:
        raise ValueError(f"must have at least {_SHORTEST_SECRET} characters; `openssl rand -hex 32` makes one")
    return secret


def patterns(text: str) -> str:
    """Check a list of patterns for file names."""
    if wrong := next((one for one in split_patterns(text) if "/" in one), None):
        raise ValueError(f"must be patterns of file names, such as *.exe, *.js; {wrong} has a slash")
    return text


def split_patterns(text: str) -> tuple[str, ...]:
    """Return the patterns of ``text``, which blanks or commas separate, in lower case."""
    return tuple(text.lower().replace(",", " ").split())


def field_name(name: str) -> str:
    """Check the name of a header field of HTTP."""
    if not _FIELD_NAME.fullmatch(name):
        raise ValueError("must be the name of a header field, such as X-Forwarded-User")
    return name


def log_level(level: Any) -> str:
    """Check the name of a log level, in whatever case."""
    name = str(level).upper()
    if name not in {"DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"}:
        raise ValueError("must be DEBUG, INFO, WARNING, ERROR or CRITICAL")
    return name


def time_zone(name: str) -> str:
    """Check that this machine knows the time zone."""
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ValueError("must be a time zone's name, such as UTC or Europe/Berlin") from error
    return name


def urgent_priority(text: str) -> str:
    """Check that ``text`` is a priority, ``none`` or ``auto``; return it in lower case."""
    name = text.strip().lower()
    if name not in {"auto", "none"} and not (_WHOLE_NUMBER.fullmatch(name) and abs(int(name)) <= _LARGEST_PRIORITY):
        raise ValueError(f"must be a whole number up to {_LARGEST_PRIORITY}, none or auto")
    return name


def schedule(text: str) -> str:
    """Check that ``text`` is an interval or has the fields of a cron line."""
    read_schedule(text, "UTC")
    return text.strip()
