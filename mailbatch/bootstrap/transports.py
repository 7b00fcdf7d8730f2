"""Which transport carries mails to a relay. Another transport adds a case to each of the functions here."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from mailbatch.infrastructure.smtp.ehlo_name import host_name
from mailbatch.infrastructure.smtp.relay import SmtpRelay, read_smtp_url

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mailbatch.application.ports.sending import RelayMemory, Slots, Transport, Transports
    from mailbatch.config.relay_tables import RelayTable
    from mailbatch.infrastructure.smtp.access_token import AccessToken

Relay: TypeAlias = SmtpRelay
"""Where mails are handed over: a value with a ``name``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """How a lane may use a relay.

    ``connections`` and ``window``: how many connections it has at first, and mails in flight on each.
    ``most_connections``: how many it may have; if these are more, their number is found while mails are sent.
    ``settle_every``: seconds after which the transport gives way to the caller, outcome or not. ``slots`` counts the
    connections of all lanes and hosts, if they have a limit. ``memory`` keeps what was learned about the relay.
    """

    connections: int
    most_connections: int
    window: int
    settle_every: float
    slots: Slots | None
    memory: Callable[[], RelayMemory]


def read_relay(url: str, ehlo_name: str | None = None) -> Relay:
    """Read the URL of a relay. ``ehlo_name``: how SMTP greets it; None: by the host's name, if it has a domain.

    Raises ``ValueError`` in one line that never holds the password.
    """
    return replace(read_smtp_url(url), local_hostname=ehlo_name or host_name())


def read_named_relay(name: str, table: RelayTable, ehlo_name: str | None = None) -> Relay:
    """Read a relay of the relays' file.

    Raises ``ValueError`` in one line, which begins with the key or with the part of the URL that is wrong, and never
    holds a secret.
    """
    has_secret = table.auth is not None or table.password_env is not None or table.password_file is not None
    relay = read_smtp_url(table.url, has_secret=has_secret)
    return replace(
        relay,
        label=name,
        local_hostname=ehlo_name or host_name(),
        password=_password(table) if has_secret and table.auth is None else relay.password,
        access_token=_access_token(table) if table.auth is not None else None,
    )


def _password(table: RelayTable) -> str:
    if table.password_env is not None:
        if not (password := os.environ.get(table.password_env)):
            raise ValueError(f"password_env: the environment has no variable {table.password_env}, or an empty one")
        return password
    path = Path(table.password_file or "")
    try:
        password = path.read_text("utf-8").rstrip("\r\n")
    except (OSError, UnicodeError) as error:
        raise ValueError(
            f"password_file: {path} cannot be read: {getattr(error, 'strerror', 'is not UTF-8')}"
        ) from None
    if not password or not password.isprintable():
        raise ValueError(f"password_file: {path} must hold the password in one line, and nothing else")
    return password


def _access_token(table: RelayTable) -> AccessToken:
    from mailbatch.infrastructure.smtp.access_token import AccessToken, token_from_command, token_from_file

    if table.token_command is not None:
        return AccessToken(partial(token_from_command, table.token_command))
    path = Path(table.token_file or "")
    if not path.is_file():
        raise ValueError(f"token_file: must be an existing file; there is none at {path.resolve()}")
    return AccessToken(partial(token_from_file, path))


def transports_to(relay: Relay, terms: Terms) -> Callable[[], Transport]:
    """Return what makes a new transport to ``relay``: one for each lane."""
    match relay:
        case SmtpRelay():
            from mailbatch.infrastructure.smtp.capabilities import RelayCapabilities
            from mailbatch.infrastructure.smtp.climb import Climb
            from mailbatch.infrastructure.smtp.transport import SmtpTransport

            # One for the process: what a lane learns about the relay serves the next.
            capabilities = RelayCapabilities(memory=terms.memory)
            climbs = terms.most_connections > terms.connections
            return lambda: SmtpTransport(
                relay,
                connections=terms.connections,
                window=terms.window,
                yield_every=terms.settle_every,
                capabilities=capabilities,
                slots=terms.slots,
                climb=Climb(terms.connections, terms.most_connections) if climbs else None,
            )


def transports_to_all(ways: Sequence[Callable[[], Transport]]) -> Transports:
    """Return new transports to several relays, which one lane uses together. ``ways`` makes that of each."""
    from mailbatch.infrastructure.smtp.transport import SmtpTransport, SmtpTransports

    return SmtpTransports([one for way in ways if isinstance(one := way(), SmtpTransport)])


def check_relay(relay: Relay, timeout: float) -> str:
    """Connect to ``relay`` and log in, without sending anything; return in one line what was found.

    ``timeout`` bounds each phase, in seconds. Raises ``MailbatchError`` in one line if the relay cannot be used.
    """
    match relay:
        case SmtpRelay():
            from mailbatch.infrastructure.smtp.check import check

            return check(replace(relay, timeout=min(relay.timeout, timeout)))
