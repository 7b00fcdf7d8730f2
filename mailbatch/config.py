"""Settings: read once from the environment, checked once, frozen. Each is described in docs/reference/settings.md."""

from __future__ import annotations

import base64
import difflib
import os
import re
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import unquote, urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError
from pydantic import AfterValidator, Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from mailbatch.domain.errors import SettingsError
from mailbatch.domain.lifecycle import OnDoubt
from mailbatch.domain.redaction.lines import one_line
from mailbatch.domain.redaction.urls import HIDDEN, mask_url, origin
from mailbatch.domain.schedule import Cron, Every, RunAtStart, Schedule
from mailbatch.domain.schema_name import what_is_wrong

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic_core import ErrorDetails

PREFIX = "MAILBATCH_"
_URLS = {"database_url", "redis_url", "broker_url", "result_backend", "smtp_url"}
_LONGEST_NAMESPACE = 64
# No sign that means something to Redis (patterns, hash tags, ACLs) or to a shell, and none that parts a key's name.
_NAMESPACE = re.compile(rf"[A-Za-z0-9][A-Za-z0-9._-]{{0,{_LONGEST_NAMESPACE - 1}}}")
_OTHER_SQLITES = {"sqlite+aiosqlite", "sqlite+pysqlcipher"}
_CRON_FIELDS = (5, 6)
SHORTEST_TOKEN = 16
"""Characters of a token; a shorter one can be guessed in time, although guesses are slowed down."""
_HIGHEST_PORT = 65_535
# What Kubernetes sets for a Service that is called mailbatch.
_OF_KUBERNETES = re.compile(rf"{PREFIX}(?:\w+_)?(?:SERVICE_HOST|SERVICE_PORT(?:_\w+)?|PORT(?:_\d+_\w+)?)")
# RFC 9110 §5.6.2.
_FIELD_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_NEAR = 0.62
"""How similar a name behind the prefix is to a setting's, if it is most likely a slip."""
_HOST = re.compile(r"(?:\[[^\[\]]*\]|[^:\[\]]*)(?::([^:]*))?")


class LogAddresses(StrEnum):
    """How mail addresses stand in log lines."""

    MASKED = "masked"
    HASHED = "hashed"
    PLAIN = "plain"


class LogFormat(StrEnum):
    """How log lines look."""

    TEXT = "text"
    JSON = "json"


def _directory(path: Path | None) -> Path | None:
    if path is not None and not path.is_dir():
        raise ValueError(f"must be an existing folder; there is none at {path.resolve()}")
    return path.resolve() if path is not None else None


