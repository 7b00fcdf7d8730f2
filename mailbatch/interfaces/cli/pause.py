"""``mailbatch pause``, ``resume`` and ``stop``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from mailbatch.domain.run import Pause
from mailbatch.interfaces.cli.caller import actor
from mailbatch.interfaces.cli.jobs import hint_if_unknown, job_option, of_job
from mailbatch.interfaces.cli.output import as_json, clean, print_json
from mailbatch.interfaces.cli.session import opened
from mailbatch.interfaces.documents import of_stopping

if TYPE_CHECKING:
    from uuid import UUID


@click.command
@click.option("--all", "everything", is_flag=True, help="Also stop the run in progress, and refuse manual calls.")
@job_option("What to pause")
@as_json
def pause(*, everything: bool, job: str, as_json: bool) -> None:
    """Pause the sending, or another job: no tick starts a run until `mailbatch resume`. A pause survives restarts."""
    paused = Pause.ALL if everything else Pause.TICKS
    with opened() as parts:
        hint_if_unknown(parts.stores.reports, job)
        parts.acting.pause_job(actor(), job, paused)
    ends = clean(f"`mailbatch resume{of_job(job)}`")
    if as_json:
        print_json({"paused": paused.value})
    elif everything:
        click.echo(f"paused: the run in progress stops, and calls are refused, until {ends}")
    else:
        click.echo(f"paused: a run in progress finishes, calls by hand still run; {ends} ends it")


@click.command
@job_option("What to resume")
@as_json
def resume(*, job: str, as_json: bool) -> None:
    """End any pause of the sending, or of another job."""
    with opened() as parts:
        hint_if_unknown(parts.stores.reports, job)
        parts.acting.pause_job(actor(), job, Pause.NONE)
    if as_json:
        print_json({"paused": False})
    else:
        click.echo("resumed: the next tick starts a run")


@click.command
@click.argument("run_id", metavar="RUN_ID", type=click.UUID)
@as_json
def stop(*, run_id: UUID, as_json: bool) -> None:
    """Stop one run of any job between two items. It ends as revoked, and its work is kept.

    The next tick starts another run, unless you pause the job first. `mailbatch runs` lists the ids.
    """
    with opened() as parts:
        stopping = parts.acting.stop_run(actor(), run_id)
    if as_json:
        print_json(of_stopping(stopping))
        return
    click.echo(clean(stopping.sentence))
    if stopping.alive:
        click.echo(
            clean(f"the next tick starts another run; `mailbatch pause{of_job(stopping.job)}` keeps it from that")
        )
