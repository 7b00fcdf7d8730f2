"""The option ``--job``, and a hint if no job of that name is known."""

from __future__ import annotations

import difflib
import shlex
from typing import TYPE_CHECKING, Any

import click

from mailbatch.domain.job_name import MUST_BE, OURS, SEND_ALL, is_job_name
from mailbatch.interfaces.cli.output import clean

if TYPE_CHECKING:
    from collections.abc import Callable

    from mailbatch.application.ports.reports import Reports


class JobName(click.ParamType[str]):
    """The name of a job; the job may not exist yet."""

    name = "name"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the name, if it can be the name of a job."""
        if not is_job_name(str(value)):
            self.fail(f"{clean(str(value))!r}: a job's name is {MUST_BE}", param, ctx)
        return str(value)


def job_option(whose: str) -> Callable[[Any], Any]:
    """Decorate a command with ``--job``; ``whose`` begins its help text."""
    told = f"{whose}: send-all, purge, or one of your own."
    return click.option("--job", type=JobName(), default=SEND_ALL, show_default=True, metavar="NAME", help=told)


def hint_if_unknown(reports: Reports, job: str) -> None:
    """Say on stderr that no job of this name has run or is planned, and suggest the nearest name."""
    if job in OURS:
        return
    known = {*OURS, *(found.name for found in reports.jobs())}
    if job in known:
        return
    near = difflib.get_close_matches(job, sorted(known), n=1)
    meant = f"did you mean {near[0]}?" if near else f"known are {', '.join(sorted(known))}"
    click.echo(clean(f"mailbatch: no job {job} has run or is planned; {meant}"), err=True)


def of_job(job: str) -> str:
    """Return the option to add to a command for ``job``."""
    return "" if job == SEND_ALL else f" --job {shlex.quote(job)}"
