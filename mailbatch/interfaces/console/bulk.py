"""``/bulk``: an act on all reservations of a filter. A page shows how many, and its button does it."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Path, Request
from starlette.responses import Response

from mailbatch.application.looking.filters import FIELDS
from mailbatch.domain.act import Act
from mailbatch.interfaces.console.filter_query import Filtered, from_form
from mailbatch.interfaces.console.formatting import plural
from mailbatch.interfaces.console.overview import snapshots_of
from mailbatch.interfaces.console.screen import PageRoute, done, paused, show
from mailbatch.interfaces.documents import VERBS
from mailbatch.interfaces.http.auth import FormFields, PageOperator, PageReader, gate_of
from mailbatch.interfaces.http.bulk import confirmed, token
from mailbatch.interfaces.http.problems import Problem
from mailbatch.interfaces.http.request_params import parts_of

router = APIRouter(prefix="/bulk", include_in_schema=False, route_class=PageRoute)

_Act = Annotated[Act, Path()]


@router.get("/{act}")
def preview(request: Request, caller: PageReader, query: Filtered, act: _Act) -> Response:
    """Show how many reservations the act would change. It changes nothing."""
    found = parts_of(request).acting.act.count(act, query.selection())
    return show(
        request,
        caller,
        "bulk.html",
        title=f"{act.value.capitalize()} many",
        paused=paused(request),
        act=act,
        query=query,
        found=found,
        confirm=token(gate_of(request), act, query.given),
    )


@router.post("/{act}")
def do(request: Request, caller: PageOperator, fields: FormFields, act: _Act) -> Response:
    """Do the act on the filter of the preview; its times count back from the preview."""
    query = from_form(request, {name: fields[name] for name in FIELDS if name in fields})
    try:
        when = confirmed(gate_of(request), fields.get("confirm", [""])[0], act, dict(sorted(query.given.items())))
    except Problem as problem:
        again = query.link(f"/bulk/{act.value}")
        if problem.status_code != HTTPStatus.CONFLICT:
            raise
        return done(request, again, "That was too long ago: look at the number again.", good=False)
    changed = parts_of(request).acting.act.on_all(caller.actor, act, query.selection(when))
    snapshots_of(request.app).now.forget()
    left = ", ".join(f"{n:,} {status.value.replace('_', ' ')}" for status, n in changed.left.items())
    text = f"{plural(changed.changed, 'reservation')} {VERBS[act]}." + (f" Left alone: {left}." if left else "")
    return done(request, query.link("/reservations"), text)
