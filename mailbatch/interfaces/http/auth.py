"""Authentication: bearer tokens for programs, a signed session cookie for people, and a limit on wrong tokens.

A route depends on ``Reader`` or ``Operator``. A page of the console depends on ``PageReader`` or ``PageOperator``:
they redirect an unknown caller to ``/login``, and ``PageOperator`` checks the CSRF token of the form.
"""

from __future__ import annotations

import hmac
import ipaddress
import secrets
import threading
import time
from collections import OrderedDict, deque
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache
from hashlib import scrypt, sha256
from http import HTTPStatus
from typing import TYPE_CHECKING, Annotated
from urllib.parse import parse_qs, quote

from fastapi import Depends, Request, Security
from fastapi.security import APIKeyCookie, HTTPAuthorizationCredentials, HTTPBearer
from itsdangerous import BadSignature, URLSafeTimedSerializer

from mailbatch.interfaces.http.problems import Problem

if TYPE_CHECKING:
    from starlette.responses import Response

COOKIE = "mailbatch_session"
CSRF_FIELD = "csrf"
CSRF_HEADER = "X-CSRF-Token"
SESSION_SECONDS = 12 * 3600
FAILURES, FAILURES_WITHIN = 10, 60.0
"""Wrong tokens of one client, and the seconds within which they count; then the client has to wait."""
_CLIENTS = 10_000
"""Clients whose failures are stored at most."""
_LONGEST_FORM = 2**20
_LONGEST_NAME = 64


class Role(StrEnum):
    """What a token allows."""

    READ = "read"
    OPERATE = "operate"


@dataclass(frozen=True, slots=True)
class Caller:
    """The sender of a request. ``actor``: the name in the audit log. ``session``: the cookie, if they use one."""

    role: Role
    actor: str
    session: str | None = None


class LoginNeeded(Exception):
    """An unknown caller requested a page."""


@dataclass(slots=True)
class FailureLimit:
    """Counts failures by client, in this process; a client with too many has to wait."""

    allowed: int = FAILURES
    within: float = FAILURES_WITHIN
    _failures: OrderedDict[str, deque[float]] = field(default_factory=OrderedDict)
    _guard: threading.Lock = field(default_factory=threading.Lock)

    def failed(self, client: str) -> None:
        """Count a failure."""
        client = _household(client)
        with self._guard:
            times = self._failures.setdefault(client, deque(maxlen=self.allowed))
            times.append(time.monotonic())
            self._failures.move_to_end(client)
            while len(self._failures) > _CLIENTS:
                self._failures.popitem(last=False)

    def wait(self, client: str) -> int:
        """Return the seconds until ``client`` may try again; 0: now."""
        times = self._failures.get(_household(client))
        if times is None or len(times) < self.allowed:
            return 0
        left = times[0] + self.within - time.monotonic()
        return max(0, int(left) + 1) if left > 0 else 0


@lru_cache(maxsize=1024)
def _household(client: str) -> str:
    """Return what counts as one client: an IPv4 address, or the /64 of an IPv6 address (RFC 4291 §2.5.4)."""
    try:
        address = ipaddress.ip_address(client)
    except ValueError:
        return client
    if address.version == 4:  # noqa: PLR2004 - as it is called
        return client
    return str(address.ipv4_mapped or ipaddress.ip_network((int(address), 64), strict=False))


