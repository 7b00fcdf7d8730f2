"""A street of houses: each is struck by one fault after the other, all at the same time, for most of it is waiting."""

from __future__ import annotations

import threading
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

from faults.fault import complaints, strike
from faults.house import open_house

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from faults.fault import Damage, Fault
    from faults.house import House

HOUSES = 3


@dataclass(frozen=True, slots=True)
class Finding:
    """What a fault did, and what of it may not be; ``log`` is the end of what the worker said."""

    fault: Fault
    kind: str
    damage: Damage | None
    complaints: list[str]
    log: str


def strike_all(
    faults: Iterable[Fault],
    kind: str = "postgresql",
    houses: int = HOUSES,
    seen: Callable[[Finding], object] = lambda _finding: None,
) -> list[Finding]:
    """Strike with every fault, once each; ``seen`` is shown each finding as it comes.

    Faults with the same settings come one after the other: each change costs a start of the worker.
    """
    waiting = deque(enumerate(sorted(faults, key=lambda fault: sorted(map(str, fault.settings.items())))))
    findings: list[Finding] = []
    guard = threading.Lock()

    def live() -> None:
        """One house, until nothing is left to do; a house in which something broke is left for a new one."""
        while waiting:
            with ExitStack() as exits:
                house = exits.enter_context(open_house(kind))
                while (turn := _next(waiting)) is not None:
                    finding = _struck(house, turn[1], f"{turn[1].row}-{turn[0]}".replace("/", "-"), kind)
                    with guard:
                        findings.append(finding)
                        seen(finding)
                    if finding.damage is None:
                        break

    # Children end with the thread that started them: each house lives in one.
    with ThreadPoolExecutor(houses) as street:
        for one in [street.submit(live) for _ in range(houses)]:
            one.result()
    return findings


def _next(waiting: deque[tuple[int, Fault]]) -> tuple[int, Fault] | None:
    try:
        return waiting.popleft()
    except IndexError:
        return None


def _struck(house: House, fault: Fault, name: str, kind: str) -> Finding:
    try:
        damage = strike(house, fault, name)
    except Exception as error:  # noqa: BLE001 - one fault that cannot be done must not hide what the others found
        return Finding(fault, kind, None, [f"it could not be done: {error!r}"[:2000]], house.log()[-3000:])
    found = complaints(fault, damage)
    return Finding(fault, kind, damage, found, house.log()[-3000:] if found else "")