def _place(path: Path | None) -> Path | None:
    if path is not None and not path.parent.is_dir():
        raise ValueError(f"must be a file in an existing folder; there is none at {path.resolve().parent}")
    return path.resolve() if path is not None else None


Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]
PositiveSeconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Settings(BaseSettings):
    """Every setting of mailbatch. Times are in seconds, sizes in bytes; 0 means "none" where a limit is optional."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, env_ignore_empty=True, extra="ignore")

    database_url: str = Field(default="sqlite:///mailbatch.db", repr=False)
    database_schema: str | None = None
    redis_url: str = Field(default="redis://localhost:6379/0", repr=False)
    namespace: str = "mailbatch"
    broker_url: str | None = Field(default=None, repr=False)
    result_backend: str | None = Field(default=None, repr=False)
    smtp_url: str = Field(default="smtp://localhost:1025", repr=False)
    ehlo_name: str | None = None
    sender: str | None = None
    schedule: str = "300"
    run_at_start: RunAtStart = RunAtStart.AUTO
    start_jitter: Seconds = 0
    page_size: Annotated[int, Field(ge=1, le=100_000)] = 1000
    connections: Annotated[int, Field(ge=1, le=100)] = 4
    window: Annotated[int, Field(ge=1, le=1000)] = 32
    lanes: Annotated[int, Field(ge=1, le=64)] = 1
    relay_connections: Annotated[int, Field(ge=0)] = 0
    lock_ttl: Annotated[float, Field(ge=1, allow_inf_nan=False)] = 30
    lease: Annotated[float, Field(ge=1, allow_inf_nan=False)] = 60
    run_timeout: Seconds = 0
    max_attempts: Annotated[int, Field(ge=1, le=1000)] = 5
    retry_backoff: PositiveSeconds = 60
    retry_backoff_max: PositiveSeconds = 3600
    on_doubt: OnDoubt = OnDoubt.RESEND
    max_lateness: Seconds = 0
    max_message_bytes: Annotated[int, Field(ge=1024)] = 26_214_400
    template_dir: Annotated[Path | None, AfterValidator(_directory)] = None
    webhook_url: str | None = Field(default=None, repr=False)
    webhook_secret: SecretStr | None = None
    report_to: str | None = None
    redirect_all_to: str | None = None
    retention_days: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0
    api_token: SecretStr | None = None
    api_read_token: SecretStr | None = None
    user_header: str | None = None
    heartbeat_file: Annotated[Path | None, AfterValidator(_place)] = None
    log_format: LogFormat = LogFormat.TEXT
    log_level: str = "INFO"
    log_addresses: LogAddresses = LogAddresses.MASKED
    timezone: str = "UTC"

    @field_validator("database_url")
    @classmethod
    def _database(cls, url: str) -> str:
        scheme, colon, rest = url.partition("://")
        backend = scheme.partition("+")[0]
        if not colon or backend not in {"sqlite", "postgresql", "postgres"} or scheme in _OTHER_SQLITES:
            raise ValueError("must be an SQLAlchemy URL: sqlite:///file.db or postgresql://user:pass@host/name")
        if backend == "sqlite" and (rest in {"", "/"} or ":memory:" in rest):
            raise ValueError("must name a file: an SQLite database in memory is not shared with the workers")
        if backend != "sqlite":
            _check_server(rest)
        return url if backend == "sqlite" else f"postgresql+psycopg://{rest}"

    @field_validator("database_schema")
    @classmethod
    def _schema(cls, name: str | None) -> str | None:
        if name is not None and (wrong := what_is_wrong(name)):
            raise ValueError(wrong)
        return name

    @field_validator("redis_url", "broker_url", "result_backend")
    @classmethod
    def _redis(cls, url: str | None) -> str | None:
        schemes = ("redis://", "rediss://", "redis+socket://", "unix://")
        if url is not None and not url.startswith(schemes):
            raise ValueError("must begin with redis://, rediss:// or redis+socket://")
        if url is not None:
            _host_of(url)
            _port_of(url)
            database = urlsplit(url).path.strip("/")
            if url.startswith(("redis://", "rediss://")) and database and not database.isdecimal():
                raise ValueError("must end with the number of a database: redis://host:6379/0")
        return url

    @field_validator("namespace")
    @classmethod
    def _namespace(cls, name: str) -> str:
        if not _NAMESPACE.fullmatch(name):
            raise ValueError(
                f"must be 1 to {_LONGEST_NAMESPACE} letters, digits, dots, underscores and hyphens, "
                "and begin with a letter or a digit"
            )
        return name

    @field_validator("smtp_url")
    @classmethod
    def _smtp(cls, url: str) -> str:
        if not url.startswith(("smtp://", "smtps://")) or not _host_of(url):
            raise ValueError("must be smtp://user:pass@host:587?starttls=required or smtps://host:465")
        _port_of(url)
        for pair in urlsplit(url).query.split("&"):
            name, _, quoted = pair.partition("=")
            # A plus sign is one, as for who reads the URL in earnest.
            ca_file = unquote(quoted)
            if name == "ca_file" and ca_file and not Path(ca_file).is_file():
                raise ValueError(f"ca_file: must be an existing PEM file; there is none at {Path(ca_file).resolve()}")
        return url

    @field_validator("webhook_url")
    @classmethod
    def _webhook(cls, url: str | None) -> str | None:
        if url is not None and (not url.startswith(("https://", "http://")) or not _host_of(url)):
            raise ValueError("must begin with https:// and name a host")
        return url

    @field_validator("webhook_secret")
    @classmethod
    def _webhook_secret(cls, secret: SecretStr | None) -> SecretStr | None:
        text = secret.get_secret_value() if secret is not None else ""
        if text.startswith("whsec_"):
            try:
                base64.b64decode(text.removeprefix("whsec_") + "==", validate=False)
            except ValueError as error:
                raise ValueError("must be base64 behind whsec_, or any text that does not begin so") from error
        return secret

    @field_validator("user_header")
    @classmethod
    def _header(cls, name: str | None) -> str | None:
        if name is not None and not _FIELD_NAME.fullmatch(name):
            raise ValueError("must be the name of a header field, such as X-Forwarded-User")
        return name

    @field_validator("timezone")
    @classmethod
    def _zone(cls, name: str) -> str:
        try:
            ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError, OSError) as error:
            raise ValueError("must be a time zone's name, such as UTC or Europe/Berlin") from error
        return name

    @field_validator("schedule")
    @classmethod
    def _schedule(cls, text: str) -> str:
        read_schedule(text, "UTC")
        return text.strip()

    @field_validator("log_level", mode="before")
    @classmethod
    def _level(cls, level: Any) -> str:
        name = str(level).upper()
        if name not in {"DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"}:
            raise ValueError("must be DEBUG, INFO, WARNING, ERROR or CRITICAL")
        return name

    @model_validator(mode="after")
    def _together(self) -> Settings:
        if self.database_schema is not None and self.database_url.startswith("sqlite"):
            raise ValueError(
                f"{PREFIX}DATABASE_SCHEMA={self.database_schema}: must not be set for SQLite, which has no schemas"
            )
        if self.retry_backoff_max < self.retry_backoff:
            raise ValueError(
                f"{PREFIX}RETRY_BACKOFF_MAX={self.retry_backoff_max:g}: must be at least "
                f"{PREFIX}RETRY_BACKOFF ({self.retry_backoff:g})"
            )
        return self

    @property
    def when(self) -> Schedule:
        """``schedule`` as a value, in the time zone of these settings."""
        return read_schedule(self.schedule, self.timezone)

    @property
    def runs_at_start(self) -> bool:
        """Whether each start of a beat fires ``send-all``; a tick that was missed is another matter."""
        if self.run_at_start is RunAtStart.AUTO:
            return isinstance(self.when, Every)
        return self.run_at_start is RunAtStart.YES

    @property
    def group_size(self) -> int:
        """How many mails a lane claims at once: what its connections can hold in flight, and at most a page."""
        return min(self.connections * self.window, self.page_size)

    @property
    def strict(self) -> bool:
        """Whether the intent to send is committed just before the end of each body (docs/explanation/delivery.md)."""
        return self.on_doubt is OnDoubt.HOLD and self.window == 1


def _host_of(url: str) -> str | None:
    """The host; a URL that cannot be read is refused without urlsplit's own words, which quote the password."""
    try:
        return urlsplit(url).hostname
    except ValueError:
        raise ValueError("has a host that cannot be read; write [, ], /, ?, # and @ in a password as %XX") from None


