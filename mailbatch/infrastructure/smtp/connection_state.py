"""The states of a connection, the transitions between them, and the reasons to close one."""

from __future__ import annotations

from enum import Enum, StrEnum


class State(Enum):
    """Where a connection is in its life; it never goes back. ``NEXT`` has the allowed transitions."""

    CONNECTING = "connecting"
    """A thread opens it."""
    OPEN = "open"
    """It carries mails, or waits for some."""
    CLOSING = "closing"
    """We sent QUIT, and the relay has a second to answer; or the thread that opens the connection must end."""
    CLOSED = "closed"


NEXT = {
    State.CONNECTING: {State.OPEN, State.CLOSING, State.CLOSED},
    State.OPEN: {State.CLOSING, State.CLOSED},
    State.CLOSING: {State.CLOSED},
    State.CLOSED: set(),
}


class CloseReason(StrEnum):
    """Why a connection is closed."""

    NO_MORE_MAILS = "there are no more mails"
    IDLE_TOO_LONG = "it was idle for too long"
    CARRIED_ENOUGH = "it carried as many mails as it may"
    NOT_NEEDED = "fewer connections are used from now on"
    NOT_PERMITTED = "its mail may not be sent"
    QUIT_SENT = "the relay was told by QUIT"
    BROKEN = "it broke"


POLITE = {
    CloseReason.NO_MORE_MAILS,
    CloseReason.IDLE_TOO_LONG,
    CloseReason.CARRIED_ENOUGH,
    CloseReason.NOT_NEEDED,
}
"""The reasons for which QUIT is sent before the connection is closed, if no mail is in flight."""
