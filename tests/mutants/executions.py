"""Which tests execute a line: one run of a ring of tests under coverage, in which each test is a context."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from coverage import CoverageData

if TYPE_CHECKING:
    import pytest
    from mutants.changes import Mutant


class Executions:
    """Runs the tests of ``ring`` once, and keeps in files beside ``record`` what each executed and how long it took."""

    def __init__(self, tree: Path, ring: str, record: Path) -> None:
        self._tree = tree
        self._ring = ring
        self._lines_file = record.with_suffix(".lines")
        self._seconds_file = record.with_suffix(".seconds")

    def of(self, mutant: Mutant) -> list[str]:
        """The tests that execute the changed line, the quickest first, those with a PostgreSQL of their own last.

        A line that runs when its module is imported is executed by all tests of the module and of its importers.
        """
        if mutant.in_function:
            found = self._contexts(mutant.file, mutant.lines)
        else:
            found = set().union(*(self._contexts(file) for file in (mutant.file, *self._importers(mutant.file))))
        passed = found & self.seconds.keys()
        return sorted(passed, key=lambda test: ("postgresql" in test, self.seconds[test], test))

    @property
    def recorded(self) -> bool:
        return self._seconds_file.exists()

    @cached_property
    def seconds(self) -> dict[str, float]:
        """How long each test took that passed."""
        self._run()
        seconds: dict[str, float] = json.loads(self._seconds_file.read_text(encoding="utf-8"))
        return seconds

    @cached_property
    def _data(self) -> CoverageData:
        self._run()
        data = CoverageData(basename=str(self._lines_file))
        data.read()
        return data

    def _contexts(self, file: str, lines: range | None = None) -> set[str]:
        # The tree of the recorded run had another temporary folder.
        recorded = next((path for path in self._data.measured_files() if path.endswith(f"/{file}")), "")
        by_line = self._data.contexts_by_lineno(recorded)
        return {
            context.rpartition("|")[0]
            for line, contexts in by_line.items()
            if lines is None or line in lines
            for context in contexts
        }

    def _importers(self, file: str) -> list[str]:
        line = f"from {file.removesuffix('.py').replace('/', '.')} import "
        modules = (self._tree / "mailbatch").rglob("*.py")
        return [str(m.relative_to(self._tree)) for m in modules if line in m.read_text(encoding="utf-8")]

    def _run(self) -> None:
        if self.recorded:
            return
        print(f"looking which lines the {self._ring} tests execute …", flush=True)
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "mutants.executions"]
        command += ["--numprocesses", "2", "--dist", "loadfile"]
        command += ["--cov", "mailbatch", "--cov-context", "test", "--cov-report", "", f"tests/{self._ring}"]
        output = self._lines_file.with_suffix(".log")
        with output.open("wb") as log:
            subprocess.run(
                command, cwd=self._tree, env=self._environment(), stdout=log, stderr=subprocess.STDOUT, check=False
            )
        if not self._seconds_file.exists():
            sys.exit(f"the tests did not run to their end: see {output}")

    def _environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(self._tree), str(Path(__file__).parents[1])]),
            "COVERAGE_FILE": str(self._lines_file),
            "MUTANTS_SECONDS": str(self._seconds_file),
        }


# --- the plugin in the run ---

_seconds: Counter[str] = Counter()
_outcomes: dict[str, set[str]] = {}


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    _seconds[report.nodeid] += report.duration
    _outcomes.setdefault(report.nodeid, set()).add(report.outcome)


def pytest_sessionfinish() -> None:
    if "PYTEST_XDIST_WORKER" in os.environ:
        return
    passed = {test: seconds for test, seconds in _seconds.items() if _outcomes[test] == {"passed"}}
    Path(os.environ["MUTANTS_SECONDS"]).write_text(json.dumps(passed), encoding="utf-8")
