"""Logs in to a relay (RFC 4954), once: a password that was refused is not tried by another mechanism.

A token is tried again if it was refused and was not new.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from typing import TYPE_CHECKING, Protocol

from mailbatch.domain.outcome import Reply
from mailbatch.domain.redaction.credentials import without_secrets
from mailbatch.infrastructure.smtp.errors import RelayError

if TYPE_CHECKING:
    from collections.abc import Callable

    from mailbatch.infrastructure.smtp.access_token import AccessToken

_AUTHENTICATED = 235
_CHALLENGE = 334
_UNKNOWN_MECHANISM = 504
_PERMANENT = 500


class Ask(Protocol):
    """Sends a command and returns its reply. ``doing`` names the command in errors, in place of its text."""

    def __call__(self, command: str, *, doing: str | None = None) -> Reply:
        """Raise ``RelayError`` when the connection is over."""


def log_in(ask: Ask, offered: str, username: str, password: str) -> None:
    """Log in by the first mechanism that both sides know. ``offered``: the text behind AUTH in the reply to EHLO.

    Raises:
        RelayError: hopeless if the refusal is permanent, or no mechanism fits; its text holds no password.
    """
    names = offered.upper().split()
    mechanisms = [mechanism for name, mechanism in _MECHANISMS.items() if name in names]
    if not mechanisms:
        raise RelayError(f"no way to log in: the relay offers {' '.join(names) or 'no AUTH'}", hopeless=True)
    for mechanism in mechanisms:
        reply = _try(mechanism, ask, username, password)
        if reply.code == _AUTHENTICATED:
            return
        if reply.code != _UNKNOWN_MECHANISM:
            break
    raise _refused(reply)


def log_in_by_token(ask: Ask, offered: str, username: str, token: AccessToken) -> None:
    """Log in by XOAUTH2, as Google and Microsoft describe it. ``offered``: as above.

    Raises:
        RelayError: the relay does not offer it, the token cannot be read, or a new token was refused, which is hopeless
            if the refusal is permanent. The text holds no token.
    """
    names = offered.upper().split()
    if "XOAUTH2" not in names:
        raise RelayError(f"no way to log in by a token: the relay offers {' '.join(names) or 'no AUTH'}", hopeless=True)
    for text in token.tries():
        reply = _try(_xoauth2, ask, username, text)
        if reply.code == _AUTHENTICATED:
            return
        if reply.code < _PERMANENT:
            break
    raise _refused(reply)


def _try(mechanism: Callable[[Ask, str, str], Reply], ask: Ask, username: str, secret: str) -> Reply:
    """Return the reply, without the secret."""
    try:
        reply = mechanism(ask, username, secret)
    except RelayError as error:
        # The error quotes a reply that cannot be read.
        said = without_secrets(str(error), username, secret)
        raise RelayError(said, hopeless=error.hopeless, reply=error.reply) from None
    return Reply(reply.code, without_secrets(reply.text, username, secret))


def _refused(refusal: Reply) -> RelayError:
    return RelayError(f"the login was refused: {refusal}", hopeless=refusal.code >= _PERMANENT, reply=refusal)


def _xoauth2(ask: Ask, username: str, token: str) -> Reply:
    response = f"user={username}\1auth=Bearer {token}\1\1"
    reply = ask(f"AUTH XOAUTH2 {_base64(response)}")
    # The challenge says in JSON what is wrong; an empty response to it gets the refusal.
    return ask("", doing="AUTH") if reply.code == _CHALLENGE else reply


def _plain(ask: Ask, username: str, password: str) -> Reply:
    """RFC 4616."""
    return ask(f"AUTH PLAIN {_base64(_plain_response(username, password))}")


def _login(ask: Ask, username: str, password: str) -> Reply:
    """As all clients do it, after draft-murchison-sasl-login."""
    reply = ask("AUTH LOGIN")
    for answer in (username, password):
        if reply.code != _CHALLENGE:
            break
        reply = ask(_base64(answer), doing="AUTH")
    return reply


def _cram_md5(ask: Ask, username: str, password: str) -> Reply:
    """RFC 2195."""
    reply = ask("AUTH CRAM-MD5")
    if reply.code != _CHALLENGE:
        return reply
    try:
        challenge = base64.b64decode(reply.text, validate=True)
    except binascii.Error as error:
        raise RelayError("the relay's CRAM-MD5 challenge is not base64") from error
    digest = hmac.new(password.encode(), challenge, "md5").hexdigest()
    return ask(_base64(f"{username} {digest}"), doing="AUTH")


# In the order of preference. Behind TLS a password may be sent, and then the relay need not store it in clear.
_MECHANISMS = {"PLAIN": _plain, "LOGIN": _login, "CRAM-MD5": _cram_md5}


def _plain_response(username: str, password: str) -> str:
    return f"\0{username}\0{password}"


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode("ascii")
