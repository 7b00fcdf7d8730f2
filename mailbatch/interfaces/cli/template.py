"""``mailbatch template``: checks the templates."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from mailbatch.interfaces.cli.output import as_json, clean, print_json
from mailbatch.interfaces.cli.session import opened
from mailbatch.interfaces.cli.suggesting import SuggestingGroup

if TYPE_CHECKING:
    from mailbatch.domain.template_check import CheckedTemplate


@click.group(cls=SuggestingGroup)
def template() -> None:
    """Check the templates in TEMPLATE_DIR."""


@template.command(epilog="\b\nExample:\n  mailbatch template check order-confirmation")
@click.argument("name", required=False)
@as_json
def check(*, name: str | None, as_json: bool) -> None:
    """Check the template NAME, or all: each language, rendered with the context in the template's sample.json.

    Finds what cannot be compiled or rendered, variables that sample.json lacks, a subject of several lines, a missing
    text part, missing images, and sizes. Exit code 1 if something is found. Nothing is sent or stored.
    """
    with opened(migrated=False) as parts:
        preflight = parts.operating.preflight
        checked = [preflight(one) for one in ([name] if name is not None else preflight.names())]
    if as_json:
        print_json([_as_dict(one) for one in checked])
    else:
        _print(checked)
    if any(one.findings for one in checked):
        raise click.exceptions.Exit(1)


def _as_dict(one: CheckedTemplate) -> dict[str, object]:
    findings = [{"locale": locale, "finding": line} for locale, line in one.findings]
    return {**asdict(one), "findings": findings}


def _print(checked: list[CheckedTemplate]) -> None:
    for one in checked:
        for locale, line in one.findings:
            click.echo(clean(f"{one.name} ({locale}): {line}"))
        if not one.findings:
            how = "" if one.rendered else "; compiled only, because it has no sample.json"
            click.echo(clean(f"{one.name}: ok ({', '.join(one.locales)}){how}"))
    if not checked:
        click.echo("there is no template")
