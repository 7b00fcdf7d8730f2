"""What many strikes add up to, as the table in docs/reliability.md tells it."""

from __future__ import annotations

import os
import platform
import subprocess
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from mailbatch.infrastructure.redis.embedded import find_binary

if TYPE_CHECKING:
    from collections.abc import Iterable

    from faults.street import Finding

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "reliability.md"
HEAD = "| # | fault | on | done | mails | lost | repeated | of these unnamed | in doubt | longest standstill |"


@dataclass(slots=True)
class Row:
    """All strikes of one fault on one kind of database. ``standstill`` in seconds."""

    number: str
    name: str
    kind: str
    done: int = 0
    mails: int = 0
    lost: int = 0
    repeated: int = 0
    unnamed: int = 0
    in_doubt: int = 0
    standstill: float = 0.0
    broken: list[str] = field(default_factory=list)

    def add(self, finding: Finding) -> None:
        """One more."""
        self.done += 1
        self.broken += finding.complaints
        if (damage := finding.damage) is not None:
            self.mails += damage.mails
            self.lost += damage.lost + damage.stuck
            self.repeated += damage.doubled
            self.unnamed += damage.silent
            self.in_doubt += damage.in_doubt
            self.standstill = max(self.standstill, damage.standstill)

    def line(self) -> str:
        """As a line of the table."""
        cells = [self.number, self.name, self.kind, self.done, f"{self.mails:,}"]
        cells += [self.lost, self.repeated, self.unnamed, self.in_doubt, f"{self.standstill:.1f} s"]
        return f"| {' | '.join(map(str, cells))} |"


def added_up(findings: Iterable[Finding]) -> list[Row]:
    """The rows, in the order of their numbers."""
    rows: dict[tuple[str, str], Row] = {}
    for finding in findings:
        key = (finding.fault.row, finding.kind)
        kind = {"postgresql": "PostgreSQL", "sqlite": "SQLite"}[finding.kind]
        rows.setdefault(key, Row(finding.fault.row, finding.fault.name, kind)).add(finding)
    return [rows[key] for key in sorted(rows, key=lambda key: (key[1], key[0]))]


def table(rows: list[Row]) -> list[str]:
    """The table, with its sums."""
    total = Row("", "**together**", "")
    for row in rows:
        total.done += row.done
        total.mails += row.mails
        total.lost += row.lost
        total.repeated += row.repeated
        total.unnamed += row.unnamed
        total.in_doubt += row.in_doubt
        total.standstill = max(total.standstill, row.standstill)
    return [HEAD, "|---|---|---|" + "--:|" * 7, *(row.line() for row in rows), total.line()]


def machine() -> str:
    """One line: when, of what, on what."""
    cpu = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    redis = _said(find_binary(), "--version").split(" sha=")[0].removeprefix("Redis server v=")
    return (
        f"{datetime.now(UTC):%Y-%m-%d}, commit {_said('git', '-C', str(ROOT), 'rev-parse', '--short', 'HEAD')}; "
        f"{os.cpu_count()} cores of {cpu}, Linux {platform.release().partition('-')[0]}, "
        f"Python {platform.python_version()}, Redis {redis}"
    )


def write(section: str, lines: list[str], page: Path = PAGE) -> None:
    """Put ``lines`` into the part of the page that is marked as ``section``."""
    text = page.read_text(encoding="utf-8")
    begin, end = f"<!-- {section} -->\n", f"<!-- end of {section} -->"
    before, _, rest = text.partition(begin)
    _, _, after = rest.partition(end)
    page.write_text(f"{before}{begin}\n{chr(10).join(lines)}\n\n{end}{after}", encoding="utf-8")


def _said(*argv: str) -> str:
    try:
        return subprocess.run(argv, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "?"
