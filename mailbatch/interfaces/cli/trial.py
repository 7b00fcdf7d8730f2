"""``mailbatch preview`` and ``mailbatch send-test``: see a mail, and send one to yourself."""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING, Any

import click

from mailbatch.interfaces.cli.caller import actor
from mailbatch.interfaces.cli.output import as_json, clean, print_json
from mailbatch.interfaces.cli.reserve import OPTIONS, JsonObject, TextType
from mailbatch.interfaces.cli.session import opened
from mailbatch.interfaces.documents import of_preview

if TYPE_CHECKING:
    from uuid import UUID

    from mailbatch.application.looking.preview import MailPreview, Tried
    from mailbatch.domain.reservation import Mail

_PARTS = ("subject", "text", "html")
_SUBJECT = "A test mail of mailbatch"
_TEXT = "If you read this, mailbatch reaches its relay, and the relay reaches you.\n"


def _content(command: Any) -> Any:
    """Decorate a command with the options for the content of a mail."""
    for option in reversed(
        [
            click.option("--template", help="A folder in TEMPLATE_DIR, in place of subject and bodies."),
            click.option("--locale", help="The language: a tag of BCP 47, such as pt-BR."),
            click.option("--context", type=JsonObject(), help="The variables of the template."),
            click.option("--subject", help="The subject; may be a Jinja2 source, like the bodies."),
            click.option("--text", type=TextType(), help="The body as plain text."),
            click.option("--html", type=TextType(), help="The body as HTML."),
        ]
    ):
        command = option(command)
    return command


@click.command
@click.argument("reservation_id", metavar="[ID]", required=False, type=click.UUID)
@_content
@click.option("--only", type=click.Choice(_PARTS), help="Print only this part, as it is.")
@as_json
def preview(*, reservation_id: UUID | None, only: str | None, as_json: bool, **given: Any) -> None:
    """Show the subject, text and HTML of a reservation, or of a template with a context. Nothing is sent.

    Exit code 1 if a part cannot be rendered; the error names each part with its line.
    """
    if (reservation_id is None) is not any(value is not None for value in given.values()):
        raise click.UsageError("say what: either an ID, or --template, --subject, --text or --html")
    from mailbatch.application.acting.reserve import with_names

    with opened() as parts:
        if reservation_id is not None:
            found = parts.operating.preview.stored(reservation_id)
        else:
            with with_names(OPTIONS):
                found = parts.operating.preview.shown(_mail("", given))
    if as_json:
        shown = of_preview(found)
        print_json(shown if only is None else {only: shown[only]})
    elif only is not None:
        _print_part(only, getattr(found.rendered, only))
    else:
        _print_shown(found)


@click.command
@click.option("--to", required=True, metavar="ADDRESS", help="An address of your own.")
@click.option("--sender", help="The From address, in place of MAILBATCH_SENDER.")
@click.option("--relay", metavar="NAME", help="A relay of the relays' file. Without it the routes decide.")
@_content
@as_json
def send_test(*, to: str, relay: str | None, as_json: bool, **given: Any) -> None:
    """Send one mail to the relay at once, and print the relay's reply.

    Nothing is stored, and it is not tried again. MAILBATCH_REDIRECT_ALL_TO applies. Exit code 1 if it was not accepted.
    """
    from mailbatch.application.acting.reserve import with_names

    if all(given[name] is None for name in ("template", *_PARTS)):
        given |= {"subject": _SUBJECT, "text": _TEXT}
    # The command prints the error. A log line would repeat it and name a reservation that does not exist.
    logging.getLogger("mailbatch.infrastructure.smtp").setLevel(logging.CRITICAL)
    with opened() as parts:
        try_sending = parts.operating.try_sending_by(relay)
        target = {"template": given["template"]} if given["template"] else {}
        with parts.acting.audit.around(actor(), "test-send", target) as entry:
            with with_names(OPTIONS):
                tried = try_sending(_mail(to, given))
            entry.affected, entry.outcome = 1, tried.outcome
        elsewhere = parts.settings.redirect_all_to
    if as_json:
        print_json({"outcome": tried.outcome, "relay": tried.relay, "reply": tried.reply})
        click.get_current_context().exit(0 if tried.outcome == "sent" else 1)
    said = _said(tried)
    if tried.outcome != "sent":
        raise click.ClickException(said)
    click.echo(clean(said + (f"\nit went to {elsewhere} (MAILBATCH_REDIRECT_ALL_TO)" if elsewhere else "")))


def _mail(to: str, given: dict[str, Any]) -> Mail:
    from mailbatch.domain.reservation import Mail

    return Mail(
        recipients=to,
        subject=given["subject"],
        body_text=given["text"],
        body_html=given["html"],
        template=given["template"],
        context=given["context"],
        sender=given.get("sender"),
        locale=given["locale"],
    )


def _print_shown(found: MailPreview) -> None:
    click.echo(f"subject: {clean(found.rendered.subject)}")
    if found.language:
        click.echo(f"language: {clean(found.language)}")
    for name in _PARTS[1:]:
        if body := getattr(found.rendered, name):
            click.secho(f"\n--- {name} ---", bold=True)
            click.echo(_tame(body))


def _print_part(name: str, part: str | None) -> None:
    if part is None:
        raise click.ClickException(f"it has no {name}")
    click.echo(_tame(part) if sys.stdout.isatty() else part)


def _tame(body: str) -> str:
    return "\n".join(clean(line.replace("\t", "    ")) for line in body.rstrip().splitlines())


def _said(tried: Tried) -> str:
    where = f" ({tried.relay})" if tried.relay else ""
    return f"{tried.outcome.replace('_', ' ')}: {tried.reply}{where}"
