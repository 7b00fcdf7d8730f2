"""The command ``mailbatch``. An error is one line on stderr, without a traceback."""

from __future__ import annotations

import os
import sys
from importlib import import_module

import click
from click.shell_completion import CompletionItem

from mailbatch.domain.errors import MailbatchError, SettingsError
from mailbatch.interfaces.cli.catalogue import COMMANDS, GROUPS, RENAMED
from mailbatch.interfaces.cli.suggesting import SuggestingGroup

REFUSED, USAGE, INTERRUPTED = 1, 2, 130


class _Commands(SuggestingGroup):
    """Imports the module of a command only when the command is called, so that ``--help`` is fast."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(COMMANDS)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that ``args`` begin with; warn on stderr if they use an earlier name of it."""
        if name := RENAMED.get(args[0]):
            if not ctx.resilient_parsing:
                _say(f"warning: `{args[0]}` is now called `{name}`; the old name will be removed")
            args = [name, *args[1:]]
        return super().resolve_command(ctx, args)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        entry = COMMANDS.get(cmd_name)
        if entry is None:
            return None
        module = import_module(f"mailbatch.interfaces.cli.{entry.module}")
        name = f"{cmd_name}_command" if cmd_name in {"list", "import"} else cmd_name.replace("-", "_")
        command: click.Command = getattr(module, name)
        if command.epilog is None:
            command.epilog = f"\b\nExample:\n  mailbatch {entry.example}"
        return command

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Return the completions from the catalogue, without importing the modules of the commands."""
        names = [name for name in COMMANDS if name.startswith(incomplete)]
        found = [CompletionItem(name, help=COMMANDS[name].summary) for name in names]
        return [*found, *click.Command.shell_complete(self, ctx, incomplete)]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        widest = max(map(len, COMMANDS))
        for group, entries in GROUPS.items():
            with formatter.section(group):
                formatter.write_dl([(f"{name:<{widest}}", entry.summary) for name, entry in entries.items()])


@click.command(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="mailbatch")
def cli() -> None:
    """Scheduled mail: reserved in your transaction, sent once, stopped on request.

    Settings come from the environment: MAILBATCH_DATABASE_URL, MAILBATCH_REDIS_URL, MAILBATCH_SMTP_URL …
    Most commands take --json. Exit codes: 0 done, 1 refused or failed, 2 wrong usage or settings.
    """


def main() -> None:
    """Run the command line of this process and end it."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run one command and return its exit code. An error is printed as one line on stderr."""
    _open_what_is_closed()
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        code = cli.main(arguments, prog_name="mailbatch", standalone_mode=False)
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader of our output has closed it. Without this, Python would report that again when it flushes at exit.
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


def _open_what_is_closed() -> None:
    """Open the standard streams that our caller has closed.

    Otherwise the next files opened would get their numbers, and a print would write into a database file.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: PTH123, SIM115 - for good


def _explain(error: Exception) -> int | None:
    """Print a known error as one line and return its exit code; return None for an unknown error, which is a bug."""
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
    """Return whether ``error`` comes from Redis, used directly or as the broker, without importing the packages."""
    return any(kind.__module__.startswith(("redis.", "kombu.")) for kind in type(error).__mro__)


def _of_redis(error: Exception) -> str:
    said = str(error).rstrip(".")
    if "WRONGTYPE" in said:
        return f"Redis: {said}; something else has written a key of ours: delete it"
    return f"Redis: {said}; check MAILBATCH_REDIS_URL (or BROKER_URL, RESULT_BACKEND) and that the server runs"


def _say(text: str) -> None:
    from mailbatch.interfaces.cli.output import clean

    click.echo(f"mailbatch: {clean(' '.join(text.split()))}", err=True)


if __name__ == "__main__":
    main()
