"""Reads the relays' file (``MAILBATCH_RELAYS``): relays, routes, limits and sending hours, checked together."""

from __future__ import annotations

import difflib
import tomllib
from typing import TYPE_CHECKING

from pydantic import ValidationError

from mailbatch.config.relay_tables import File, LimitTable, MatchTable, RelayTable, RouteTable, WindowTable
from mailbatch.config.relays_file import RelaysFile
from mailbatch.config.settings import PREFIX
from mailbatch.config.toml_lines import line_of
from mailbatch.domain.errors import SettingsError
from mailbatch.domain.rate import DAY
from mailbatch.domain.redaction.lines import one_line
from mailbatch.domain.routes import Route
from mailbatch.domain.sending_hours import Window
from mailbatch.domain.sending_limit import SendingLimit
from mailbatch.domain.traits import EVERY_MAIL

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator
    from pathlib import Path

    from pydantic_core import ErrorDetails

    from mailbatch.config.relay_tables import Table
    from mailbatch.config.toml_lines import Path as Key

LONGEST = 2**20
"""Bytes of the file."""
_TABLES: dict[str, type[Table]] = {
    "relays": RelayTable,
    "routes": RouteTable,
    "limits": LimitTable,
    "windows": WindowTable,
}
_NEVER_SHOWN = frozenset({"url", "token_command"})
"""Keys whose values may hold secrets."""


