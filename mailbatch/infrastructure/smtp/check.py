"""Checks whether a relay would take mails, without sending one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mailbatch.infrastructure.smtp.dialogue.mode import DialogueMode
from mailbatch.infrastructure.smtp.handshake import Handshake

if TYPE_CHECKING:
    from mailbatch.infrastructure.smtp.relay import SmtpRelay


def check(relay: SmtpRelay) -> str:
    """Connect, greet, encrypt, log in and say QUIT; return in one line what was found.

    Raises:
        RelayError: in one line, why the relay cannot be used.
    """
    handshake = Handshake(relay)
    handshake.open()
    found = [
        handshake.tls_version or "not encrypted",
        "no login" if relay.username is None else "login accepted",
        f"speaks {DialogueMode.offered(handshake.esmtp_features).name}",
        f"offers {_offered(handshake.esmtp_features)}",
    ]
    handshake.quit_and_close()
    return f"{relay.name}: {', '.join(found)}"


def _offered(features: dict[str, str]) -> str:
    names = sorted(f"{name.upper()} {value.strip()}".strip() for name, value in features.items())
    return "; ".join(names) or "no extensions"