def _port_of(url: str) -> None:
    """Refuse a port that is none: urlsplit finds out only when it is asked."""
    try:
        urlsplit(url).port  # noqa: B018 - reading the attribute is the check
    except ValueError as error:
        raise ValueError("has a port that is no number from 0 to 65535") from error


def _check_server(rest: str) -> None:
    """Refuse what stands behind ``postgresql://`` if part of the password passes for a host, or the port is none."""
    server, _, _ = rest.partition("?")
    if server.count("@") > 1:
        raise ValueError("has more than one @; write an @ in the user or password as %40")
    for host in server.rpartition("@")[2].partition("/")[0].split(","):
        found = _HOST.fullmatch(host)
        if not found:
            raise ValueError("has a host that cannot be read; write an IPv6 address in brackets: [::1]:5432")
        if found[1] and (not found[1].isdecimal() or int(found[1]) > _HIGHEST_PORT):
            raise ValueError(f"has a port that is no number from 0 to {_HIGHEST_PORT}")


def read_schedule(text: str, timezone: str) -> Schedule:
    """Read seconds (``300``) or a cron line of 5 or 6 fields, seconds first. Raises ``ValueError``."""
    fields = text.split()
    if len(fields) == 1:
        try:
            seconds = float(fields[0])
        except ValueError:
            seconds = 0.0
        if not 0 < seconds < float("inf"):
            raise ValueError(f"must be seconds above 0, or a cron line of 5 or 6 fields (got {text!r})")
        return Every(seconds)
    if len(fields) not in _CRON_FIELDS:
        raise ValueError("must be seconds, or a cron line of 5 fields (minute first) or 6 (second first)")
    from datetime import UTC, datetime

    try:
        # cronsim reads six fields with the seconds first, as we do.
        next(CronSim(text, datetime(2026, 1, 1, tzinfo=UTC)))
    except (CronSimError, StopIteration) as error:
        raise ValueError(f"is no cron line that ever fires ({str(error) or 'no such date'})") from error
    return Cron(text, timezone)


