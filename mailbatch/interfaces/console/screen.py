"""Renders the pages: what every page shows, the result of the last act, and errors for people."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache, partial
from hashlib import sha256
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from itsdangerous import BadSignature
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse, RedirectResponse, Response

from mailbatch.domain.errors import MailbatchError
from mailbatch.domain.job_name import SEND_ALL
from mailbatch.domain.reservation import Status
from mailbatch.domain.run import Pause
from mailbatch.interfaces.console import formatting
from mailbatch.interfaces.documents import nothing_counted, outcome_of
from mailbatch.interfaces.http.auth import LoginNeeded, Role, csrf_token, gate_of, login_address
from mailbatch.interfaces.http.problems import Problem, problem_of
from mailbatch.interfaces.http.request_params import parts_of

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from jinja2 import Template
    from starlette.requests import Request

    from mailbatch.interfaces.http.auth import Caller

HERE = Path(__file__).parent
STATIC = HERE / "static"
_NOTICE = "mailbatch_notice"
_NOTICE_SECONDS = 60
_TITLES = {HTTPStatus.UNPROCESSABLE_ENTITY: "Not understood", HTTPStatus.CONFLICT: "Not possible now"}
"""Titles for people in place of the phrases of HTTP."""


class PageRoute(APIRoute):
    """A route whose errors are pages. Unexpected errors go to the guard, which logs them."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Wrap FastAPI's own handler."""
        asked = super().get_route_handler()

        async def handler(request: Request) -> Response:
            try:
                return await asked(request)
            except LoginNeeded:
                if "HX-Request" not in request.headers:
                    raise
                # htmx refreshes a page whose session has ended: the whole page goes to the form, not its middle.
                return Response(status_code=HTTPStatus.UNAUTHORIZED, headers={"HX-Redirect": login_address(request)})
            except RequestValidationError:
                return error_page(request, Problem(HTTPStatus.NOT_FOUND, "there is nothing at this address"))
            except HTTPException as error:
                return error_page(request, error)
            except MailbatchError as error:
                return error_page(request, problem_of(error))
            except Exception as error:
                if any(kind.__module__.startswith(("redis.", "kombu.")) for kind in type(error).__mro__):
                    said = "Redis, or the broker, cannot be asked; check that it runs: `mailbatch doctor`"
                    return error_page(request, Problem(HTTPStatus.SERVICE_UNAVAILABLE, said))
                raise

        return handler


class Html(HTMLResponse):
    """A page. A column may hold bytes that are no text: the page shows them as escapes."""

    def render(self, content: str) -> bytes:
        """Encode ``content``."""
        return content.encode(self.charset, "backslashreplace")


@dataclass(frozen=True, slots=True)
class Notice:
    """The result of an act, shown on the next page. It is in a cookie, so it contains no address."""

    text: str
    good: bool = True


def show(
    request: Request, caller: Caller | None, template: str, status: HTTPStatus = HTTPStatus.OK, **values: Any
) -> HTMLResponse:
    """Return the page of ``template``."""
    notice = _notice(request)
    page = Html(render(request, caller, template, notice=notice, **values), status)
    if notice is not None:
        page.delete_cookie(_NOTICE, httponly=True, samesite="strict")
    return page


def render(request: Request, caller: Caller | None, template: str, **values: Any) -> str:
    """Return the HTML of ``template``, or of a part of a page."""
    parts = parts_of(request)
    zone = parts.settings.timezone
    shared = {
        "moment": partial(formatting.moment, zone=zone),
        "full": partial(formatting.full, zone=zone),
        "local": partial(formatting.local, zone=zone),
        "zone": zone,
        "csrf": csrf_token(request, caller) if caller is not None else "",
        "operates": caller is not None and caller.role is Role.OPERATE,
        "session": caller is not None and caller.session is not None,
        # Not the URL: a header is a part of it, and may contain anything.
        "path": request.scope["path"],
        "notice": None,
    }
    return template_of(template).render({**shared, **values})


def template_of(name: str) -> Template:
    """Return a compiled template."""
    return _environment().get_template(name)


def paused(request: Request) -> Pause:
    """Return the pause; each whole page shows it."""
    return parts_of(request).stores.pauses.paused(SEND_ALL)


def done(request: Request, target: str, text: str, *, good: bool = True) -> Response:
    """Redirect to ``target``, a path of this server, and show the result of the act there."""
    answer = RedirectResponse(target, HTTPStatus.SEE_OTHER)
    signed = gate_of(request).signer("notice").dumps([text, good])
    value = signed if isinstance(signed, str) else signed.decode()
    secure = request.url.scheme == "https"
    answer.set_cookie(_NOTICE, value, max_age=_NOTICE_SECONDS, httponly=True, samesite="strict", secure=secure)
    return answer


def _notice(request: Request) -> Notice | None:
    value = request.cookies.get(_NOTICE)
    if not value:
        return None
    try:
        text, good = gate_of(request).signer("notice").loads(value, max_age=_NOTICE_SECONDS)
    except (BadSignature, ValueError):
        return None
    return Notice(text, good=good)


def error_page(request: Request, error: HTTPException) -> Response:
    """Return a refusal as a page with a link back; an unknown caller is redirected to the login form."""
    if error.status_code == HTTPStatus.UNAUTHORIZED:
        return RedirectResponse(login_address(request), HTTPStatus.SEE_OTHER)
    members = error.members if isinstance(error, Problem) else {}
    status = HTTPStatus(error.status_code)
    html = render(
        request,
        None,
        "error.html",
        title=_TITLES.get(status, status.phrase),
        said=error.detail,
        problems=members.get("problems", []),
        request_id=request.scope.get("state", {}).get("request_id"),
    )
    return Html(html, error.status_code, error.headers)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(HERE / "templates"),
        autoescape=True,
        finalize=formatting.shown,
        undefined=StrictUndefined,
    )
    environment.filters.update(
        number=formatting.number,
        octets=formatting.octets,
        said=formatting.said,
        exact=formatting.exact,
        breakable=formatting.breakable,
        steps=formatting.steps,
        prose=formatting.prose,
        span=formatting.span,
        ago=formatting.ago,
        words=formatting.state,
        pretty=_pretty,
        # Jinja2's own filter accepts no bytes that are no text.
        urlencode=partial(quote, safe="/", errors="replace"),
    )
    environment.globals.update(
        plural=formatting.plural,
        nothing_counted=nothing_counted,
        outcome_of=outcome_of,
        tone=formatting.tone,
        by=formatting.trigger,
        static=address_of,
        states=list(Status),
        Pause=Pause,
    )
    return environment


def _pretty(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, indent=2, default=str)


@cache
def address_of(name: str) -> str:
    """Return the address of a file of ``static/``. It changes with the content, so browsers may keep the file."""
    return f"/static/{name}?v={sha256((STATIC / name).read_bytes()).hexdigest()[:12]}"
