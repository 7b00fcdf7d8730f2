"""``/templates``: which there are and what is wrong with them; and one, seen by its sample and sent as a test."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal
from urllib.parse import quote

from fastapi import APIRouter, Request
from starlette.responses import Response

from mailbatch.domain.errors import CannotCompose, InvalidReservation, NotFound
from mailbatch.domain.redaction.addresses import public
from mailbatch.domain.reservation import Mail
from mailbatch.interfaces.console.screen import Html, PageRoute, done, paused, show
from mailbatch.interfaces.framed import MAIL_POLICY, NO_LOOKUPS, in_scheme, with_images, without_hints
from mailbatch.interfaces.http.auth import FormFields, PageOperator, PageReader
from mailbatch.interfaces.http.request_params import parts_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager

    from mailbatch.application.acting.audit import Entry
    from mailbatch.application.looking.preview import Preview, Tried
    from mailbatch.domain.letter import Rendered
    from mailbatch.domain.template_check import CheckedTemplate
    from mailbatch.infrastructure.templates.template_folder import TemplateFolder

router = APIRouter(prefix="/templates", include_in_schema=False, route_class=PageRoute)

_MOST = 500
"""Templates of the list."""
_CHECKING = 3.0
"""Seconds for checking templates, of a page. The next page goes on."""
_LONGEST_SOURCE = 100_000
"""Bytes of a file, and characters of a text, that a page shows."""
_View = Literal["desktop", "desktop-dark", "phone", "phone-dark", "text", "source"]
_Scheme = Literal["light", "dark"]
_VIEWS: dict[_View, str] = {
    "desktop": "Desktop",
    "desktop-dark": "Desktop, dark",
    "phone": "Phone",
    "phone-dark": "Phone, dark",
    "text": "Text",
    "source": "Source",
}


@dataclass(frozen=True, slots=True)
class _Row:
    """A template in the list. ``checked`` is None if there was no time to check it."""

    name: str
    locales: tuple[str, ...]
    checked: CheckedTemplate | None


@router.get("")
def listed(request: Request, caller: PageReader) -> Response:
    """Show the list."""
    folder = parts_of(request).operating.template_folder
    names = folder.names() if folder else []
    return show(
        request,
        caller,
        "templates.html",
        title="Templates",
        paused=paused(request),
        folder=folder,
        rows=_rows(folder, names[:_MOST]) if folder else [],
        more=len(names) - _MOST,
    )


def _rows(folder: TemplateFolder, names: list[str]) -> list[_Row]:
    checked = folder.checked(names, _CHECKING)
    return [_Row(name, folder.locales(name), checked[name]) for name in names]


@router.get("/{name}")
def one(
    request: Request, caller: PageReader, name: str, locale: str | None = None, view: _View = "desktop"
) -> Response:
    """Show a template in one of its languages."""
    parts = parts_of(request)
    folder, locale = _found(parts.operating.template_folder, name, locale)
    checked = folder.checked([name], _CHECKING)[name]
    rendered, problems = _rendered(parts.operating.preview, folder, name, locale)
    findings = checked.findings if checked else [(locale, line) for line in problems]
    return show(
        request,
        caller,
        "template.html",
        title=f"Template {name}",
        paused=paused(request),
        name=name,
        locale=locale,
        counts={tag: sum(found == tag for found, _ in findings) for tag in folder.locales(name)},
        problems=[line for tag, line in findings if tag in (locale, "")],
        rendered=rendered,
        sampled=folder.has_sample(name, locale),
        text=_cut(rendered.text) if rendered else None,
        sources=_sources(folder, name, locale) if view == "source" else {},
        view=view,
        views=_VIEWS,
        redirect=parts.settings.redirect_all_to,
    )


@router.get("/{name}/html")
def html(
    request: Request, _caller: PageReader, name: str, locale: str | None = None, scheme: _Scheme = "light"
) -> Response:
    """Show its HTML, filled with its sample, in a frame with a policy of its own."""
    operating = parts_of(request).operating
    folder, locale = _found(operating.template_folder, name, locale)
    rendered, _ = _rendered(operating.preview, folder, name, locale)
    if rendered is None or rendered.html is None:
        raise NotFound(f"template {name} has no HTML that can be shown")
    document = with_images(in_scheme(without_hints(rendered.html), scheme), operating.shown_images(rendered))
    return Html(document, headers={"Content-Security-Policy": MAIL_POLICY, **NO_LOOKUPS})


@router.post("/{name}/send-test")
def send_test(request: Request, caller: PageOperator, name: str, fields: FormFields) -> Response:
    """Send it once, to the address of the form, and show what the relay replied."""
    parts = parts_of(request)
    _, locale = _found(parts.operating.template_folder, name, fields.get("locale", [""])[0] or None)
    target, to = {"template": name, "locale": locale}, fields.get("to", [""])[0]
    audited = parts.acting.audit.around(caller.actor, "test-send", target)
    text, good = _tried(audited, lambda: parts.operating.try_template(name, locale, to))
    return done(request, f"/templates/{name}?locale={quote(locale)}", text, good=good)


def _tried(audited: AbstractContextManager[Entry], send: Callable[[], Tried]) -> tuple[str, bool]:
    """Return the sentence about a test mail, and whether it was accepted. The sentence has no address."""
    try:
        with audited as entry:
            tried = send()
            entry.affected, entry.outcome = 1, tried.outcome
    except InvalidReservation as error:
        return public(f"Not sent: {'; '.join(error.problems)}"), False
    except CannotCompose as error:
        return public(f"Not sent: {'; '.join(error.errors)}"), False
    relay = f" ({tried.relay})" if tried.relay else ""
    return public(f"{tried.outcome.replace('_', ' ').capitalize()}: {tried.reply}{relay}"), tried.outcome == "sent"


def _found(folder: TemplateFolder | None, name: str, locale: str | None) -> tuple[TemplateFolder, str]:
    """Return the folder, and ``locale`` or the template's first language. Raises ``NotFound``."""
    if folder is None:
        raise NotFound("there is no template directory; set MAILBATCH_TEMPLATE_DIR")
    locales = folder.locales(name)
    if locale is not None and locale not in locales:
        raise NotFound(f"template {name} has no files for this language; it has {', '.join(locales)}")
    return folder, locale or locales[0]


def _rendered(
    preview: Preview, folder: TemplateFolder, name: str, locale: str
) -> tuple[Rendered | None, Sequence[str]]:
    """Return the template filled with its sample, if it has one, or why it cannot be rendered."""
    try:
        sample = folder.sample(name, locale)
        if sample is None:
            return None, []
        return preview(Mail(recipients="", template=name, locale=locale, context=sample)), []
    except ValueError as error:
        return None, [str(error)]
    except CannotCompose as error:
        return None, error.errors


def _sources(folder: TemplateFolder, name: str, locale: str) -> dict[str, str]:
    try:
        return folder.sources(name, locale, _LONGEST_SOURCE)
    except ValueError:
        return {}  # the findings say why


def _cut(text: str | None) -> str | None:
    return text if text is None or len(text) <= _LONGEST_SOURCE else f"{text[:_LONGEST_SOURCE]}\n…"
