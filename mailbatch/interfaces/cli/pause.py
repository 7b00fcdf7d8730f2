"""``mailbatch pause`` and ``mailbatch resume``."""

from __future__ import annotations

import click

from mailbatch.domain.run import Pause
from mailbatch.interfaces.cli.acting import noted_act
from mailbatch.interfaces.cli.opening import opened
from mailbatch.interfaces.cli.output import as_json, print_json

JOB = "send-all"


@click.command
@click.option("--all", "everything", is_flag=True, help="Also stop the run in progress, and refuse calls by hand.")
@as_json
def pause(*, everything: bool, as_json: bool) -> None:
    """Suspend the sending: no tick starts a run, until `mailbatch resume`. It survives restarts."""
    from mailbatch.application.pause import PauseJob

    what = Pause.ALL if everything else Pause.TICKS
    with opened() as parts, noted_act(parts, "pause", {"job": JOB, "what": what.value}):
        paused = PauseJob(parts.switch)(JOB, everything=everything)
    if as_json:
        print_json({"paused": paused.value})
    elif everything:
        click.echo("paused: the run in progress stops, and calls are refused, until `mailbatch resume`")
    else:
        click.echo("paused: a run in progress finishes, calls by hand still run; `mailbatch resume` ends it")


@click.command
@as_json
def resume(*, as_json: bool) -> None:
    """Let the sending go on, whatever was paused."""
    from mailbatch.application.pause import ResumeJob

    with opened() as parts, noted_act(parts, "resume", {"job": JOB}):
        ResumeJob(parts.switch)(JOB)
    if as_json:
        print_json({"paused": False})
    else:
        click.echo("resumed: the next tick starts a run")
