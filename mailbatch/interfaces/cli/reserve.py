"""``mailbatch reserve``."""

from __future__ import annotations

import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import click

from mailbatch.domain.reservation import MAIL_FIELDS
from mailbatch.interfaces.cli.output import as_json, clean, print_json
from mailbatch.interfaces.cli.session import opened

OPTIONS = {
    **{name: f"--{name.replace('_', '-')}" for name in (*MAIL_FIELDS, "priority", "tag")},
    "recipients": "--to",
    "body_text": "--text",
    "body_html": "--html",
    "scheduled_at": "--at",
    "expires_at": "--expires",
    "idempotency_key": "--key",
}
"""The name of the option for each column."""


class Moment(click.ParamType[datetime]):
    """A time in ISO 8601 with its zone."""

    name = "ISO 8601"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """Read it; a time without a zone is refused."""
        from mailbatch.application.acting.draft_values import read_time
        from mailbatch.domain.errors import InvalidReservation

        try:
            return read_time("time", str(value))
        except InvalidReservation as error:
            self.fail(error.problems[0].removeprefix("time: "), param, ctx)


class Text(click.ParamType[Any]):
    """A text; ``-`` reads it from stdin, ``@file`` from a file in UTF-8, ``@@…`` is a text that begins with ``@``.

    A byte order mark at the beginning of a file is not part of the text.
    """

    name = "text|-|@file"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Read it from the argument, stdin or the file."""
        text = str(value)
        if text.startswith("@@"):
            return text[1:]
        try:
            if text == "-":
                return sys.stdin.buffer.read().decode("utf-8-sig")
            return Path(text[1:]).read_bytes().decode("utf-8-sig") if text.startswith("@") else text
        except OSError as error:
            self.fail(f"{text[1:]}: {error.strerror}", param, ctx)
        except UnicodeDecodeError as error:
            place = "stdin" if text == "-" else text[1:]
            self.fail(f"{place} is not UTF-8 (at byte {error.start + 1})", param, ctx)


class JsonObject(Text):
    """A JSON object: as an argument, from stdin or from a file."""

    name = "JSON|-|@file"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Read and parse it."""
        if isinstance(value, dict):
            return value
        from mailbatch.application.acting.draft_values import read_object
        from mailbatch.domain.errors import InvalidReservation

        try:
            return read_object("JSON", super().convert(value, param, ctx))
        except InvalidReservation as error:
            self.fail(error.problems[0].removeprefix("JSON: "), param, ctx)


@click.command
@click.option("--to", multiple=True, required=True, help="An address, or a list of them; may be repeated.")
@click.option("--subject", help="The subject; may be a Jinja2 source, as the bodies.")
@click.option("--text", type=Text(), help="The body as plain text.")
@click.option("--html", type=Text(), help="The body as HTML.")
@click.option("--template", help="A folder in TEMPLATE_DIR, in place of subject and bodies.")
@click.option("--context", type=JsonObject(), help="What the template is filled with.")
@click.option("--locale", help="The language of the template: a tag of BCP 47, such as pt-BR.")
@click.option("--cc", multiple=True)
@click.option("--bcc", multiple=True)
@click.option("--sender", help="The From address, in place of MAILBATCH_SENDER.")
@click.option("--reply-to", multiple=True)
@click.option("--headers", type=JsonObject(), help='More header fields: {"X-Campaign": "spring"}')
@click.option("--at", type=Moment(), help="When it is due (default: now): 2026-12-24T09:00:00+09:00")
@click.option("--expires", type=Moment(), help="After this it is not sent any more.")
@click.option("--priority", type=int, default=0, show_default=True, help="Higher goes first.")
@click.option("--key", help="An idempotency key: asking again with it stores nothing more.")
@click.option("--tag", help="A name for a group of mails, to list or cancel them by.")
@as_json
def reserve(*, as_json: bool, **given: Any) -> None:
    """Reserve one mail and print its id.

    Bodies, --context and --headers may be - to read stdin, or @file.
    """
    from mailbatch.application.acting.reserve import Reserve, with_names

    draft = _draft(given)
    with opened() as parts, with_names(OPTIONS), parts.stores.reservations.intake() as intake:
        stored = Reserve(check=parts.operating.check_draft, intake=intake)(draft)
    if warning := parts.operating.unchecked_template(draft.mail):
        click.echo(f"mailbatch: {clean(warning)}", err=True)
    if as_json:
        print_json({"id": stored.reservation_id, "new": stored.new})
        return
    click.echo(stored.reservation_id)
    if not stored.new:
        click.echo("(it was reserved before, under this key)", err=True)


def _draft(given: dict[str, Any]) -> Any:
    from mailbatch.application.acting.reserve import Draft
    from mailbatch.domain.reservation import Mail

    def listed(name: str) -> str | None:
        return ", ".join(given[name]) if given[name] else None

    mail = Mail(
        recipients=listed("to") or "",
        subject=given["subject"],
        body_text=given["text"],
        body_html=given["html"],
        template=given["template"],
        context=given["context"],
        locale=given["locale"],
        cc=listed("cc"),
        bcc=listed("bcc"),
        sender=given["sender"],
        reply_to=listed("reply_to"),
        headers=given["headers"],
    )
    return Draft(
        mail=mail,
        scheduled_at=given["at"],
        expires_at=given["expires"],
        priority=given["priority"],
        idempotency_key=given["key"],
        tag=given["tag"],
    )
