"""``/login`` and ``/logout``: a form takes a token and gives a session cookie."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from http import HTTPStatus

from fastapi import APIRouter, Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from mailbatch.interfaces.http.auth import FormFields, PageReader, csrf_token, gate_of, log_in, log_out
from mailbatch.interfaces.http.pages import page
from mailbatch.interfaces.http.problems import Problem

router = APIRouter(include_in_schema=False)


@router.get("/login")
def login_form(request: Request, next: str = "/") -> Response:  # noqa: A002 - it is the field's name
    """Show the form."""
    if gate_of(request).open_house:
        return RedirectResponse("/", HTTPStatus.SEE_OTHER)
    return _form(next)


@router.post("/login")
def login(request: Request, fields: FormFields) -> Response:
    """Let somebody in who knows a token."""
    target = fields.get("next", ["/"])[0]
    answer = RedirectResponse(_here(target), HTTPStatus.SEE_OTHER)
    try:
        known = log_in(request, fields.get("token", [""])[0].strip(), answer)
    except Problem as problem:
        return _form(target, problem.detail, HTTPStatus(problem.status_code), problem.headers)
    return answer if known else _form(target, "This token is not known.", HTTPStatus.UNAUTHORIZED)


@router.post("/logout")
def logout(request: Request, caller: PageReader, fields: FormFields) -> Response:
    """Forget the session."""
    answer = RedirectResponse("/login", HTTPStatus.SEE_OTHER)
    if fields.get("csrf", [""])[0] == csrf_token(request, caller):
        log_out(answer)
    return answer


def _form(
    target: str, wrong: str = "", status: HTTPStatus = HTTPStatus.OK, headers: Mapping[str, str] | None = None
) -> HTMLResponse:
    said = f'<p role="alert" class="wrong">{escape(wrong[:1].upper() + wrong[1:])}</p>' if wrong else ""
    body = f"""\
<main class="narrow">
<h1>mailbatch</h1>
{said}
<form method="post" action="/login">
<input type="hidden" name="next" value="{escape(_here(target))}">
<label for="token">Token</label>
<input id="token" name="token" type="password" autocomplete="current-password" required autofocus>
<button>Log in</button>
</form>
<p>It is what MAILBATCH_API_TOKEN holds, or to look only, MAILBATCH_API_READ_TOKEN.</p>
</main>
"""
    answer = page("Log in", body, status)
    answer.headers.update(headers or {})
    return answer


def _here(target: str) -> str:
    """``target`` if it is a path of ours; nobody is sent elsewhere."""
    ours = target.startswith("/") and not target.startswith(("//", "/\\")) and target.isprintable()
    return target if ours else "/"
