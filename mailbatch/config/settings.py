"""Every setting: its name, its type, its default, and the values that it allows by itself."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from mailbatch.config import checks
from mailbatch.domain.lifecycle import OnDoubt
from mailbatch.domain.redaction.addresses import AddressDisplay
from mailbatch.domain.schedule import Every, RunAtStart, Schedule, read_schedule

PREFIX = "MAILBATCH_"
URGENT_FROM = 10
"""The priority from which on mail starts a run at once, unless the settings say another."""
SHORTEST_TOKEN = 16
"""Characters of a token of the HTTP API. A shorter one can be guessed in time, although guesses are slowed down."""


class LogFormat(StrEnum):
    """How log lines look."""

    TEXT = "text"
    JSON = "json"


Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]
PositiveSeconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
AtLeastOneSecond = Annotated[float, Field(ge=1, allow_inf_nan=False)]
SchemaName = Annotated[str, AfterValidator(checks.schema_name)]
Namespace = Annotated[str, AfterValidator(checks.namespace)]
Folder = Annotated[Path, AfterValidator(checks.folder)]
ExistingFile = Annotated[Path, AfterValidator(checks.existing_file)]
FileInFolder = Annotated[Path, AfterValidator(checks.file_in_folder)]
HookUrl = Annotated[str, AfterValidator(checks.hook_url)]
HookSecret = Annotated[SecretStr, AfterValidator(checks.hook_secret)]
FieldName = Annotated[str, AfterValidator(checks.field_name)]
LogLevel = Annotated[str, BeforeValidator(checks.log_level)]
LanguageTag = Annotated[str, AfterValidator(checks.language_tag)]
TimeZone = Annotated[str, AfterValidator(checks.time_zone)]
UrgentPriority = Annotated[str, AfterValidator(checks.urgent_priority)]
ScheduleText = Annotated[str, AfterValidator(checks.schedule)]
Patterns = Annotated[str, AfterValidator(checks.patterns)]
Connections = Annotated[int | Literal["auto"], BeforeValidator(checks.connections)]
ReturnPathSecret = Annotated[SecretStr, AfterValidator(checks.return_path_secret)]


class Settings(BaseSettings):
    """Every setting of mailbatch. Times are in seconds, sizes in bytes; 0 means "none" where a limit is optional.

    A URL, and any other text that an adapter reads, is a text here: ``bootstrap/settings.py`` has its reader.
    """

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, env_ignore_empty=True, extra="ignore")

    database_url: str = Field(default="sqlite:///mailbatch.db", repr=False)
    database_schema: SchemaName | None = None
    redis_url: str = Field(default="redis://localhost:6379/0", repr=False)
    namespace: Namespace = "mailbatch"
    broker_url: str | None = Field(default=None, repr=False)
    result_backend: str | None = Field(default=None, repr=False)
    smtp_url: str = Field(default="smtp://localhost:1025", repr=False)
    relays: ExistingFile | None = None
    ehlo_name: str | None = None
    sender: str | None = None
    schedule: ScheduleText = "300"
    run_at_start: RunAtStart = RunAtStart.AUTO
    start_jitter: Seconds = 0
    urgent_priority: UrgentPriority = "auto"
    page_size: Annotated[int, Field(ge=1, le=100_000)] = 1000
    connections: Connections = "auto"
    max_connections: Annotated[int, Field(ge=1, le=100)] = 20
    window: Annotated[int, Field(ge=1, le=1000)] = 32
    lanes: Annotated[int, Field(ge=1, le=64)] = 1
    relay_connections: Annotated[int, Field(ge=0)] = 0
    lock_ttl: AtLeastOneSecond = 30
    lease: AtLeastOneSecond = 60
    run_timeout: Seconds = 0
    max_attempts: Annotated[int, Field(ge=1, le=1000)] = 5
    retry_backoff: PositiveSeconds = 60
    retry_backoff_max: PositiveSeconds = 3600
    on_doubt: OnDoubt = OnDoubt.RESEND
    max_lateness: Seconds = 0
    max_message_bytes: Annotated[int, Field(ge=1024)] = 26_214_400
    template_dir: Folder | None = None
    spool_dir: Folder | None = None
    locale: LanguageTag | None = None
    locale_strict: bool = False
    html_to_text: bool = False
    webhook_url: HookUrl | None = Field(default=None, repr=False)
    webhook_secret: HookSecret | None = None
    report_to: str | None = None
    redirect_all_to: str | None = None
    attachment_dir: Folder | None = None
    max_inline_bytes: Annotated[int, Field(ge=0)] = 1_048_576
    refused_files: Patterns | None = None
    return_path: str | None = None
    return_path_secret: ReturnPathSecret | None = None
    auto_submitted: bool = False
    retention_days: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0
    api_token: SecretStr | None = None
    api_read_token: SecretStr | None = None
    user_header: FieldName | None = None
    heartbeat_file: FileInFolder | None = None
    log_format: LogFormat = LogFormat.TEXT
    log_level: LogLevel = "INFO"
    log_addresses: AddressDisplay = AddressDisplay.MASKED
    timezone: TimeZone = "UTC"

    @model_validator(mode="after")
    def _together(self) -> Self:
        if self.database_schema is not None and self.database_url.startswith("sqlite"):
            raise ValueError(
                f"{PREFIX}DATABASE_SCHEMA={self.database_schema}: must not be set for SQLite, which has no schemas"
            )
        if self.retry_backoff_max < self.retry_backoff:
            raise ValueError(
                f"{PREFIX}RETRY_BACKOFF_MAX={self.retry_backoff_max:g}: must be at least "
                f"{PREFIX}RETRY_BACKOFF ({self.retry_backoff:g})"
            )
        if self.return_path is not None and "{sig}" in self.return_path and self.return_path_secret is None:
            raise ValueError(
                f"{PREFIX}RETURN_PATH={self.return_path}: {{sig}} needs {PREFIX}RETURN_PATH_SECRET; "
                "`openssl rand -hex 32` makes one"
            )
        return self

    @property
    def when(self) -> Schedule:
        """``schedule`` as a value, in the time zone of these settings."""
        return read_schedule(self.schedule, self.timezone)

    @property
    def runs_at_start(self) -> bool:
        """Whether each start of a beat fires ``send-all``. A missed tick may fire it too, whatever this says."""
        if self.run_at_start is RunAtStart.AUTO:
            return isinstance(self.when, Every)
        return self.run_at_start is RunAtStart.YES

    @property
    def urgent_from(self) -> int | None:
        """The priority from which on mail starts a run at once; None if none does."""
        match self.urgent_priority:
            case "auto":
                return URGENT_FROM if isinstance(self.when, Every) else None
            case "none":
                return None
            case number:
                return int(number)

    @property
    def refused_patterns(self) -> tuple[str, ...]:
        """The patterns of ``refused_files``."""
        return checks.split_patterns(self.refused_files or "")

    @property
    def strict(self) -> bool:
        """Whether the intent to send is committed right before the end of each body (docs/explanation/delivery.md)."""
        return self.on_doubt is OnDoubt.HOLD and self.window == 1


def short_tokens(settings: Settings) -> list[str]:
    """Return one line for each token of the HTTP API that the next version refuses as too short."""
    tokens = {"API_TOKEN": settings.api_token, "API_READ_TOKEN": settings.api_read_token}
    return [
        f"{PREFIX}{name} has fewer than {SHORTEST_TOKEN} characters, which the next version refuses; "
        "`openssl rand -hex 32` makes a new one"
        for name, token in tokens.items()
        if token is not None and len(token.get_secret_value()) < SHORTEST_TOKEN
    ]
