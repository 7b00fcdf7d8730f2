"""The outcomes of handing a mail to a relay: exactly what is known then, and no more."""

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
    """A relay's reply: code (RFC 5321 §4.2) and text, its lines joined by one space, at most 500 characters."""

    code: int
    text: str

    @property
    def enhanced(self) -> str | None:
        """The enhanced status code (RFC 3463) at the start of the text, if there is one."""
        found = _ENHANCED.match(self.text)
        return found[1] if found else None

    def __str__(self) -> str:
        return f"{self.code} {self.text}".strip() if self.code else self.text


class Kind(StrEnum):
    """The kind of a verdict."""

    ACCEPTED = "accepted"
    """The relay took the mail for this recipient (250 to the end of the body)."""
    DEFERRED = "deferred"
    """4xx to MAIL, RCPT or the body: not now."""
    REJECTED = "rejected"
    """5xx to MAIL, RCPT or the body: never."""
    NO_VERDICT = "no_verdict"
    """The last bytes may have gone out, and no valid reply came. The relay may or may not have the mail."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The relay's decision for one recipient. ``NO_VERDICT``: the reply's code is 0, its text says what happened."""

    kind: Kind
    reply: Reply


@dataclass(frozen=True, slots=True)
class Replied:
    """The dialogue for one mail went far enough to count: a verdict for each recipient of its envelope."""

    claim: Claim
    relay: str
    verdicts: Mapping[str, Verdict]

    @property
    def silence(self) -> Reply | None:
        """The verdict's reply that says what happened, if the relay did not reply to the end of the mail."""
        return next((v.reply for v in self.verdicts.values() if v.kind is Kind.NO_VERDICT), None)


@dataclass(frozen=True, slots=True)
class RelayFault:
    """The relay failed, not this mail. The relay cannot have taken it, and it costs the mail no attempt.

    ``hopeless``: trying again soon is useless or harmful (refused password, untrusted certificate). ``in_dialogue``:
    the relay worked until this mail's own MAIL; a mail that meets this again and again may be the cause. ``reply``: the
    reply that ended the session, if it was a reply.
    """

    claim: Claim
    relay: str
    reason: str
    hopeless: bool = False
    in_dialogue: bool = False
    reply: Reply | None = None


@dataclass(frozen=True, slots=True)
class ContentFault:
    """Our own bytes of this mail could not be read to their end, so the relay cannot have taken it.

    They are in the temporary file, which all mails share. So this speaks neither of the relay nor of this mail.
    """

    claim: Claim
    relay: str
    reason: str


@dataclass(frozen=True, slots=True)
class NotSent:
    """The lane had to stop before this mail's turn. Not a byte of it went out."""

    claim: Claim


Outcome: TypeAlias = Replied | RelayFault | ContentFault | NotSent
