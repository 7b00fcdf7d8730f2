"""The fault bench in its long form: ``make soak``. Every row again and again, then kills at random moments.

It prints its seed; ``SEED=…`` repeats a session, and ``SEED=… ROUND=…`` one round of it. What is found stands in
docs/reliability.md; the status is 1 if anything was lost, repeated without a word, or beyond its bound.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from functools import partial
from typing import TYPE_CHECKING

from faults.file_rows import FILES
from faults.kill_rows import KILLS, STOPS, STRICT
from faults.mail_rows import MAILS
from faults.random_rows import round_of
from faults.relay_rows import RELAY
from faults.store_rows import DATABASE, REDIS, SQLITE
from faults.street import strike_all
from faults.tally import added_up, machine, table, write
from faults.tick_rows import TICKS

if TYPE_CHECKING:
    from faults.street import Finding

say = partial(print, flush=True)
TABLE = [*KILLS, *STRICT, *STOPS, *REDIS, *DATABASE, *RELAY, *TICKS, *MAILS, *FILES]
ON_SQLITE = [*SQLITE, *RELAY, *MAILS, *(fault for fault in [*KILLS, *STRICT] if not fault.latch)]


def main() -> int:
    """Read the command line, strike, tell."""
    reader = argparse.ArgumentParser(prog="faults", description=__doc__.splitlines()[0])
    reader.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32))
    reader.add_argument("--rounds", type=int, default=200, help="kills at random moments")
    reader.add_argument("--round", type=int, help="only this one of them")
    reader.add_argument("--repeat", type=int, default=3, help="times for each row of the table")
    reader.add_argument("--houses", type=int, default=3, help="systems that are struck at the same time")
    reader.add_argument("--write", action="store_true", help="put what was found into docs/reliability.md")
    said = reader.parse_args()
    say(f"seed {said.seed}")
    began = time.monotonic()
    if said.round is not None:
        return _end(strike_all([round_of(said.seed, said.round)], houses=1, seen=_tell))
    rows = strike_all(TABLE * said.repeat, houses=said.houses, seen=_tell)
    rows += strike_all(ON_SQLITE * said.repeat, "sqlite", houses=said.houses, seen=_tell)
    rounds = [round_of(said.seed, number) for number in range(1, said.rounds + 1)]
    chance = strike_all(rounds, houses=said.houses, seen=_tell)
    minutes = (time.monotonic() - began) / 60
    lines = table(added_up(rows + chance))
    say("\n".join(lines))
    if said.write:
        done = f"{said.repeat} times each row, {said.rounds} random rounds, seed {said.seed}, {minutes:.0f} minutes"
        write("results", [f"{machine()}. {done}.", "", *lines])
    return _end(rows + chance)


def _tell(finding: Finding) -> None:
    round_ = f"round {finding.fault.round}" if finding.fault.round is not None else ""
    say(
        f"{finding.fault.row:16} {round_:9} {finding.kind:10} {finding.complaints or 'well'}  {finding.damage}",
        flush=True,
    )
    if finding.complaints:
        say(finding.log)


def _end(findings: list[Finding]) -> int:
    broken = [finding for finding in findings if finding.complaints]
    for finding in broken:
        say(f"{finding.fault.row} on {finding.kind}: {finding.fault.name}: {finding.complaints}")
    say(f"{len(findings)} faults, {len(broken)} of them broke a promise")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
