"""What a fault is, how it is done to a house, and how what came of it is counted."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from faults.house import CONNECTIONS, INTERVAL, LEASE, LOCK_TTL, WINDOW

from mailbatch.domain.run import crash_bound

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from faults.house import House

SLACK = 15.0
"""Seconds that a busy machine may add: a worker that was killed must start anew."""
RECOVERY = LOCK_TTL + LEASE + INTERVAL
ONE_CRASH = crash_bound(1, CONNECTIONS, WINDOW)


def nothing(_house: House) -> None:
    """The script of the relay is all of the fault."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """A row of the table.

    ``script`` and ``prepare`` come before the mails are reserved, ``injure`` after; it also heals what will not heal
    by itself. ``doubled``: acceptances that there may be beyond one for each mail. ``lasts``: seconds for which the
    fault itself keeps everything standing. ``ends``: the states at the end; by default every mail is sent.
    ``doubtful``: whether attempts without verdict are expected (True), forbidden (False), or may be (None).
    ``held``: mails that may end in doubt (``ON_DOUBT=hold``). ``latch`` is set before the mails are reserved.
    """

    row: str
    name: str
    script: Mapping[str, Any] = field(default_factory=dict)
    prepare: Callable[[House], object] = nothing
    injure: Callable[[House], object] = nothing
    mails: int = 24
    columns: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, object] = field(default_factory=dict)
    doubled: int = 0
    doubtful: bool | None = False
    lasts: float = 0.0
    ends: Mapping[str, int] | None = None
    dialogue: str = "BDAT"
    latch: int | None = None
    held: int = 0
    round: int | None = None
    short: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Damage:
    """What a fault did.

    ``silent``: repeats that no attempt in doubt accounts for. ``strangers``: recipients whom nobody had named.
    ``standstill`` in seconds.
    """

    mails: int
    ended: Mapping[str, int]
    lost: int
    stuck: int
    doubled: int
    in_doubt: int
    silent: int
    standstill: float
    strangers: int


def strike(house: House, fault: Fault, name: str) -> Damage:
    """Do ``fault`` to the house while it sends ``fault.mails`` mails under ``name``; wait for their end, and count."""
    house.settle_in(fault.settings)
    house.relay.offer(fault.dialogue)
    house.relay.script(**fault.script)
    fault.prepare(house)
    if fault.latch:
        house.latch(fault.latch)
    began = time.time()
    house.reserve(name, fault.mails, **fault.columns)
    try:
        fault.injure(house)
        in_time = house.wait_ended(name, fault.mails, fault.lasts + RECOVERY + SLACK)
    finally:
        house.unlatch()
        house.relay.script()
    if not in_time:
        # What is still due after another round is stuck; what came late shows in the standstill.
        house.wait_ended(name, fault.mails, RECOVERY + SLACK)
    return assess(house, name, began)


def assess(house: House, name: str, began: float) -> Damage:
    """Hold what the database says against what the relay wrote down before it answered."""
    rows = house.rows(name)
    taken = [mail for mail in house.relay.accepted() if mail.time >= began]
    ours = {to for row in rows for to in row.recipients.split(", ")}
    accepted = Counter(to for mail in taken for to in mail.recipients if to in ours)
    doubts = house.doubts(name)
    states = Counter(row.status for row in rows)
    repeats = {row.id: sum(max(accepted[to] - 1, 0) for to in row.recipients.split(", ")) for row in rows}
    return Damage(
        mails=len(rows),
        ended=dict(states),
        lost=sum(row.status == "sent" and not accepted[row.recipients.split(", ")[0]] for row in rows),
        stuck=states["pending"] + states["sending"],
        doubled=sum(repeats.values()),
        in_doubt=sum(doubts.values()),
        silent=sum(max(count - doubts.get(id_, 0), 0) for id_, count in repeats.items()),
        standstill=_standstill(began, [mail.time for mail in taken]),
        strangers=sum(to not in house.known for mail in taken for to in mail.recipients),
    )


def complaints(fault: Fault, damage: Damage) -> list[str]:
    """What the fault broke that nothing may break; empty is well."""
    left, surprised = damage.ended.get("in_doubt", 0), fault.doubtful not in {None, bool(damage.in_doubt)}
    checks = {
        f"{damage.lost} lost: they stand as sent, and no relay took them": damage.lost,
        f"{damage.stuck} stuck: {damage.ended}": damage.stuck,
        f"{left} left in doubt, the bound is {fault.held}": left > fault.held,
        f"they ended as {damage.ended}": not damage.stuck and not _ended_well(fault, damage.ended),
        f"{damage.doubled} doubled, the bound is {fault.doubled}": damage.doubled > fault.doubled,
        f"{damage.strangers} mails to recipients whom nobody had named": damage.strangers,
        f"{damage.silent} of {damage.doubled} doubled without a word": damage.silent,
        f"{damage.in_doubt} attempts in doubt": surprised,
        f"it stood still for {damage.standstill:.1f} s": damage.standstill > fault.lasts + RECOVERY + SLACK,
    }
    return [complaint for complaint, true in checks.items() if true]


def _ended_well(fault: Fault, ended: Mapping[str, int]) -> bool:
    if fault.held:
        return set(ended) <= {"sent", "in_doubt"}
    return ended == dict(fault.ends or {"sent": fault.mails})


def _standstill(began: float, times: list[float]) -> float:
    """The longest time in which nothing was taken, from the reservation to the last mail."""
    return max((later - earlier for earlier, later in zip([began, *times], times, strict=False)), default=0.0)
