"""Kills and stops at random moments of a run under way; every round is drawn from the seed and its own number."""

from __future__ import annotations

import os
import random
from dataclasses import replace
from signal import SIGCONT, SIGINT, SIGKILL, SIGSTOP, SIGTERM
from typing import TYPE_CHECKING

from faults.fault import ONE_CRASH, Fault
from faults.house import INTERVAL, LEASE, LOCK_TTL
from faults.kill_rows import VICTIMS, under_strict

if TYPE_CHECKING:
    from collections.abc import Callable
    from signal import Signals

    from faults.house import House

MAILS = 300
STOPS = {SIGTERM: "SIGTERM", SIGINT: "SIGINT", SIGKILL: "kill -9"}


def round_of(seed: int, number: int) -> Fault:
    """Round ``number`` under ``seed``: the same again whenever it is asked for. Every third is in strict mode."""
    chance = random.Random(f"{seed}/{number}")  # noqa: S311 - a seed that can be given again
    strict = number % 3 == 0
    moment = chance.randrange(1, MAILS - 50)
    draw = chance.random()
    if draw < 0.1:
        fault = Fault(
            row="1s",
            name="SIGSTOP of the sender at a random moment, past its lease",
            injure=_asleep(moment),
            lasts=LOCK_TTL + LEASE + INTERVAL,
        )
    else:
        signal = SIGKILL if draw < 0.8 else chance.choice([SIGTERM, SIGINT])
        target = chance.choice(["child", "worker", "group"]) if signal is SIGKILL else "worker"
        name = f"{STOPS[signal]} of {VICTIMS[target]} at a random moment"
        fault = Fault(row=f"1r/{target}" if signal is SIGKILL else "2r", name=name, injure=_at(moment, target, signal))
    fault = replace(fault, mails=MAILS, doubled=ONE_CRASH, doubtful=None, round=number, script={"dot": ["late", 0.01]})
    return under_strict(fault) if strict else fault


def _at(moment: int, target: str, signal: Signals) -> Callable[[House], None]:
    def injure(house: House) -> None:
        house.wait_taken(moment)
        house.kill(target, signal)

    return injure


def _asleep(moment: int) -> Callable[[House], None]:
    def injure(house: House) -> None:
        house.wait_taken(moment)
        sleeper = house.sender()
        os.kill(sleeper, SIGSTOP)
        house.pass_time(LOCK_TTL + LEASE + INTERVAL)
        os.kill(sleeper, SIGCONT)

    return injure
