"""The command ``mailbatch``: which commands there are, and how they fail: one line, no traceback."""

from __future__ import annotations

import os
import sys
from importlib import import_module

import click

from mailbatch.domain.errors import MailbatchError, SettingsError

REFUSED, USAGE, INTERRUPTED = 1, 2, 130

# Each: its module here, and what `--help` says of it. A module is imported when its command is called.
_COMMANDS = {
    "migrate": ("migrate", "Make the tables, or bring them up to date."),
    "reserve": ("reserve", "Reserve one mail."),
    "import": ("importing", "Reserve mails from a CSV or JSON Lines file."),
    "list": ("listing", "List reservations, newest first."),
    "show": ("listing", "Show all that is known of one reservation."),
    "explain": ("explain", "Say why one has not gone yet, or what became of it."),
    "cancel": ("intervene", "Take reservations back before they are sent."),
    "requeue": ("intervene", "Send failed, doubtful or cancelled reservations again."),
    "resolve": ("intervene", "Settle a reservation that is in doubt."),
    "send-all": ("send_all", "Send what is due, now."),
    "runs": ("runs", "List the last runs."),
    "run": ("runs", "Show one run and its errors, in full."),
    "status": ("status", "Show how things stand."),
    "top": ("top", "Watch how things stand, live."),
    "plan": ("plan", "Render what the next run would send, and send nothing."),
    "twice": ("twice", "List who may have got a mail twice."),
    "pause": ("pause", "Suspend the sending."),
    "resume": ("pause", "Let the sending go on."),
    "purge": ("purge", "Delete finished reservations that are old."),
    "doctor": ("doctor", "Check everything, and say what to do."),
    "healthcheck": ("healthcheck", "Say whether the worker beside lives (for probes)."),
    "config": ("settings", "Show the settings, or check them."),
    "completion": ("completion", "Print what lets your shell complete commands."),
    "serve": ("serve", "Serve the HTTP API and the console."),
    "demo": ("demo", "See it all at work, with nothing to set up."),
}


class _Commands(click.Group):
    """A group that imports the module of a command only when that is called, so that ``--help`` is fast."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in _COMMANDS:
            return None
        module = import_module(f"mailbatch.interfaces.cli.{_COMMANDS[cmd_name][0]}")
        name = f"{cmd_name}_command" if cmd_name in {"list", "import"} else cmd_name.replace("-", "_")
        command: click.Command = getattr(module, name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl([(name, told) for name, (_, told) in _COMMANDS.items()])


@click.command(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="mailbatch")
def cli() -> None:
    """Scheduled mail: reserved in your transaction, sent once, stopped when told.

    Settings come from the environment: MAILBATCH_DATABASE_URL, MAILBATCH_REDIS_URL, MAILBATCH_SMTP_URL …
    Most commands take --json. Exit codes: 0 done, 1 refused or failed, 2 wrong usage or settings.
    """


def main() -> None:
    """Run the command line of this process and end it."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run one command; answer its exit code. Whatever is wrong is said in a line on stderr."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        code = cli.main(arguments, prog_name="mailbatch", standalone_mode=False)
        sys.stdout.flush()
    except BrokenPipeError:
        # Who read our output has seen enough. Python would complain once more when it flushes at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return REFUSED
    except (KeyboardInterrupt, click.Abort):
        _say("interrupted")
        return INTERRUPTED
    except Exception as error:
        explained = _explain(error)
        if explained is None:
            raise
        return explained
    return code if isinstance(code, int) else 0


def _explain(error: Exception) -> int | None:
    """Say what was wrong in a line and answer the exit code; None for what is no known error but a fault of ours."""
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        click.echo(error.format_message(), err=True)
        return USAGE
    if isinstance(error, click.UsageError):
        command = error.ctx.command_path if error.ctx else "mailbatch"
        _say(f"{error.format_message()} (see {command} --help)")
        return USAGE
    if isinstance(error, SettingsError):
        for line in str(error).splitlines():
            _say(line)
        return USAGE
    if isinstance(error, click.ClickException):
        _say(error.format_message())
        return REFUSED
    if isinstance(error, MailbatchError | OSError) or _is_of_redis(error):
        _say(_of_redis(error) if _is_of_redis(error) else str(error))
        return REFUSED
    return None


def _is_of_redis(error: Exception) -> bool:
    """Whether Redis, asked directly or as the broker, is what failed; neither package is imported for that."""
    return any(kind.__module__.startswith(("redis.", "kombu.")) for kind in type(error).__mro__)


def _of_redis(error: Exception) -> str:
    said = str(error).rstrip(".")
    return f"Redis: {said}; check MAILBATCH_REDIS_URL (or BROKER_URL, RESULT_BACKEND) and that the server runs"


def _say(text: str) -> None:
    from mailbatch.interfaces.cli.output import clean

    click.echo(f"mailbatch: {clean(' '.join(text.split()))}", err=True)


if __name__ == "__main__":
    main()
