"""The middleware in front of every route: request ids, limits, checks of host and origin, protective headers."""

from __future__ import annotations

import ipaddress
import logging
import re
import time
import traceback
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect, Request

from mailbatch.domain.redaction.addresses import public
from mailbatch.infrastructure.system.clock import new_id
from mailbatch.interfaces.http.problems import Problem, problem_response
from mailbatch.interfaces.http.proxies import through_proxy

if TYPE_CHECKING:
    from urllib.parse import SplitResult

    from starlette.responses import Response
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from mailbatch.interfaces.http.auth import AccessGate

log = logging.getLogger(__name__)

REQUEST_ID = "X-Request-ID"
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; "
    "connect-src 'self'; frame-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
"""Nothing from other hosts, nothing inline. The frame that shows a mail has a policy of its own."""
_HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
_PROBES = frozenset({"/healthz", "/readyz"})
_MOST = 400
"""Requests in progress at the same time, not counting probes: more than there can be waiting connections."""
_POLLED = frozenset({"/healthz", "/readyz", "/metrics"})
"""Machines request these every few seconds, so they are not logged."""
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_REQUEST_ID = re.compile(r"[\w.:-]{1,64}", re.ASCII)
_STRANGERS_LIMIT = 2**20
"""Bytes of a body without a token: enough for a form, too few for many requests together to fill the memory."""
_LEFT = 499
"""The status that servers log if the client closed the connection before the response (nginx)."""


def is_loopback(host: str) -> bool:
    """Return whether ``host`` (a name or an address, no port) can only mean this machine."""
    name = host.strip("[]").lower().rstrip(".")
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


@dataclass(slots=True)
class Guard:
    """The ASGI middleware around the application. ``gate`` knows the tokens; ``body_limit`` is in bytes."""

    app: ASGIApp
    gate: AccessGate
    body_limit: int
    _under_way: int = field(default=0, init=False)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        asked = headers.get(REQUEST_ID, "")
        request_id = asked if _REQUEST_ID.fullmatch(asked) else str(new_id())
        scope.setdefault("state", {})["request_id"] = request_id
        counted = scope["path"] not in _PROBES
        self._under_way += counted
        try:
            with structlog.contextvars.bound_contextvars(request_id=request_id):
                await _Exchange(scope, request_id, send).respond(self, headers, receive)
        finally:
            self._under_way -= counted

    def refusal(self, scope: Scope, headers: Headers) -> Problem | None:
        """Return the problem of a request that is refused before its body is read, else None."""
        if self._under_way > _MOST and scope["path"] not in _PROBES:
            said = f"{_MOST} requests are under way; ask again"
            return Problem(HTTPStatus.SERVICE_UNAVAILABLE, said, {"Retry-After": "1", "Connection": "close"})
        host = headers.get("host", "")
        if self.gate.open_house and not is_loopback(_split(f"//{host}").hostname or ""):
            # A foreign page that resolves its own name to this machine (DNS rebinding) still sends its own name.
            return Problem(
                HTTPStatus.MISDIRECTED_REQUEST,
                "without MAILBATCH_API_TOKEN only localhost is served; ask for http://localhost, or set a token",
            )
        if self.gate.open_house and through_proxy(headers.keys()):
            # The server listens on this machine only, but the proxy lets others in.
            return Problem(
                HTTPStatus.MISDIRECTED_REQUEST,
                "without MAILBATCH_API_TOKEN only this machine is served, and this comes through a proxy; set a token",
            )
        if scope["method"] not in _SAFE and not _is_bearer(headers) and not _same_origin(headers, host):
            return Problem(HTTPStatus.FORBIDDEN, "this request comes from another site's page, and is not done")
        length = headers.get("content-length", "")
        return self.too_large(scope, headers, int(length)) if length.isdecimal() else None

    def too_large(self, scope: Scope, headers: Headers, size: int) -> Problem | None:
        """Return the problem of a body of ``size`` bytes if that is too large for this caller, else None."""
        if size <= _STRANGERS_LIMIT:
            return None
        said = f"the body is larger than {self.body_limit} bytes; send fewer mails at once"
        if size <= self.body_limit:
            try:
                if self._is_known(scope, headers):
                    return None
            except Problem as problem:
                return problem
            said = f"the body is larger than {_STRANGERS_LIMIT} bytes, and comes without a token that is known"
        return Problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, said, {"Connection": "close"})

    def _is_known(self, scope: Scope, headers: Headers) -> bool:
        """Return whether the request has a known token. Raises ``Problem`` if the client has failed too often."""
        _, _, token = headers.get("authorization", "").partition(" ")
        if self.gate.open_house or not _is_bearer(headers):
            return self.gate.open_house
        client = scope.get("client")
        return self.gate.role_of(token.strip(), client[0] if client else "?") is not None