class AccessGate:
    """Knows the tokens. Without tokens everybody is an operator; then ``serve`` listens on this machine only.

    ``user_header`` is the header field in which a proxy names its user. It does not authenticate.
    """

    def __init__(self, operate: str | None, read: str | None, user_header: str | None = None) -> None:
        self.user_header = user_header
        self._tokens = [(role, t.encode()) for role, t in ((Role.OPERATE, operate), (Role.READ, read)) if t]
        self.open_house = not self._tokens
        self.patience = FailureLimit()
        # Sessions and confirmations end when the tokens change. Without tokens they end with the process.
        told = b"\x00".join(role.encode() + b"\x00" + t for role, t in self._tokens)
        # A slow hash: a reader has a signature, and could use it to guess the operator's token.
        key = scrypt(told, salt=b"mailbatch", n=2**14, r=8, p=1).hex() if told else secrets.token_hex()
        self._key = f"mailbatch {key}"

    def signer(self, salt: str) -> URLSafeTimedSerializer:
        """Return what signs values of one kind, with the time of the signature."""
        return URLSafeTimedSerializer(self._key, salt=salt, signer_kwargs={"digest_method": sha256})

    def role_of(self, token: str, client: str) -> Role | None:
        """Return the role of ``token``, None if unknown. Raises ``Problem`` if the client has failed too often."""
        if wait := self.patience.wait(client):
            said = f"too many wrong tokens from here; try again in {wait} s"
            raise Problem(HTTPStatus.TOO_MANY_REQUESTS, said, {"Retry-After": str(wait)})
        given, found = token.encode("utf-8", "replace"), None
        # Compare all of them in constant time: the duration must not tell anything about the tokens.
        for role, known in reversed(self._tokens):
            if hmac.compare_digest(given, known):
                found = role
        if found is None:
            self.patience.failed(client)
        return found

    def session(self, role: Role) -> str:
        """Return the value of a session cookie for ``role``."""
        return self.signer("session").dumps({"role": role.value, "id": secrets.token_hex(8)})

    def role_of_session(self, cookie: str) -> Role | None:
        """Return the role of a cookie, None if it is too old or not ours."""
        try:
            return Role(self.signer("session").loads(cookie, max_age=SESSION_SECONDS)["role"])
        except (BadSignature, ValueError, KeyError, TypeError):
            return None

    def csrf(self, caller: Caller) -> str:
        """Return the CSRF token for the forms of ``caller``."""
        return hmac.new(self._key.encode(), f"csrf {caller.session}".encode(), sha256).hexdigest()


def gate_of(request: Request) -> AccessGate:
    """Return the gate of this application."""
    gate: AccessGate = request.app.state.gate
    return gate


def csrf_token(request: Request, caller: Caller) -> str:
    """Return the value for the hidden field ``csrf`` of a form, or for the header ``X-CSRF-Token``."""
    return gate_of(request).csrf(caller)


# --- dependencies of the API -------------------------------------------------------------------------------------

_bearer = HTTPBearer(
    auto_error=False, scheme_name="token", description="MAILBATCH_API_TOKEN or MAILBATCH_API_READ_TOKEN"
)
_cookie = APIKeyCookie(name=COOKIE, auto_error=False, scheme_name="session", description="Set by the form at /login")


def _known(
    request: Request,
    bearer: Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)],
    cookie: Annotated[str | None, Security(_cookie)],
) -> Caller | None:
    """Return the caller, None if unknown."""
    gate = gate_of(request)
    through = "api" if request.url.path.startswith("/api/") else "console"
    if gate.open_house:
        return Caller(Role.OPERATE, _actor(request, through, Role.OPERATE))
    if bearer is not None:
        role = gate.role_of(bearer.credentials, client_of(request))
        return Caller(role, _actor(request, through, role)) if role else None
    role = gate.role_of_session(cookie) if cookie else None
    return Caller(role, _actor(request, "console", role), cookie) if role else None


def _actor(request: Request, through: str, role: Role) -> str:
    """Return the caller for the audit log: the name that the proxy gives, else the role of the token."""
    header = gate_of(request).user_header
    # Starlette decodes header fields as ISO 8859-1; a name in another script comes in UTF-8.
    name = request.headers.get(header, "").encode("latin-1").decode("utf-8", "replace") if header else ""
    shown = "".join(c if c.isprintable() else "?" for c in name.strip())[:_LONGEST_NAME]
    return f"{through}:{shown or role}"


