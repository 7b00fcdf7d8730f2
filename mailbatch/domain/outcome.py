"""What is known of a mail after it was given to a relay: exactly that, and no more."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mailbatch.domain.message import Claim

# RFC 3463 §2: class.subject.detail, at the start of the text.
_ENHANCED = re.compile(r"([245]\.\d{1,3}\.\d{1,3})(?:\s|$)")


@dataclass(frozen=True, slots=True)
class Reply:
    """A relay's answer: the code (RFC 5321 §4.2) and its text, lines joined by one blank, at most 500 characters."""

    code: int
    text: str

    @property
    def enhanced(self) -> str | None:
        """The enhanced status code (RFC 3463) with which the text begins, if it does."""
        found = _ENHANCED.match(self.text)
        return found[1] if found else None

    def __str__(self) -> str:
        return f"{self.code} {self.text}".strip() if self.code else self.text


class Kind(StrEnum):
    """What a relay said of one recipient."""

    ACCEPTED = "accepted"
    """It took the mail for this recipient (250 to the end of the body)."""
    DEFERRED = "deferred"
    """4xx to MAIL, RCPT or the body: not now."""
    REJECTED = "rejected"
    """5xx to MAIL, RCPT or the body: never."""
    NO_VERDICT = "no_verdict"
    """The last bytes may have gone out and no valid reply came: it may have been taken or not."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the relay said of one recipient. ``NO_VERDICT``: the reply's code is 0, its text says what happened."""

    kind: Kind
    reply: Reply


@dataclass(frozen=True, slots=True)
class Replied:
    """The dialogue for one mail went so far that it counts: a verdict for each recipient of its envelope."""

    claim: Claim
    relay: str
    verdicts: Mapping[str, Verdict]

    @property
    def silence(self) -> Reply | None:
        """What happened in place of the answer to the end of the mail, if none came."""
        return next((v.reply for v in self.verdicts.values() if v.kind is Kind.NO_VERDICT), None)


@dataclass(frozen=True, slots=True)
class RelayFault:
    """The relay's fault, not this mail's: nothing of it can have been taken, and it costs the mail no attempt.

    ``hopeless`` says that asking again soon is useless or harmful (refused password, untrusted certificate).
    ``in_dialogue`` says that the relay was well until this mail's own MAIL: a mail that meets this again and again
    may be what breaks it. ``reply`` is what the relay said, if it was a reply that ended the session.
    """

    claim: Claim
    relay: str
    reason: str
    hopeless: bool = False
    in_dialogue: bool = False
    reply: Reply | None = None


@dataclass(frozen=True, slots=True)
class NotSent:
    """The permit was gone when this mail's turn came; not a byte of it went out."""

    claim: Claim


Outcome: TypeAlias = Replied | RelayFault | NotSent
