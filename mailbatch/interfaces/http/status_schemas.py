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
    """The state of the relay."""

    model_config = shape()
    name: str
    state: CircuitState
    until: datetime | None
    reason: str | None


class Warned(BaseModel):
    """A finding of the watch."""

    model_config = shape()
    name: str
    level: str
    what: str
    since: datetime | None
    advice: str


class Progress(BaseModel):
    """The progress of the current run."""

    model_config = shape()
    run_id: UUID | None = Field(description="Null for a moment while the run starts.")
    trigger: Trigger | None = Field(description="Null while the id is null.")
    sent: int
    failed: int
    deferred: int
    in_doubt: int
    expired: int
    held_back: int
    state: Literal["running"]
    elapsed: float = Field(description="Seconds since it began.")
    done: int = Field(description="Mails that are done.")
    whole: int = Field(description="Mails that are done, due or under way.")
    rate: float | None = Field(
        description="Mails a second since the run began; null at its beginning, and while the relay replies to nothing."
    )
    seconds_left: float | None = Field(description="Time until the end at that rate.")


class Standing(BaseModel):
    """The status of a job, the backlog and the relay."""

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
        description="Mails that a run has claimed and that have no reply yet. `due` does not count them."
    )
    unanswered_seconds: float | None = Field(
        description="Seconds that a run has had mails under way without a reply; null if there is no such run."
    )
    relay: Relay | None
    blocks: list[Block] = Field(description="The blocked tags.")
    warnings: list[Warned]
    down: list[str] = Field(description="What is not available: `redis`.")


class Block(BaseModel):
    """A blocked tag."""

    model_config = shape()
    tag: str
    since: datetime
    by: str = Field(description="Who blocked it: the interface and the person.")
    note: str | None
    waiting: int = Field(description="How many mails it holds back, up to 100,000.")


class BlockList(BaseModel):
    """Blocked tags."""

    model_config = shape()
    items: list[Block]


class Unblocked(BaseModel):
    """Whether a block was lifted."""

    model_config = shape({"tag": "newsletter", "unblocked": True})
    tag: str
    unblocked: bool


class PauseIn(BaseModel):
    """What to pause."""

    model_config = shape({"all": False})
    all: bool = Field(False, description="Also stop the run in progress, and refuse manual calls.")


class Paused(BaseModel):
    """What is paused now."""

    model_config = shape({"paused": "ticks", "pause": "ticks"})
    paused: _Paused
    pause: Pause


class Running(BaseModel):
    """Whether a run is in progress, and which."""

    model_config = shape({"running": True, "run_id": EXAMPLE_RUN, "paused": False, "pause": "none"})
    running: bool
    run_id: UUID | None
    paused: _Paused
    pause: Pause


class Action(BaseModel):
    """An entry of the audit log."""

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
