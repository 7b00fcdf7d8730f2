"""What was learned of how to speak to a relay. It says nothing of whether the relay works."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class RelayProfile:
    """The knowledge of one process about a relay, so that the next process need not learn it again.

    ``dialogue``: the fastest mode that the relay masters; None: the fastest that it offers. ``takes_ahead``: it accepts
    a mail's commands before it has answered the mail before. ``swallows``: it was seen to read a chunk that it refused
    (RFC 3030 §2). ``mails``: how many it takes on one connection, 0 for no limit. ``idle``: the seconds without a mail
    after which it closes a connection, 0 if that was not seen. ``connections``: how many a lane had at the end of its
    run, 0 if nothing was tried. ``reason``: its reply that showed it.
    """

    dialogue: str | None = None
    takes_ahead: bool = True
    swallows: bool = False
    mails: int = 0
    idle: float = 0.0
    connections: int = 0
    reason: str | None = None
