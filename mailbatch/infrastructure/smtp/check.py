"""Asks a relay, without sending anything, whether mail could be handed to it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mailbatch.infrastructure.smtp.connection import Connection
from mailbatch.infrastructure.smtp.dialogue.mode import DialogueMode

if TYPE_CHECKING:
    from mailbatch.infrastructure.smtp.relay import SmtpRelay


def check(relay: SmtpRelay) -> str:
    """Connect, greet, encrypt, log in and hang up; answer in one line what was found.

    Raises:
        RelayError: in one line, why it could not be used.
    """
    connection = Connection(relay)
    connection.open()
    found = [
        connection.tls_version or "not encrypted",
        "no login" if relay.username is None else "login accepted",
        f"speaks {DialogueMode.offered(connection.esmtp_features).name}",
        f"offers {_offered(connection.esmtp_features)}",
    ]
    connection.hang_up()
    return f"{relay.name}: {', '.join(found)}"


def _offered(features: dict[str, str]) -> str:
    names = sorted(f"{name.upper()} {value.strip()}".strip() for name, value in features.items())
    return "; ".join(names) or "no extensions"
