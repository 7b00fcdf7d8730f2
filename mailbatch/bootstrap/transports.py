"""Which transport carries mails to a relay. Another transport adds a case to each of the three functions here."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeAlias

from mailbatch.infrastructure.smtp.ehlo_name import host_name
from mailbatch.infrastructure.smtp.relay import SmtpRelay, read_smtp_url

if TYPE_CHECKING:
    from collections.abc import Callable

    from mailbatch.application.ports.sending import RelayMemory, Slots, Transport

Relay: TypeAlias = SmtpRelay
"""Where mails are handed over: a value with a ``name``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """How a lane may use a relay.

    ``connections`` and ``window``: how many connections it may have, and mails in flight on each. ``settle_every``:
    seconds after which the transport gives way to the caller, outcome or not. ``slots`` counts the connections of all
    lanes and hosts, if they have a limit. ``memory`` keeps what was learned about the relay.
    """

    connections: int
    window: int
    settle_every: float
    slots: Slots | None
    memory: Callable[[], RelayMemory]


def read_relay(url: str, ehlo_name: str | None = None) -> Relay:
    """Read the URL of a relay. ``ehlo_name``: how SMTP greets it; None: by the host's name, if it has a domain.

    Raises ``ValueError`` in one line that never holds the password.
    """
    return replace(read_smtp_url(url), local_hostname=ehlo_name or host_name())


def transports_to(relay: Relay, terms: Terms) -> Callable[[], Transport]:
    """Return what makes a new transport to ``relay``: one for each lane."""
    match relay:
        case SmtpRelay():
            from mailbatch.infrastructure.smtp.capabilities import RelayCapabilities
            from mailbatch.infrastructure.smtp.transport import SmtpTransport

            # One for the process: what a lane learns about the relay serves the next.
            capabilities = RelayCapabilities(memory=terms.memory)
            return lambda: SmtpTransport(
                relay,
                connections=terms.connections,
                window=terms.window,
                yield_every=terms.settle_every,
                capabilities=capabilities,
                slots=terms.slots,
            )


def check_relay(relay: Relay, timeout: float) -> str:
    """Connect to ``relay`` and log in, without sending anything; return in one line what was found.

    ``timeout`` bounds each phase, in seconds. Raises ``MailbatchError`` in one line if the relay cannot be used.
    """
    match relay:
        case SmtpRelay():
            from mailbatch.infrastructure.smtp.check import check

            return check(replace(relay, timeout=min(relay.timeout, timeout)))
