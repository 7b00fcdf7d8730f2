"""The tables of the relays' file: their keys, and what each may be. docs/how-to/several-relays.md describes them."""

from __future__ import annotations

import re
import shlex
from datetime import time
from typing import TYPE_CHECKING, Annotated, Any, Literal
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, InstanceOf

from mailbatch.config.checks import time_zone
from mailbatch.domain.rate import Rate
from mailbatch.domain.sending_hours import DAYS, Hours, read_days
from mailbatch.domain.sending_limit import LimitUnit, Per
from mailbatch.domain.traits import Match, Names, PriorityIs

if TYPE_CHECKING:
    from collections.abc import Callable

_RELAY_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_LABEL_TO_ENCODE = re.compile(r"[^\x00-\x7f]")
_MOST_RATES = 4
_MOST_CONNECTIONS = 100


def _text(read: Callable[[str], Any], what: str) -> BeforeValidator:
    """Return a validator that reads a text by ``read``. ``what``: an example, for a value that is no text."""

    def validate(value: object) -> Any:
        if not isinstance(value, str):
            # pydantic makes a line of a ValueError only.
            raise ValueError(f"must be a text such as {what} (got {value!r})")  # noqa: TRY004
        return read(value)

    return BeforeValidator(validate)


def _listed(value: object) -> object:
    """A text stands for a list of one."""
    return [value] if isinstance(value, str) else value


def _names(value: list[str]) -> Names:
    if not value or not all(one.strip() for one in value):
        raise ValueError("must be a name, or a list of names, such as 'news-*'")
    return Names(tuple(value))


def _some(value: list[str]) -> list[str]:
    if not value:
        raise ValueError("must name at least one relay")
    return value


def _domains(value: list[str]) -> Names:
    return _names([_ascii_domain(one.strip().lower().rstrip(".")) for one in value])


def _ascii_domain(name: str) -> str:
    """Return a domain as SMTP has it (``xn--bcher-kva.example``). Wildcards stay."""
    if "@" in name or " " in name:
        raise ValueError(f"must be a domain such as 'example.com' or '*.example.com' (got {name!r})")
    if not _LABEL_TO_ENCODE.search(name):
        return name
    try:
        return name.encode("idna").decode("ascii")
    except UnicodeError as error:
        raise ValueError(f"must be a domain such as 'example.com' (got {name!r})") from error


def _relay_name(name: str) -> str:
    if not _RELAY_NAME.fullmatch(name):
        raise ValueError("a name must be 1 to 64 letters, digits, '.', '_' and '-', and begin with a letter or a digit")
    return name


def _connections(value: object) -> object:
    if value == "auto" or (type(value) is int and 1 <= value <= _MOST_CONNECTIONS):
        return value
    raise ValueError(f"must be 'auto', or a number from 1 to {_MOST_CONNECTIONS} (got {value!r})")


def _zone(name: str) -> ZoneInfo:
    return ZoneInfo(time_zone(name))


def _command(value: object) -> object:
    """A text is split as a shell does it; no shell runs it."""
    if isinstance(value, str):
        try:
            return shlex.split(value)
        except ValueError as error:
            raise ValueError(f"cannot be split into words: {error}") from error
    return value


def _program(words: list[str]) -> list[str]:
    if not words or not words[0]:
        raise ValueError("must be a command, such as ['/usr/local/bin/token', 'mail']")
    return words


Rates = Annotated[
    list[Annotated[InstanceOf[Rate], _text(Rate.read, "'14/s'")]],
    BeforeValidator(_listed),
    Field(min_length=1, max_length=_MOST_RATES),
]
Zone = Annotated[InstanceOf[ZoneInfo], _text(_zone, "'Europe/Berlin'")]
NameList = Annotated[list[str], BeforeValidator(_listed), AfterValidator(_names)]
DomainList = Annotated[list[str], BeforeValidator(_listed), AfterValidator(_domains)]
RelayNames = Annotated[list[str], BeforeValidator(_listed), AfterValidator(_some)]
Text = Annotated[str, Field(min_length=1)]
Count = Annotated[int, Field(ge=0, le=10_000)]
_UTC = ZoneInfo("UTC")


class Table(BaseModel):
    """A table of the file. A key that it does not know is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class MatchTable(Table):
    """``match``: the mails that a rule is for."""

    tag: NameList | None = None
    priority: Annotated[InstanceOf[PriorityIs], _text(PriorityIs.read, "'>= 10'")] | None = None
    sender_domain: DomainList | None = None
    recipient_domain: DomainList | None = None

    @property
    def value(self) -> Match:
        """What is matched, as the domain has it."""
        return Match(
            tag=self.tag,  # type: ignore[arg-type]  # the validator has made Names of the list
            priority=self.priority,
            sender_domain=self.sender_domain,  # type: ignore[arg-type]
            recipient_domain=self.recipient_domain,  # type: ignore[arg-type]
        )


class RelayTable(Table):
    """``[relays.NAME]``: where a relay is, how we log in, and how we may use it."""

    url: str = Field(repr=False)
    password_env: Text | None = None
    password_file: Text | None = None
    auth: Literal["xoauth2"] | None = None
    token_command: Annotated[list[str], BeforeValidator(_command), AfterValidator(_program)] | None = None
    token_file: Text | None = None
    connections: Annotated[int | str | None, BeforeValidator(_connections)] = None
    max_connections: Annotated[int, Field(ge=1, le=_MOST_CONNECTIONS)] | None = None
    total_connections: Count | None = None
    rate: Rates | None = None
    count: Annotated[LimitUnit, Field(strict=False)] = LimitUnit.MAILS
    timezone: Zone = _UTC


class RouteTable(Table):
    """``[[routes]]``: which relays take which mails."""

    match: MatchTable = MatchTable()
    relays: RelayNames


class LimitTable(Table):
    """``[[limits]]``: how many of which mails may go in a period."""

    name: Annotated[str, AfterValidator(_relay_name)]
    match: MatchTable = MatchTable()
    rate: Rates
    per: Annotated[Per, Field(strict=False)] = Per.ALL
    count: Annotated[LimitUnit, Field(strict=False)] = LimitUnit.MAILS


class WindowTable(Table):
    """``[[windows]]``: in which hours which mails may go."""

    match: MatchTable = MatchTable()
    days: Annotated[InstanceOf[frozenset[int]], _text(read_days, "'mon-fri'")] = frozenset(range(len(DAYS)))
    hours: Annotated[InstanceOf[Hours], _text(Hours.read, "'08:00-18:00'")] = Hours(time(), time())
    timezone: Zone = _UTC


class File(Table):
    """The whole file."""

    relays: dict[Annotated[str, AfterValidator(_relay_name)], RelayTable] = {}
    routes: list[RouteTable] = []
    limits: list[LimitTable] = []
    windows: list[WindowTable] = []
