"""Show whether the tests see a change of behaviour: draw small changes by a seed, and run the tests of each."""

from __future__ import annotations

import argparse
import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mutants import trial
from mutants.changes import mutants
from mutants.executions import Executions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mutants.changes import Mutant

MODULES = ("domain", "application", "infrastructure/db", "infrastructure/smtp/dialogue")
RINGS = ("unit", "contract", "integration")


@dataclass
class Result:
    """What the tests made of a mutant. ``tests``: how many ran it and passed."""

    number: int
    mutant: Mutant
    tests: int = 0
    caught_by: str | None = None

    def __str__(self) -> str:
        by = f"caught by {self.caught_by}" if self.caught_by else f"SURVIVED {self.tests} tests"
        return f"{self.number:4} {self.mutant}   {by}"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m mutants", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--count", type=int, default=20)
    parser.add_argument("--only", type=int, nargs="+", help="numbers of the drawn mutants: run only these")
    parser.add_argument("--rings", nargs="+", choices=RINGS, default=RINGS)
    parser.add_argument("--modules", nargs="+", default=MODULES, help="folders and files below mailbatch")
    asked = parser.parse_args()
    commit = _git("rev-parse", "--short", "HEAD").strip()
    records = Path("var/mutants", commit).resolve()
    records.mkdir(parents=True, exist_ok=True)
    tree = Path(tempfile.mkdtemp(prefix="mutants-", dir="/tmp"))
    try:
        subprocess.run(["sh", "-c", f"git archive HEAD | tar -x -C {tree}"], check=True)
        print(f"commit {commit}, seed {asked.seed}, {asked.count} mutants; the records are in {records}", flush=True)
        every = _drawn(tree, _files(tree, asked.modules), asked.seed, asked.count)
        drawn = [Result(n, m) for n, m in every if not asked.only or n in asked.only]
        trial.prepare(tree)
        _try_all(tree, records, [Executions(tree, ring, records / ring) for ring in asked.rings], drawn)
    finally:
        shutil.rmtree(tree, ignore_errors=True)
    caught = [one for one in drawn if one.caught_by]
    print(
        f"\n{len(caught)} of {len(drawn)} caught. The others:", *(one for one in drawn if not one.caught_by), sep="\n"
    )
    found = [{"number": one.number, "mutant": str(one.mutant), "caught_by": one.caught_by} for one in drawn]
    (records / f"seed-{asked.seed}.json").write_text(json.dumps(found, indent=1, ensure_ascii=False), encoding="utf-8")


def _git(*command: str) -> str:
    return subprocess.run(["git", *command], check=True, capture_output=True, text=True).stdout


def _files(tree: Path, modules: Sequence[str]) -> list[Path]:
    """The files in these folders of ``mailbatch``, or of these names. Ends with a line if there is none."""
    found = set()
    for name in modules:
        path = tree / "mailbatch" / name
        files = [path] if path.is_file() else list(path.rglob("*.py"))
        if not files:
            sys.exit(f"mailbatch/{name} is no folder of modules, and no module (write domain or domain/retry.py)")
        found.update(files)
    return sorted(found)


def _drawn(tree: Path, files: Sequence[Path], seed: int, count: int) -> list[tuple[int, Mutant]]:
    everything = [m for file in files for m in mutants(str(file.relative_to(tree)), file.read_bytes())]
    chosen = random.Random(seed).sample(everything, min(count, len(everything)))  # noqa: S311 - not for secrets
    return list(enumerate(chosen, 1))


def _try_all(tree: Path, records: Path, rings: Sequence[Executions], drawn: Sequence[Result]) -> None:
    """Run the tests of one ring after the other, each against the mutants that survived the rings before it."""
    for ring in rings:
        for one in drawn:
            if not one.caught_by and (tests := ring.of(one.mutant)):
                began = time.monotonic()
                with trial.changed(tree, one.mutant, one.number):
                    one.caught_by = trial.first_failure(tests, ring.seconds, records / f"{one.number}.log")
                one.tests += len(tests)
                print(f"{one}, {time.monotonic() - began:.1f} s", flush=True)
        _control(records, ring, drawn)


def _control(records: Path, ring: Executions, drawn: Sequence[Result]) -> None:
    """A test that also fails without a change has caught nothing."""
    tests = sorted({one.caught_by for one in drawn if one.caught_by in ring.seconds})
    while tests and (failed := trial.first_failure(tests, ring.seconds, records / "control.log")) in tests:
        tests.remove(failed)
        for one in drawn:
            if one.caught_by == failed:
                one.caught_by = None
                print(f"{one.number:4} not caught: {failed} also fails without the change", flush=True)


if __name__ == "__main__":
    main()
