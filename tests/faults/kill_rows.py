"""Processes that are killed, frozen or told to stop, each at a known step of a mail's way (rows 1 and 2)."""

from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from signal import SIGCONT, SIGINT, SIGKILL, SIGQUIT, SIGSTOP, SIGTERM
from typing import TYPE_CHECKING, Any

from faults.fault import ONE_CRASH, RECOVERY, Fault
from faults.house import CLAIM, CONNECTIONS, INTERVAL, LEASE, LOCK_TTL, SETTLE, SETTLED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from signal import Signals

    from faults.house import House

HOLD = ["hold"]
HOLD_THEN_DROP = ["hold", ["drop"]]
LARGE = 8_000_000
"""Bytes of a body that no socket buffer holds: the sender is surely inside of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A place on a mail's way where everything can be made to stand still.

    ``script`` holds the relay there, or ``latch`` the database. ``doubtful`` as in ``Fault``, after a kill.
    """

    name: str
    script: Mapping[str, Any] = field(default_factory=dict)
    latch: int | None = None
    columns: Mapping[str, Any] = field(default_factory=dict)
    doubled: int = ONE_CRASH
    doubtful: bool | None = True

    @contextmanager
    def standing(self, house: House) -> Iterator[None]:
        """Inside of this the mails stand at the step."""
        if self.latch:
            house.wait_latched()
        else:
            house.relay.wait_held()
        yield
        house.unlatch()
        house.relay.script()


STEPS = [
    Step(name="while the claim is being committed", latch=CLAIM, doubled=0),
    Step(name="after the claim, before anything is on the wire", script={"connect": HOLD_THEN_DROP}, doubled=0),
    Step(name="at MAIL", script={"mail": [None, HOLD_THEN_DROP]}),
    Step(
        name="inside the body",
        script={"body": [["after_reading", 5000, HOLD_THEN_DROP]]},
        columns={"body_text": lambda i: "line\n" * (LARGE // 5) if i == 0 else "small"},
    ),
    Step(name="after the body, which was not taken", script={"dot": [None, HOLD_THEN_DROP]}),
    Step(
        name="after the body, which was taken, before the reply",
        script={"dot": [None, ["accept_then", HOLD_THEN_DROP]]},
    ),
    Step(name="after the reply, before the verdict is written", latch=SETTLE),
    # A commit that was asked for may be done though nobody is left to hear of it.
    Step(name="while the verdict is being committed", latch=SETTLED, doubtful=None),
]
TARGETS = ["child", "worker", "group"]
VICTIMS = {"child": "the sending child", "worker": "the worker alone", "group": "the whole process group"}


def struck(step: Step, action: Callable[[House], object]) -> Callable[[House], None]:
    """Do ``action`` while the mails stand at ``step``."""

    def injure(house: House) -> None:
        with step.standing(house):
            action(house)

    return injure


def at(step: Step, row: str, name: str, action: Callable[[House], object], **more: Any) -> Fault:
    """The row of doing ``action`` at ``step``."""
    return Fault(
        row=row,
        name=f"{name} {step.name}",
        injure=struck(step, action),
        **{
            "script": step.script,
            "columns": step.columns,
            "doubled": step.doubled,
            "doubtful": step.doubtful,
            "latch": step.latch,
            **more,
        },
    )


def under_strict(fault: Fault) -> Fault:
    """The same with a late intent: nothing is repeated, and only what stood between intent and reply is in doubt."""
    strict = {"ON_DOUBT": "hold", "WINDOW": 1}
    return replace(
        fault,
        row=f"{fault.row}/strict",
        name=f"{fault.name}, in strict mode",
        settings={**fault.settings, **strict},
        doubled=0,
        doubtful=None,
        held=CONNECTIONS,
    )


def signalled(target: str, *signals: Signals) -> Callable[[House], None]:
    """Signal ``target``, once for each of ``signals``."""

    def action(house: House) -> None:
        for signal in signals:
            house.kill(target, signal)

    return action


def kill_beat(house: House) -> None:
    """Between two ticks, then let mail come due."""
    house.kill("beat")


def sleep_past_the_lease(house: House) -> None:
    """The sender is frozen past its lock and its lease, another takes over, and then it wakes up."""
    with MID_RUN.standing(house):
        sleeper = house.sender()
        os.kill(sleeper, SIGSTOP)
    house.pass_time(RECOVERY + INTERVAL)
    os.kill(sleeper, SIGCONT)


# Every step, by the child; the others in turn, so that each is met at the end of a mail too.
KILLS = [
    at(
        step,
        f"1{'abcdefgh'[i]}/{target}",
        f"kill -9 of {VICTIMS[target]}",
        signalled(target, SIGKILL),
        # An orphan that has not heard of its worker's death yet goes on with what it has claimed.
        doubled=ONE_CRASH if target == "worker" else step.doubled,
        doubtful=None if target == "worker" and step.latch == SETTLE else step.doubtful,
        short=target == ["child", "group", "worker"][i % 3],
    )
    for i, step in enumerate(STEPS)
    for target in TARGETS
]
MID_RUN = STEPS[4]
WAITING = Step(name="in the middle of a mail", script={"dot": [None, None, HOLD]})
STOPS = [
    Fault(row="1i", name="kill -9 of beat", prepare=kill_beat),
    Fault(
        row="1j",
        name="SIGSTOP of the sender past its lease, then SIGCONT",
        script=MID_RUN.script,
        injure=sleep_past_the_lease,
        doubled=ONE_CRASH,
        doubtful=True,
        lasts=LOCK_TTL + LEASE + INTERVAL,
    ),
    at(WAITING, "2a", "SIGTERM to the worker", signalled("worker", SIGTERM), doubled=0, doubtful=False),
    at(WAITING, "2b", "SIGTERM to the whole process group", signalled("group", SIGTERM), doubled=0, doubtful=False),
    at(WAITING, "2c", "SIGQUIT to the worker", signalled("worker", SIGQUIT), doubtful=None, short=False),
    at(WAITING, "2d", "Ctrl-C twice", signalled("group", SIGINT, SIGINT), doubtful=None),
]
STRICT = [under_strict(fault) for fault in [*KILLS, *STOPS] if fault.row.endswith("/child") or fault.row == "1j"]
