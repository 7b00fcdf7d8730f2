"""What was learned of the way in which a relay is to be spoken to; it says nothing of whether the relay is well."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class RelayHabits:
    """What one process learned of a relay and the next one need not learn again.

    ``dialogue``: the fastest one that it masters, None for the fastest that it offers. ``takes_ahead``: it takes a
    mail's commands before it has answered the mail before. ``swallows``: it was seen to read a chunk that it refused
    (RFC 3030 §2). ``mails``: how many it takes on one connection, 0 for no limit. ``reason``: its reply that taught it.
    """

    dialogue: str | None = None
    takes_ahead: bool = True
    swallows: bool = False
    mails: int = 0
    reason: str | None = None
