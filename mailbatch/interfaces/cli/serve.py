"""``mailbatch serve``."""

from __future__ import annotations

import logging
from importlib.util import find_spec

import click

from mailbatch.interfaces.cli.session import opened

log = logging.getLogger(__name__)


@click.command
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    help="The address to listen on. An address that other machines can reach needs a token.",
)
@click.option("--port", type=click.IntRange(0, 65_535), default=8000, show_default=True, help="0 takes any free port.")
def serve(*, host: str, port: int) -> None:
    """Serve the HTTP API and the console, until Ctrl-C or SIGTERM.

    MAILBATCH_API_TOKEN allows everything, MAILBATCH_API_READ_TOKEN only reading. Without tokens the server listens on
    this machine only.
    """
    for needed in ("fastapi", "uvicorn", "itsdangerous"):
        if find_spec(needed) is None:
            raise click.ClickException(f"this needs {needed}: pip install 'mailbatch[http]'")
    from mailbatch.config import unknown_variables
    from mailbatch.infrastructure.system.logs import configure
    from mailbatch.interfaces.http.serving import serve as serve_http

    with opened(migrated=False, slips=False) as parts:
        s = parts.settings
        configure(json=s.log_format.value == "json", level=s.log_level, addresses=s.log_addresses)
        for line in unknown_variables():
            log.warning("%s", line)
        serve_http(parts, host, port, lambda address: click.echo(f"mailbatch serves on {address} (Ctrl-C ends it)"))
