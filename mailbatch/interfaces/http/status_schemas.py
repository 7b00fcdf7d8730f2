"""The schemas of ``/api/status``, of pauses, and of the list of what operators did."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal, TypeAlias
from uuid import UUID

from pydantic import BaseModel, Field

from mailbatch.domain.circuit import CircuitState
from mailbatch.domain.run import Pause, Trigger
from mailbatch.interfaces.http.run_schemas import Run
from mailbatch.interfaces.http.schema import EXAMPLE_RUN, shape

_Paused: TypeAlias = Annotated[
    bool | Literal["ticks", "all"], Field(description="False, or what is paused. `pause` says the same as text only.")
]


class Relay(BaseModel):
    """What is known of the relay."""

    model_config = shape()
    name: str
    state: CircuitState
    until: datetime | None
    reason: str | None


class Warned(BaseModel):
    """What the watch found."""

    model_config = shape()
    name: str
    level: str
    what: str
    since: datetime | None
    advice: str


class Progress(BaseModel):
    """How far the run is that goes on."""

    model_config = shape()
    run_id: UUID | None = Field(description="Null for a moment, while it begins.")
    trigger: Trigger | None = Field(description="Null as long as the id is.")
    sent: int
    failed: int
    deferred: int
    in_doubt: int
    expired: int
    state: Literal["running"]
    elapsed: float = Field(description="Seconds since it began.")
    done: int = Field(description="Mails that it has dealt with.")
    whole: int = Field(description="These, and those that are due or under way.")
    rate: float | None = Field(
        description="Mails a second since it began; null at its beginning, and while nobody is answered."
    )
    seconds_left: float | None = Field(description="How long it still takes at that rate.")


class Standing(BaseModel):
    """How things stand."""

    model_config = shape()
    paused: _Paused
    pause: Pause
    running: bool
    progress: Progress | None
    next_run_at: datetime | None
    last_run: Run | None
    reservations: dict[str, int]
    exact: bool
    due: int
    oldest_due_seconds: float | None
    under_way: int = Field(
        description="Mails that a run has claimed and that have no answer yet. `due` leaves them out."
    )
    unanswered_seconds: float | None = Field(
        description="For how long a run has had mails under way and nobody was answered; null if there is no such run."
    )
    relay: Relay | None
    warnings: list[Warned]
    down: list[str] = Field(description="What could not be asked: `redis`.")


class PauseIn(BaseModel):
    """What to suspend."""

    model_config = shape({"all": False})
    all: bool = Field(False, description="Also stop the run in progress, and refuse calls by hand.")


class Paused(BaseModel):
    """What is suspended now."""

    model_config = shape({"paused": "ticks", "pause": "ticks"})
    paused: _Paused
    pause: Pause


class Running(BaseModel):
    """Whether a run goes on, and which."""

    model_config = shape({"running": True, "run_id": EXAMPLE_RUN, "paused": False, "pause": "none"})
    running: bool
    run_id: UUID | None
    paused: _Paused
    pause: Pause


class Action(BaseModel):
    """What somebody did."""

    model_config = shape()
    id: UUID
    at: datetime
    actor: str
    action: str
    target: dict[str, Any] | None
    affected: int | None
    outcome: str


class ActionPage(BaseModel):
    """A page of actions, newest first."""

    model_config = shape()
    items: list[Action]
    next: str | None