def load() -> Settings:
    """Read the settings from the environment.

    Raises:
        SettingsError: with one line for each setting that is wrong.
    """
    try:
        return Settings(**_given_empty())
    except ValidationError as error:
        # `from None`: the original carries the values, and with them the secrets.
        raise SettingsError("\n".join(_line(e) for e in error.errors())) from None


def short_tokens(settings: Settings) -> list[str]:
    """Name the tokens of the HTTP API that are shorter than the next version takes, with what to do."""
    tokens = {"API_TOKEN": settings.api_token, "API_READ_TOKEN": settings.api_read_token}
    return [
        f"{PREFIX}{name} has fewer than {SHORTEST_TOKEN} characters, which the next version refuses; "
        "`openssl rand -hex 32` makes a new one"
        for name, token in tokens.items()
        if token is not None and len(token.get_secret_value()) < SHORTEST_TOKEN
    ]


def _given_empty() -> dict[str, Any]:
    """The variables for which empty does not mean "not set".

    An empty NAMESPACE is most likely one whose own source is empty: the default would be another installation's.
    """
    named = {name.upper(): value for name, value in os.environ.items()}
    return {"namespace": ""} if named.get(f"{PREFIX}NAMESPACE") == "" else {}


@dataclass(frozen=True, slots=True)
class Shown:
    """A setting as it may be shown to anybody: secrets are masked. ``source``: environment or default."""

    name: str
    value: str | None
    source: str


def shown(settings: Settings) -> list[Shown]:
    """Every setting, in the order in which they are described."""
    return [
        Shown(f"{PREFIX}{name.upper()}", masked(name, getattr(settings, name)), _source(name, settings))
        for name in Settings.model_fields
    ]


def _source(name: str, settings: Settings) -> str:
    return "environment" if name in settings.model_fields_set else "default"


def masked(name: str, value: Any) -> str | None:
    """The value of a setting as it may be shown to anybody."""
    if value is None:
        return None
    if isinstance(value, SecretStr):
        return HIDDEN
    if isinstance(value, float):
        return f"{value:g}"
    text = str(value)
    if name == "webhook_url":
        # The path of such a URL is often the secret itself.
        return f"{place}/{HIDDEN}" if (place := origin(text)) else HIDDEN
    # A URL may stand, by mistake, in a setting that is none.
    return mask_url(text) if name in _URLS or "://" in text else one_line(text)


def unknown_variables(environ: Mapping[str, str] = os.environ) -> list[str]:
    """Name variables that look like settings but are none, with the nearest that is one: most likely a slip."""
    known = [name.upper() for name in Settings.model_fields]
    found = []
    for variable in sorted(environ):
        name = variable.upper().removeprefix(PREFIX)
        if not variable.upper().startswith(PREFIX) or name in known or _OF_KUBERNETES.fullmatch(variable.upper()):
            continue
        if near := difflib.get_close_matches(name, known, n=2, cutoff=_NEAR):
            alike = [one for one in near if _likeness(name, one) == _likeness(name, near[0])]
            found.append(f"{variable} is no setting; did you mean {' or '.join(PREFIX + one for one in alike)}?")
    return found


def _likeness(name: str, setting: str) -> float:
    return difflib.SequenceMatcher(None, setting, name).ratio()


def _line(error: ErrorDetails) -> str:
    if not error["loc"]:
        return _what(error)
    name = str(error["loc"][0])
    field = Settings.model_fields[name]
    shown = HIDDEN if "SecretStr" in str(field.annotation) else masked(name, str(error["input"]))
    return f"{PREFIX}{name.upper()}={shown}: {_what(error)}"


def _what(error: ErrorDetails) -> str:
    """What is allowed, in words that say must."""
    message = error["msg"].removeprefix("Value error, ")
    return message.replace("Input should be", "must be")
