"""What of the machine itself is taken away: memory, disk, network, a server; skipped in one line where it cannot be.

At the end stand the table of what came of it, and how much was skipped. ``--write`` puts it into docs/reliability.md,
unless something is missing of it.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest
from faults.fault import complaints, strike
from faults.street import Finding
from faults.tally import added_up, machine, table, write
from machine.cgroup import MemoryGroup
from machine.network import Network
from support.postgres import NoPostgres, find_binaries

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from faults.fault import Fault
    from faults.house import House

FINDINGS = pytest.StashKey[list[Finding]]()
OURS = ("tests/machine/", "tests/integration/test_smtp_postfix.py")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--write", action="store_true", help="put the table into docs/reliability.md if all passed")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[FINDINGS] = []


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """The table, and how much of what was asked for this machine could not do."""
    stats = terminalreporter.stats
    count = {
        kind: sum(report.nodeid.startswith(OURS) for report in stats.get(kind, []))
        for kind in ("passed", "failed", "error", "skipped")
    }
    said = f"{sum(count.values())} tests of the machine, {count['skipped']} of them skipped"
    lines = table(added_up(config.stash[FINDINGS]))
    terminalreporter.write_sep("=", "faults of the machine")
    terminalreporter.write_line("\n".join(lines))
    terminalreporter.write_line(f"{said}{': what they need stands below' if count['skipped'] else ''}.")
    if config.getoption("--write", default=False) and count["passed"] == sum(count.values()):
        write("machine", [f"{machine()}. {said}.", "", *lines])


@pytest.fixture
def struck(request: pytest.FixtureRequest) -> Callable[..., Finding]:
    """Strike a house with a fault, note and answer what came of it; ``pardon``: words of a complaint to excuse."""

    def struck(house: House, fault: Fault, *, pardon: str | None = None) -> Finding:
        damage = strike(house, fault, fault.row)
        broken = [said for said in complaints(fault, damage) if not pardon or pardon not in said]
        kind = "postgresql" if house.postgres else "sqlite"
        finding = Finding(fault, kind, damage, broken, house.log()[-6000:])
        request.config.stash[FINDINGS].append(replace(finding, log=""))
        assert not broken, f"{broken}: {damage}\n{finding.log}"
        return finding

    return struck


@pytest.fixture
def small_memory() -> Iterator[Callable[[int], MemoryGroup]]:
    """Make a memory cgroup of so many bytes."""
    with ExitStack() as exits:

        def make(size: int) -> MemoryGroup:
            try:
                return exits.enter_context(MemoryGroup(size))
            except OSError as error:
                pytest.skip(f"needs root and a memory cgroup, v1 or v2, that may have children: {error}")

        yield make


@pytest.fixture
def small_disk() -> Iterator[Callable[[int], Path]]:
    """Mount a file system of so many megabytes, which anybody may write to."""
    with ExitStack() as exits:

        def make(megabytes: int) -> Path:
            folder = Path(tempfile.mkdtemp(prefix="disk-", dir="/tmp"))
            exits.callback(shutil.rmtree, folder, ignore_errors=True)
            options = f"size={megabytes}m,mode=1777"
            _run("mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder), needs="root, to mount a tmpfs")
            exits.callback(subprocess.run, ["umount", "--lazy", str(folder)], check=False)
            return folder

        yield make


@pytest.fixture
def network() -> Iterator[Network]:
    """A network namespace, to which wires can be laid and cut."""
    made = Network(f"mb{uuid4().hex[:8]}")
    _run("ip", "netns", "add", made.name, needs="root and iproute2 (ip), to make a network namespace")
    with made:
        yield made


@pytest.fixture
def _standby() -> None:
    try:
        found = (find_binaries() / "pg_basebackup").exists()
    except NoPostgres:
        found = False
    if not found:
        pytest.skip("needs PostgreSQL's pg_basebackup: apt install postgresql")


def _run(*argv: str, needs: str) -> None:
    try:
        subprocess.run(argv, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        said = (getattr(error, "stderr", None) or str(error)).splitlines()[0]
        pytest.skip(f"needs {needs}: {said}")
