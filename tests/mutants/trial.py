"""Run tests against a mutant: in a fork of this process, so that the packages are imported only once."""

from __future__ import annotations

import faulthandler
import os
import sys
from contextlib import contextmanager
from importlib import import_module
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from mutants.changes import Mutant

PACKAGES = (
    "alembic.command",
    "celery.app",
    "email_validator",
    "fastapi",
    "hypothesis",
    "jinja2",
    "psycopg",
    "pydantic",
)
PACKAGES += ("pytest_celery", "redis", "rich", "schemathesis", "sqlalchemy.dialects.postgresql", "structlog")
SLACK = 30.0
"""Seconds that each test may take beyond ten times its usual time: an endless loop is caught."""


def prepare(tree: Path) -> None:
    """Import the packages of the tests, and take mailbatch and its tests from ``tree``."""
    for name in PACKAGES:
        import_module(name)
    sys.path.insert(0, str(tree))
    os.environ["PYTHONPATH"] = str(tree)
    os.chdir(tree)


@contextmanager
def changed(tree: Path, mutant: Mutant, number: int) -> Iterator[None]:
    """The mutant's module in ``tree``. Each has another time, because Python keeps compiled modules by it."""
    path = tree / mutant.file
    source, before = path.read_bytes(), path.stat()
    path.write_bytes(mutant.applied_to(source))
    os.utime(path, (number, number))
    try:
        yield
    finally:
        path.write_bytes(source)
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def first_failure(tests: Sequence[str], seconds: dict[str, float], log: Path) -> str | None:
    """Run ``tests`` in this order until one fails; return its name, or None if all pass."""
    marker = log.with_suffix(".test")
    marker.write_text("(imports)", encoding="utf-8")
    child = os.fork()
    if not child:
        os._exit(_run(tests, seconds, log, marker))
    _, status = os.waitpid(child, 0)
    return marker.read_text(encoding="utf-8") if status else None


def _run(tests: Sequence[str], seconds: dict[str, float], log: Path, marker: Path) -> int:
    code = 1
    try:
        os.setsid()
        with log.open("wb") as output:
            for stream in (1, 2):
                os.dup2(output.fileno(), stream)
        files = list(dict.fromkeys(test.partition("::")[0] for test in tests))
        options = ["-x", "-q", "-n", "0", "--assert=plain", "--tb=short", "--durations=0", "--durations-min=1"]
        options += ["-p", "no:cacheprovider", "-p", "no:faulthandler"]
        code = pytest.main([*options, *files], plugins=[_Chosen(tests, seconds, marker)])
    finally:
        sys.stdout.flush()
    return code


class _Chosen:
    """Runs only the chosen tests, in their order, each with its limit of time."""

    def __init__(self, tests: Sequence[str], seconds: dict[str, float], marker: Path) -> None:
        self._order = {test: i for i, test in enumerate(tests)}
        self._seconds = seconds
        self._marker = marker
        faulthandler.dump_traceback_later(4 * SLACK, file=2, exit=True)

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        chosen = [item for item in items if item.nodeid in self._order]
        config.hook.pytest_deselected(items=[item for item in items if item.nodeid not in self._order])
        items[:] = sorted(chosen, key=lambda item: self._order[item.nodeid])

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self._marker.write_text(nodeid, encoding="utf-8")
        faulthandler.dump_traceback_later(SLACK + 10 * self._seconds[nodeid], file=2, exit=True)

    def pytest_sessionfinish(self) -> None:
        faulthandler.dump_traceback_later(4 * SLACK, file=2, exit=True)
