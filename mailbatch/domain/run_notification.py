"""The texts by which people are notified: of runs, and of incidents that no run can report."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mailbatch.domain.run import COUNTED, RunOutcome

if TYPE_CHECKING:
    from collections.abc import Mapping
    from uuid import UUID

QUIET = frozenset({RunOutcome.COMPLETED.value, RunOutcome.SKIPPED.value, RunOutcome.PAUSED.value})
"""The outcomes of runs that are not reported if they dealt with nothing."""
_TOLD_ERRORS = 5

RETRIES = (5.0, 60.0, 300.0, 1800.0, 7200.0, 18000.0, 36000.0, 50400.0)
"""Seconds between two tries to deliver a report; about 31 hours in all."""


def worth_telling(report: Mapping[str, Any]) -> bool:
    """Return whether a run is reported at once: it dealt with mails, or ended neither well nor by a pause."""
    return report["outcome"] not in QUIET or any(report[name] for name in COUNTED)


def is_incident(report: Mapping[str, Any]) -> bool:
    """Return whether ``report`` is that of an incident, and not of a run."""
    return "kind" in report


def told(report: Mapping[str, Any]) -> str:
    """Return a report as a few lines of text: of an incident, or of a run with ``job`` and ``quiet_runs`` beside it."""
    if is_incident(report):
        since = f"since {report['since'][:19].replace('T', ' ')} UTC; this is told once"
        return "\n".join((report["what"], report["advice"], since, "mailbatch status"))
    counts = ", ".join(f"{report[name]:,} {name.replace('_', ' ')}" for name in COUNTED if report[name])
    left = f", {report['remaining']:,} remaining" if report["remaining"] else ""
    lines = [f"{report['job']} {report['outcome']}: {counts or 'nothing sent'}{left} in {report['duration']:.1f} s"]
    if report["quiet_runs"]:
        lines.append(f"{report['quiet_runs']:,} quiet runs since the last report")
    errors = report["errors"]
    lines += errors[:_TOLD_ERRORS]
    if len(errors) > _TOLD_ERRORS:
        lines.append("…")
    lines.append(f"mailbatch run {report['run_id']}")
    return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class DueReport:
    """A report on its way. ``attempts``: how often it was tried before."""

    run_id: UUID
    channel: str
    attempts: int
    report: Mapping[str, Any]

    @property
    def id(self) -> str:
        """The same for each try, so that a receiver can tell a repetition."""
        return f"run_{self.run_id}"
