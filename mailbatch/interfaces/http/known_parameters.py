"""Refuses a query parameter that the route does not have: a slip in a filter must not widen a list or an act."""

from __future__ import annotations

import difflib
from http import HTTPStatus
from typing import TYPE_CHECKING

from fastapi import Request

from mailbatch.domain.redaction.lines import shown
from mailbatch.interfaces.http.problems import Problem

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fastapi.dependencies.models import Dependant
    from fastapi.routing import APIRoute

_LONGEST = 80
"""Characters of a name that a refusal repeats."""


async def known_parameters(request: Request) -> None:
    """Raise ``Problem`` with a line for each unknown parameter, with the nearest that is known."""
    route: APIRoute = request.scope["route"]
    if not request.query_params or _reads_its_query_itself(route):
        return
    known = frozenset(_declared(route.dependant))
    if problems := [_line(name, known) for name in request.query_params if name not in known]:
        raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, "; ".join(problems[:5]), problems=problems)


def _reads_its_query_itself(route: APIRoute) -> bool:
    """Return whether the parameters of ``route`` stand in its document only: it judges them with its body."""
    return "parameters" in (route.openapi_extra or {})


def _declared(dependant: Dependant) -> Iterator[str]:
    yield from (field.alias for field in dependant.query_params)
    for further in dependant.dependencies:
        yield from _declared(further)


def _line(name: str, known: frozenset[str]) -> str:
    near = difflib.get_close_matches(name, sorted(known), n=1)
    takes = ", ".join(sorted(known)) or "none"
    meant = f"did you mean {near[0]}?" if near else f"it takes {takes}"
    return f"{shown(name, _LONGEST)}: is no parameter of this request; {meant}"