def read_relays_file(path: Path, read_relay: Callable[[str, RelayTable], object]) -> RelaysFile:
    """Read the file at ``path``. ``read_relay`` gets the name and the table of each relay.

    It raises ``ValueError`` if the relay cannot be used. The text begins with the key, or else with a part of the URL.

    Raises:
        SettingsError: with one line for each thing that is wrong: the file, the line, the key, what it must be.
    """
    text = _text(path)
    try:
        file = File.model_validate(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(_shown(path, f"is no TOML: {one_line(str(error))}")) from None
    except ValidationError as error:
        wrong = [(_path(e), _what(e)) for e in error.errors()]
        # `from None`: the original carries the values, and with them passwords.
        raise SettingsError("\n".join(_placed(path, text, wrong))) from None
    if wrong := [*_wrong_relays(file, read_relay), *_wrong_routes(file), *_wrong_limits(file)]:
        raise SettingsError("\n".join(_placed(path, text, wrong)))
    return _value(file)


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(LONGEST + 1)
    except OSError as error:
        raise SettingsError(_shown(path, f"cannot be read: {error.strerror or error}")) from error
    if len(data) > LONGEST:
        raise SettingsError(_shown(path, f"has more than {LONGEST} bytes"))
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise SettingsError(_shown(path, f"line {line}: is not UTF-8")) from None


def _value(file: File) -> RelaysFile:
    everywhere = Route(relays=tuple(file.relays))
    routes = tuple(Route(relays=tuple(route.relays), match=route.match.value) for route in file.routes)
    return RelaysFile(
        relays=dict(file.relays),
        routes=routes or ((everywhere,) if file.relays else ()),
        limits=tuple(
            SendingLimit(name=one.name, rates=tuple(one.rate), match=one.match.value, per=one.per, count=one.count)
            for one in file.limits
        ),
        windows=tuple(
            Window(days=one.days, hours=one.hours, timezone=one.timezone, match=one.match.value) for one in file.windows
        ),
    )


# --- what is wrong, by its key -------------------------------------------------------------------------------------


def _wrong_relays(file: File, read_relay: Callable[[str, RelayTable], object]) -> Iterator[tuple[Key, str]]:
    for name, relay in file.relays.items():
        here = ("relays", name)
        if problem := _wrong_secret(relay):
            yield (*here, problem[0]), problem[1]
            continue
        try:
            read_relay(name, relay)
        except ValueError as error:
            key, _, rest = str(error).partition(": ")
            known = key in RelayTable.model_fields and key != "url"
            yield (*here, key if known else "url"), rest if known else str(error)


def _wrong_secret(relay: RelayTable) -> tuple[str, str] | None:
    """Return the key and the problem of secrets that do not fit together."""
    passwords = [key for key in ("password_env", "password_file") if getattr(relay, key)]
    tokens = [key for key in ("token_command", "token_file") if getattr(relay, key)]
    if len(passwords) > 1:
        return "password_file", "there is a password_env too; keep one of them"
    if len(tokens) > 1:
        return "token_file", "there is a token_command too; keep one of them"
    if relay.auth is None and tokens:
        return tokens[0], 'is used only with auth = "xoauth2"'
    if relay.auth is not None and not tokens:
        return "auth", f"{relay.auth} needs token_command or token_file"
    if relay.auth is not None and passwords:
        return passwords[0], f"{relay.auth} uses no password"
    return None


def _wrong_routes(file: File) -> Iterator[tuple[Key, str]]:
    for index, route in enumerate(file.routes):
        here = ("routes", index)
        for name in route.relays:
            if name not in file.relays:
                yield (*here, "relays"), f"there is no relay {name!r}{_meant(name, file.relays)}"
        if len(set(route.relays)) < len(route.relays):
            yield (*here, "relays"), "names a relay twice"
        if route.match.value == EVERY_MAIL and index < len(file.routes) - 1:
            yield here, "has no match, so the routes behind it are never used; make it the last one"
    if file.routes and file.routes[-1].match.value != EVERY_MAIL:
        yield ("routes", len(file.routes) - 1), "the last route must have no match, so that every mail has a relay"


def _wrong_limits(file: File) -> Iterator[tuple[Key, str]]:
    names = [limit.name for limit in file.limits]
    for index, limit in enumerate(file.limits):
        if limit.name in names[:index]:
            yield ("limits", index, "name"), f"{limit.name!r} is the name of another limit too"
        if any(rate.period >= DAY for rate in limit.rate):
            yield ("limits", index, "rate"), "must be of seconds, minutes or hours; only a relay has a rate of a day"


# --- how it is said ------------------------------------------------------------------------------------------------


def _path(error: ErrorDetails) -> Key:
    """Return the key of an error, without the mark by which pydantic says that the key itself is wrong."""
    return tuple(part for part in error["loc"] if part != "[key]")


def _keys_beside(key: Key) -> Collection[str]:
    """Return the keys that are allowed where ``key`` is."""
    if len(key) == 1:
        return File.model_fields
    return (MatchTable if key[-2] == "match" else _TABLES[str(key[0])]).model_fields


def _what(error: ErrorDetails) -> str:
    path = _path(error)
    match error["type"]:
        case "extra_forbidden":
            return f"is no key here{_meant(str(path[-1]), _keys_beside(path))}"
        case "missing":
            return "is missing"
        case _:
            message = error["msg"].removeprefix("Value error, ").replace("Input should be", "must be")
            got = error["input"]
            if "(got " in message or path[-1] in _NEVER_SHOWN or isinstance(got, dict | list):
                return one_line(message)
            return one_line(f"{message} (got {got!r})")


def _placed(file: Path, text: str, wrong: list[tuple[Key, str]]) -> list[str]:
    """Return a line for each problem, in the order of the file."""
    placed = sorted((line_of(text, key), _dotted(key), what) for key, what in wrong)
    return [_shown(file, f"line {line}: {key}: {what}") for line, key, what in placed]


def _shown(path: Path, what: str) -> str:
    return f"{PREFIX}RELAYS={one_line(str(path))}: {what}"


def _dotted(key: Key) -> str:
    """Return ``routes[2].relays``: lists count from 1, as people do."""
    return "".join(f"[{part + 1}]" if isinstance(part, int) else f".{part}" for part in key).removeprefix(".")


def _meant(name: str, known: Iterable[str]) -> str:
    names = list(known)
    if near := difflib.get_close_matches(name, names, n=1):
        return f"; did you mean {near[0]}?"
    return f"; there are {', '.join(names)}" if names else "; the file has no relays"
