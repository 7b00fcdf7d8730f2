"""``mailbatch reserve``."""

from __future__ import annotations

import sys
from dataclasses import replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mailbatch.domain.errors import InvalidReservation
from mailbatch.domain.reservation import MAIL_FIELDS
from mailbatch.interfaces.cli.output import as_json, clean, print_json
from mailbatch.interfaces.cli.session import opened

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mailbatch.application.acting.attaching import Attached
    from mailbatch.application.acting.reserve import Draft
    from mailbatch.domain.reservation import Mail

OPTIONS = {
    **{name: f"--{name.replace('_', '-')}" for name in (*MAIL_FIELDS, "priority", "tag")},
    "recipients": "--to",
    "body_text": "--text",
    "body_html": "--html",
    "scheduled_at": "--at",
    "expires_at": "--expires",
    "idempotency_key": "--key",
    "attachments": "--attach",
}
"""The name of the option for each column."""


class Moment(click.ParamType[datetime]):
    """A time in ISO 8601 with its zone."""

    name = "ISO 8601"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """Return the time; a time without a zone is refused."""
        from mailbatch.application.acting.draft_values import read_time

        try:
            return read_time("time", str(value))
        except InvalidReservation as error:
            self.fail(error.problems[0].removeprefix("time: "), param, ctx)


class TextType(click.ParamType[Any]):
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


class JsonObject(TextType):
    """A JSON object: as an argument, from stdin or from a file."""

    name = "JSON|-|@file"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Read and parse it."""
        if isinstance(value, dict):
            return value
        from mailbatch.application.acting.draft_values import read_object

        try:
            return read_object("JSON", super().convert(value, param, ctx))
        except InvalidReservation as error:
            self.fail(error.problems[0].removeprefix("JSON: "), param, ctx)


_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_OF_A_MAIL = (
    *("subject", "text", "html", "template", "context", "locale", "attach", "inline"),
    *("cc", "bcc", "sender", "reply_to", "headers"),
)
"""Options that are refused with a finished message, because it contains all of this."""


@click.command
@click.option("--to", multiple=True, help="An address, or a list of them; may be repeated.")
@click.option("--subject", help="The subject; may be a Jinja2 source, like the bodies.")
@click.option("--text", type=TextType(), help="The body as plain text.")
@click.option("--html", type=TextType(), help="The body as HTML.")
@click.option("--template", help="A folder in TEMPLATE_DIR, in place of subject and bodies.")
@click.option("--context", type=JsonObject(), help="The variables of the template.")
@click.option("--locale", help="The language of the template: a tag of BCP 47, such as pt-BR.")
@click.option("--attach", type=_FILE, multiple=True, help="A file to attach; may be repeated.")
@click.option(
    "--inline",
    type=_FILE,
    multiple=True,
    help="An image that the HTML shows as cid:NAME, where NAME is the file's name.",
)
@click.option(
    "--message",
    type=click.File("rb"),
    help="A finished message (.eml, or - for stdin) in place of subject and bodies. Without --to it goes to its To, Cc "
    "and Bcc.",
)
@click.option("--cc", multiple=True, help="Further recipients, whom all see; may be repeated.")
@click.option("--bcc", multiple=True, help="Further recipients, whom nobody sees; may be repeated.")
@click.option("--sender", help="The From address, in place of MAILBATCH_SENDER.")
@click.option("--reply-to", multiple=True, help="Where replies go; may be repeated.")
@click.option("--envelope-sender", help="Where bounces go, in place of MAILBATCH_RETURN_PATH; <> for no bounces.")
@click.option("--headers", type=JsonObject(), help='More header fields: {"X-Campaign": "spring"}')
@click.option("--at", type=Moment(), help="When it is due (default: now): 2026-12-24T09:00:00+09:00")
@click.option("--expires", type=Moment(), help="After this it is not sent any more.")
@click.option("--priority", type=int, default=0, show_default=True, help="Higher goes first.")
@click.option("--key", help="An idempotency key: another call with the same key reserves nothing.")
@click.option("--tag", help="A name for a group of mails, by which you can list or cancel them.")
@as_json
def reserve(*, as_json: bool, **given: Any) -> None:
    """Reserve one mail and print its id.

    Bodies, --context and --headers may be - to read stdin, or @file.
    """
    from mailbatch.application.acting.reserve import with_names

    with opened() as parts, with_names(OPTIONS), parts.stores.reservations.intake() as intake:
        files = _files(given, parts.settings.max_message_bytes)
        draft = _draft(given, _finished(given) if given["message"] else _mail(given, files))
        stored = parts.reserving.reserve_in(intake)(draft, files)
    if warning := parts.reserving.template_warning(draft.mail):
        click.echo(f"mailbatch: {clean(warning)}", err=True)
    if as_json:
        print_json({"id": stored.reservation_id, "new": stored.new})
        return
    click.echo(stored.reservation_id)
    if not stored.new:
        click.echo("(it was reserved before, under this key)", err=True)


def _files(given: dict[str, Any], max_bytes: int) -> list[Attached]:
    """Return the files of --attach and --inline, each of ``max_bytes`` at most. Raises ``InvalidReservation``."""
    from mailbatch.application.acting.attaching import attached
    from mailbatch.domain.attachment import file_problems
    from mailbatch.domain.content_types import UNKNOWN
    from mailbatch.infrastructure.files.given_file import read_given

    ids = [path.name for path in given["inline"]]
    if problems := [problem for name in ids for problem in file_problems(name, UNKNOWN, content_id=name)]:
        named = [problem.replace("attachments:", "--inline:", 1) for problem in problems]
        raise InvalidReservation([f"{problem}; rename the file" for problem in named])
    read = partial(read_given, most=max_bytes)
    inline = attached(given["inline"], read)
    shown = [replace(one, entry={**one.entry, "content_id": name}) for one, name in zip(inline, ids, strict=True)]
    return [*attached(given["attach"], read), *shown]


def _mail(given: dict[str, Any], files: list[Attached]) -> Mail:
    from mailbatch.domain.reservation import Mail

    return Mail(
        recipients=_listed(given["to"]) or "",
        subject=given["subject"],
        body_text=given["text"],
        body_html=given["html"],
        template=given["template"],
        context=given["context"],
        locale=given["locale"],
        cc=_listed(given["cc"]),
        bcc=_listed(given["bcc"]),
        sender=given["sender"],
        reply_to=_listed(given["reply_to"]),
        headers=given["headers"],
        attachments=[file.entry for file in files] or None,
        envelope_sender=given["envelope_sender"],
    )


def _finished(given: dict[str, Any]) -> Mail:
    """Return the mail of --message. Raises ``InvalidReservation``."""
    from mailbatch.domain.reservation import Mail
    from mailbatch.infrastructure.mime.message_envelope import message_envelope

    if beside := [f"--{name.replace('_', '-')}" for name in _OF_A_MAIL if given[name]]:
        raise click.UsageError(f"--message is a whole mail: leave out {', '.join(beside)}")
    envelope = message_envelope(given["message"].read(), _listed(given["to"]))
    return Mail(recipients=envelope.recipients, message=envelope.message, envelope_sender=given["envelope_sender"])


def _listed(addresses: Sequence[str]) -> str | None:
    return ", ".join(addresses) if addresses else None


def _draft(given: dict[str, Any], mail: Mail) -> Draft:
    from mailbatch.application.acting.reserve import Draft

    return Draft(
        mail=mail,
        scheduled_at=given["at"],
        expires_at=given["expires"],
        priority=given["priority"],
        idempotency_key=given["key"],
        tag=given["tag"],
    )
