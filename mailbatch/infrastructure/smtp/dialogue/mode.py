"""The three modes of a dialogue with a relay, and which of them its extensions allow."""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Container


class DialogueMode(IntEnum):
    """The modes of a dialogue, from the slowest to the fastest; ``DIALOGUES`` has the class for each."""

    DATA = 0
    """One command at a time (RFC 5321)."""
    PIPELINING = 1
    """A body and the next mail's MAIL, RCPT and DATA in one write: one round trip a mail (RFC 2920 §3.1)."""
    BDAT = 2
    """Whole mails, one behind the other, without waiting for replies (RFC 3030 and RFC 2920)."""

    @classmethod
    def offered(cls, features: Container[str]) -> DialogueMode:
        """Return the fastest mode for a relay that announced these extensions (in lower case)."""
        if "pipelining" not in features:
            return cls.DATA
        return cls.BDAT if "chunking" in features else cls.PIPELINING
