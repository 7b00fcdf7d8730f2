"""Measures the cost of a change in CPU a mail, against an older commit: ``python -m bench.paired BASE``.

Both versions send the same mails with the same interpreter and packages. They go first in alternate rounds, so that
other load on the machine affects both equally. The result is the mean of the rounds' ratios. The exit code is 1 if
the 95 % interval lies above the allowance.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from math import exp, log, sqrt
from pathlib import Path
from statistics import mean, median, stdev
from typing import TYPE_CHECKING

from bench.bed import ROOT
from bench.machine import python
from mailbatch.infrastructure.redis.embedded import find_binary

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

ALLOWED = 1.03
TURN = Path(__file__).with_name("turn.py")
# Student's t, two-sided 95 %, by degrees of freedom; between two entries the smaller one applies.
_T = {10: 2.228, 12: 2.179, 14: 2.145, 16: 2.120, 18: 2.101, 20: 2.086, 25: 2.060, 30: 2.042, 40: 2.021}


def main() -> int:
    """Return 1 if a mail certainly costs more than is allowed."""
    asked = _arguments()
    print(f"{python()}; {asked.rounds} rounds of {asked.mails} mails on {asked.database}", flush=True)
    with checkout(asked.base) as base:
        pairs = [pair(base, asked.database, asked.mails, first=n % 2 == 0) for n in range(asked.rounds)]
    ratio, low, high = interval([ours / theirs for ours, theirs in pairs])
    mine, before = (median(column) for column in zip(*pairs, strict=True))
    print(f"CPU a mail: {mine:.0f} µs against {before:.0f} µs at {asked.base}")
    print(f"ratio {ratio:.3f}, 95 % interval {low:.3f} to {high:.3f}, allowed {ALLOWED:g}")
    return int(low > ALLOWED)


@contextmanager
def checkout(commit: str) -> Iterator[Path]:
    """Yield a folder with the files of ``commit``, and remove it afterwards."""
    with tempfile.TemporaryDirectory(prefix="base-") as folder:
        archive = subprocess.run(["git", "-C", str(ROOT), "archive", commit], capture_output=True, check=True).stdout
        subprocess.run(["tar", "-x", "-C", folder], input=archive, check=True)
        yield Path(folder)


def pair(base: Path, database: str, mails: int, *, first: bool) -> tuple[float, float]:
    """Return the CPU µs a mail of this checkout and of ``base``; with ``first`` this checkout goes first."""
    order = [ROOT, base] if first else [base, ROOT]
    found = {where: turn(where, database, mails) for where in order}
    print(f"{found[ROOT]:8.1f} {found[base]:8.1f} {found[ROOT] / found[base]:6.3f}", flush=True)
    return found[ROOT], found[base]


def turn(where: Path, database: str, mails: int) -> float:
    """Return the CPU µs a mail of one turn of the checkout ``where``."""
    # An older commit may search its Redis server only on the path.
    path = f"{Path(find_binary()).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        [sys.executable, str(TURN), str(where), database, str(mails)],
        env={**os.environ, "PATH": path},
        cwd=where,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return float(done.stdout)


def interval(ratios: Sequence[float]) -> tuple[float, float, float]:
    """Return the geometric mean of ``ratios`` and its 95 % interval."""
    logs = [log(ratio) for ratio in ratios]
    t = _T[max(degrees for degrees in _T if degrees <= len(logs) - 1)]
    half = t * stdev(logs) / sqrt(len(logs))
    return exp(mean(logs)), exp(mean(logs) - half), exp(mean(logs) + half)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.paired", description=__doc__)
    parser.add_argument("base", help="the commit to compare with")
    parser.add_argument("--rounds", type=int, default=15, help="11 at least")
    parser.add_argument("--mails", type=int, default=8_000)
    parser.add_argument("--database", choices=("sqlite", "postgresql"), default="postgresql")
    asked = parser.parse_args()
    if asked.rounds < 11:
        parser.error("--rounds: 11 at least, fewer say nothing")
    return asked


if __name__ == "__main__":
    sys.exit(main())