def _reader(caller: Annotated[Caller | None, Depends(_known)]) -> Caller:
    if caller is None:
        said = "give a token that is known: Authorization: Bearer …"
        raise Problem(HTTPStatus.UNAUTHORIZED, said, {"WWW-Authenticate": 'Bearer realm="mailbatch"'})
    return caller


def _operator(request: Request, caller: Annotated[Caller, Depends(_reader)]) -> Caller:
    _ensure_operates(caller)
    if caller.session is not None:
        _ensure_csrf(request, caller, request.headers.get(CSRF_HEADER, ""))
    return caller


Reader = Annotated[Caller, Depends(_reader)]
"""May look."""
Operator = Annotated[Caller, Depends(_operator)]
"""May act. With a session in place of a token, the header ``X-CSRF-Token`` is required too."""


# --- dependencies of pages ---------------------------------------------------------------------------------------

PageVisitor = Annotated[Caller | None, Depends(_known)]
"""Return the caller of a page, None if unknown."""


def _page_reader(caller: Annotated[Caller | None, Depends(_known)]) -> Caller:
    if caller is None:
        raise LoginNeeded
    return caller


async def form_of(request: Request) -> dict[str, list[str]]:
    """Return the fields of a form (``application/x-www-form-urlencoded``)."""
    body = await request.body()
    if len(body) > _LONGEST_FORM:
        raise Problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "this form is too long")
    try:
        return parse_qs(body.decode(), keep_blank_values=True, max_num_fields=5000)
    except ValueError as error:
        raise Problem(HTTPStatus.BAD_REQUEST, f"this is no form: {error}") from error


FormFields = Annotated[dict[str, list[str]], Depends(form_of)]


def _page_operator(request: Request, caller: Annotated[Caller, Depends(_page_reader)], fields: FormFields) -> Caller:
    _ensure_operates(caller)
    _ensure_csrf(request, caller, fields.get(CSRF_FIELD, [""])[0] or request.headers.get(CSRF_HEADER, ""))
    return caller


PageReader = Annotated[Caller, Depends(_page_reader)]
"""May look at pages. An unknown caller is redirected to ``/login``."""
PageOperator = Annotated[Caller, Depends(_page_operator)]
"""May send forms. The field ``csrf`` must be ``csrf_token(request, caller)``."""


# --- sessions ----------------------------------------------------------------------------------------------------


def log_in(request: Request, token: str, answer: Response) -> Role | None:
    """Put a session for ``token`` into the response ``answer``; return None if the token is unknown."""
    gate = gate_of(request)
    role = gate.role_of(token, client_of(request))
    if role is not None:
        answer.set_cookie(
            COOKIE,
            gate.session(role),
            max_age=SESSION_SECONDS,
            httponly=True,
            samesite="strict",
            secure=request.url.scheme == "https",
        )
    return role


def log_out(answer: Response) -> None:
    """Delete the session cookie in the browser."""
    answer.delete_cookie(COOKIE, httponly=True, samesite="strict")


def login_address(request: Request) -> str:
    """Return the address of the login form that leads back to the requested page."""
    wanted = request.url.path if request.method == "GET" else "/"
    return f"/login?next={quote(wanted)}"


def client_of(request: Request) -> str:
    """Return the address of the client, as uvicorn knows it."""
    return request.client.host if request.client else "?"


def _ensure_operates(caller: Caller) -> None:
    if caller.role is not Role.OPERATE:
        raise Problem(HTTPStatus.FORBIDDEN, "this token may only read; use MAILBATCH_API_TOKEN")


def _ensure_csrf(request: Request, caller: Caller, given: str) -> None:
    if not hmac.compare_digest(given.encode("utf-8", "replace"), csrf_token(request, caller).encode()):
        raise Problem(HTTPStatus.FORBIDDEN, "this form is old, or not ours; load the page again")
