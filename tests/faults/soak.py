"""Row 9, the soak: a worker that ticks every three seconds while mail keeps coming and something happens all the time.

``make soak``: once under ``resend`` and once in strict mode, side by side, drawn from one seed.
"""

from __future__ import annotations

import argparse
import random
import re
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from signal import SIGKILL, SIGTERM
from typing import TYPE_CHECKING

import psutil
from faults.fault import ONE_CRASH, RECOVERY, SLACK, assess
from faults.house import CONNECTIONS, open_house
from faults.tally import machine, write

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from faults.fault import Damage
    from faults.house import House

say = partial(print, flush=True)
POLICIES: Mapping[str, Mapping[str, object]] = {
    "resend": {"ON_DOUBT": "resend"},
    "hold, strict": {"ON_DOUBT": "hold", "WINDOW": 1},
}
HEAD = ("policy", "mails", "what was done", "lost", "repeated", "of these unnamed", "in doubt", "longest standstill")
HEAD += ("a process grew by", "open files", "connections to PostgreSQL")
NAME = "soak"
MOST_FDS, MOST_CONNECTIONS, MOST_GROWTH = 120, 20, 1.5
"""Open files of one process, connections to PostgreSQL of all, and how much a process may grow."""


@dataclass
class Account:
    """What happened in one house. ``rss``: bytes of each process, at first and at most."""

    actions: Counter[str] = field(default_factory=Counter)
    rss: dict[int, tuple[int, int]] = field(default_factory=dict)
    fds: int = 0
    connections: int = 0
    reserved: int = 0

    @property
    def crashes(self) -> int:
        """Actions after which something may be in doubt."""
        return sum(n for action, n in self.actions.items() if action.startswith("kill"))

    @property
    def growth(self) -> float:
        """The most that a process has grown, as a ratio, once it had sent."""
        return max((most / first for first, most in self.rss.values()), default=1.0)

    def look(self, house: House) -> None:
        """Measure the processes as they are now."""
        assert house.worker is not None
        for pid in house.worker.members():
            try:
                process = psutil.Process(pid)
                now = process.memory_info().rss
                self.fds = max(self.fds, process.num_fds())
            except psutil.NoSuchProcess:
                continue
            # A process that has just been forked is not warm yet.
            if time.time() - process.create_time() > RECOVERY:
                first, most = self.rss.get(pid, (now, now))
                self.rss[pid] = (first, max(most, now))
        with house.database() as connection:
            asked = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'mailbatch'"
            self.connections = max(self.connections, int(connection.exec_driver_sql(asked).scalar_one()))


def revoke(house: House) -> None:
    """The run that was received last."""
    if received := re.findall(r"Task send-all\[([0-9a-f-]+)\] received", house.log()):
        house.stack.celery("control", "revoke", received[-1])


def pause(house: House) -> None:
    """Everything, and go on after a moment."""
    house.stack.cli("pause", "--all")
    house.pass_time(1.0)
    house.stack.cli("resume")


ACTIONS: Mapping[str, Callable[[House], object]] = {
    "kill -9 of the child": lambda house: house.kill("child"),
    "kill -9 of everything": lambda house: house.kill("group"),
    "SIGTERM": lambda house: house.kill("worker", SIGTERM),
    "revoke": revoke,
    "pause": pause,
    "kill -9 of beat": lambda house: house.kill("beat", SIGKILL),
}


def live_through(policy: str, minutes: float, seed: int) -> tuple[Account, Damage]:
    """Let one house live for so long."""
    chance = random.Random(f"{seed}/{policy}")  # noqa: S311 - a seed that can be given again
    account = Account()
    with open_house() as house:
        house.settle_in({"SCHEDULE": 3, **POLICIES[policy]})
        house.relay.script(dot=["late", 0.005])
        began = time.time()
        next_deed = began + 10
        while time.time() < began + minutes * 60:
            house.reserve(NAME, more := chance.randrange(1, 60), start=account.reserved)
            account.reserved += more
            house.pass_time(chance.uniform(0.2, 1.0))
            account.look(house)
            if time.time() >= next_deed:
                action = chance.choice(list(ACTIONS))
                try:
                    ACTIONS[action](house)
                except (ProcessLookupError, IndexError, AssertionError):
                    # Who was to be struck had just been struck.
                    action = "came too late"
                account.actions[action] += 1
                house.restarts = 0
                next_deed = time.time() + chance.uniform(4, 15)
        house.relay.script()
        house.wait_ended(NAME, account.reserved, 120)
        return account, assess(house, NAME, began)


def complaints(policy: str, account: Account, damage: Damage) -> list[str]:
    """What may not be."""
    hold = POLICIES[policy]["ON_DOUBT"] == "hold"
    bound = account.crashes * (CONNECTIONS if hold else ONE_CRASH)
    checks = {
        f"{damage.lost} lost": damage.lost,
        f"{damage.stuck} stuck: {damage.ended}": damage.stuck,
        f"{damage.silent} repeated without a word": damage.silent,
        f"{damage.doubled} repeated": damage.doubled > (0 if hold else bound),
        f"{damage.in_doubt} in doubt, the bound is {bound}": damage.in_doubt > bound,
        f"it stood still for {damage.standstill:.1f} s": damage.standstill > 2 * (RECOVERY + SLACK),
        f"{account.fds} open files": account.fds > MOST_FDS,
        f"{account.connections} connections to PostgreSQL": account.connections > MOST_CONNECTIONS,
        f"a process grew by {account.growth:.2f}": account.growth > MOST_GROWTH,
    }
    return [complaint for complaint, true in checks.items() if true]


def main() -> int:
    """Both policies side by side."""
    reader = argparse.ArgumentParser(prog="soak", description=__doc__.splitlines()[0])
    reader.add_argument("--minutes", type=float, default=30)
    reader.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32))
    reader.add_argument("--write", action="store_true", help="put what was found into docs/reliability.md")
    said = reader.parse_args()
    say(f"seed {said.seed}")
    with ThreadPoolExecutor(len(POLICIES)) as street:
        lives = {policy: street.submit(live_through, policy, said.minutes, said.seed) for policy in POLICIES}
        found = {policy: life.result() for policy, life in lives.items()}
    lines = [f"| {' | '.join(HEAD)} |", "|---|--:|---|" + "--:|" * (len(HEAD) - 3)]
    broken = []
    for policy, (account, damage) in found.items():
        done = ", ".join(f"{n} × {action}" for action, n in account.actions.most_common())
        cells = [policy, f"{damage.mails:,}", done, damage.lost + damage.stuck, damage.doubled, damage.silent]
        cells += [damage.in_doubt, f"{damage.standstill:.1f} s", f"× {account.growth:.2f}", account.fds]
        lines.append(f"| {' | '.join(map(str, [*cells, account.connections]))} |")
        broken += [f"{policy}: {complaint}" for complaint in complaints(policy, account, damage)]
    say("\n".join([*lines, *broken]))
    if said.write:
        write("soak", [f"{machine()}. {said.minutes:g} minutes, seed {said.seed}.", "", *lines])
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
