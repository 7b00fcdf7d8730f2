"""``/login`` and ``/logout``: a form that takes a token and sets a session cookie."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus

from fastapi import APIRouter, Request
from starlette.responses import RedirectResponse, Response

from mailbatch.interfaces.console.screen import Html, render
from mailbatch.interfaces.http.auth import FormFields, PageReader, csrf_token, gate_of, log_in, log_out
from mailbatch.interfaces.http.problems import Problem

router = APIRouter(include_in_schema=False)


@router.get("/login")
def login_form(request: Request, next: str = "/") -> Response:  # noqa: A002 - it is the field's name
    """Show the form."""
    if gate_of(request).open_house:
        return RedirectResponse("/", HTTPStatus.SEE_OTHER)
    return _form(request, next)


@router.post("/login")
def login(request: Request, fields: FormFields) -> Response:
    """Log in with a token."""
    target = fields.get("next", ["/"])[0]
    answer = RedirectResponse(_here(target), HTTPStatus.SEE_OTHER)
    try:
        known = log_in(request, fields.get("token", [""])[0].strip(), answer)
    except Problem as problem:
        return _form(request, target, problem.detail, HTTPStatus(problem.status_code), problem.headers)
    return answer if known else _form(request, target, "This token is not known.", HTTPStatus.UNAUTHORIZED)


@router.post("/logout")
def logout(request: Request, caller: PageReader, fields: FormFields) -> Response:
    """Log out."""
    answer = RedirectResponse("/login", HTTPStatus.SEE_OTHER)
    if fields.get("csrf", [""])[0] == csrf_token(request, caller):
        log_out(answer)
    return answer


def _form(
    request: Request,
    target: str,
    wrong: str = "",
    status: HTTPStatus = HTTPStatus.OK,
    headers: Mapping[str, str] | None = None,
) -> Response:
    html = render(request, None, "login.html", title="Log in", next=_here(target), wrong=wrong)
    return Html(html, status, dict(headers or {}))


def _here(target: str) -> str:
    """Return ``target`` if it is a path of this server, else the first page: no redirect to another site."""
    ours = target.startswith("/") and not target.startswith(("//", "/\\")) and target.isprintable()
    return target if ours else "/"