class _Exchange:
    """One request and its response."""

    def __init__(self, scope: Scope, request_id: str, send: Send) -> None:
        self._scope, self._request_id, self._send = scope, request_id, send
        self._began = time.perf_counter()
        self._status = 0

    async def respond(self, guard: Guard, headers: Headers, receive: Receive) -> None:
        """Let the application respond, or respond with the problem."""
        received, allowed = 0, _STRANGERS_LIMIT

        async def bounded() -> Message:
            nonlocal received, allowed
            message = await receive()
            received += len(message.get("body", b""))
            if received > allowed:
                if (problem := guard.too_large(self._scope, headers, received)) is not None:
                    raise problem
                allowed = guard.body_limit
            return message

        try:
            if (problem := guard.refusal(self._scope, headers)) is not None:
                await self._respond(problem_response(Request(self._scope), problem), receive)
            else:
                await guard.app(self._scope, bounded, self._sent)
        except ClientDisconnect:
            # The client closed the connection during the body: no error, and no response is possible.
            self._status = self._status or _LEFT
        except Exception as error:
            self._tell(error)
            if self._status:
                raise
            await self._respond(problem_response(Request(self._scope), _broken(error, self._request_id)), receive)
        finally:
            took = (time.perf_counter() - self._began) * 1000
            level = logging.DEBUG if self._scope["path"] in _POLLED else logging.INFO
            # Without the query: a filter may contain an address.
            log.log(level, "%s %s %d %.1f ms", self._scope["method"], self._scope["path"], self._status, took)

    async def _sent(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._status = message["status"]
            headers = MutableHeaders(scope=message)
            headers[REQUEST_ID] = self._request_id
            for name, value in _HEADERS.items():
                headers.setdefault(name, value)
        await self._send(message)

    async def _respond(self, said: Response, receive: Receive) -> None:
        await said(self._scope, receive, self._sent)

    def _tell(self, error: Exception) -> None:
        """Log where the error was raised. Its text is redacted, because it may quote the request."""
        where = "".join(traceback.format_tb(error.__traceback__))
        log.error("request %s broke: %s: %s\n%s", self._request_id, type(error).__name__, public(str(error)), where)


def _broken(error: Exception, request_id: str) -> Problem:
    if any(kind.__module__.startswith(("redis.", "kombu.")) for kind in type(error).__mro__):
        said = "Redis, or the broker, cannot be asked; check that it runs: `mailbatch doctor`"
        return Problem(HTTPStatus.SERVICE_UNAVAILABLE, said, {"Retry-After": "2"})
    said = f"mailbatch itself broke here; its log says more at request {request_id}"
    return Problem(HTTPStatus.INTERNAL_SERVER_ERROR, said)


def _is_bearer(headers: Headers) -> bool:
    """A page of another site cannot set this header without our permission, which nobody gets (CORS)."""
    return headers.get("authorization", "").lower().startswith("bearer ")


def _same_origin(headers: Headers, host: str) -> bool:
    """Return whether the request comes from our own page, or from no page."""
    if (origin := headers.get("origin")) is not None:
        return _split(origin).netloc.lower() == host.lower() != ""
    return headers.get("sec-fetch-site", "none") in {"none", "same-origin"}


def _split(url: str) -> SplitResult:
    """Return the parts of ``url``; they are empty if it is no URL, because a header may contain anything."""
    try:
        return urlsplit(url)
    except ValueError:
        return urlsplit("")
