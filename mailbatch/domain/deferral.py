"""What a relay's "not now" is about, and for how long it asks to be left alone: the kinds of a 4xx, as data."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from mailbatch.domain.outcome import Kind

if TYPE_CHECKING:
    from mailbatch.domain.outcome import Answered, Reply


class Level(StrEnum):
    """Whom a deferral concerns."""

    RELAY = "relay"
    """The relay itself, or its way onward: the next mail would most likely hear the same."""
    RECIPIENT = "recipient"
    """This recipient's mailbox or address; others may go through."""
    MAIL = "mail"
    """This mail, or nothing that was said."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Deferral:
    """One kind of 4xx, how it is known, and how it is waited for.

    ``enhanced`` and ``text`` are patterns, ``codes`` reply codes for answers without an enhanced one; any of the three
    that matches is enough. ``least`` and ``most`` bound the plain back-off of this kind before its jitter; they are
    multiples of ``RETRY_BACKOFF``, so that who waits shorter, or tests, waits shorter with every kind.
    ``relay_is_unwell``: such answers in a row are a reason to leave the relay alone.
    """

    name: str
    level: Level
    rule: str
    enhanced: str | None = None
    codes: frozenset[int] = frozenset()
    text: str | None = None
    least: float = 0.0
    most: float = float("inf")
    relay_is_unwell: bool = False


OTHER = Deferral(name="other", level=Level.MAIL, rule="RFC 5321 §4.2.1: a transient refusal, not told of what")

KINDS = (
    Deferral(
        name="greylisted",
        level=Level.RECIPIENT,
        rule="RFC 6647 §2: who comes back after some minutes is let in; waiting longer each time gains nothing",
        text=r"gr[ae]y[ -]?list|postgrey",
        least=10.0,
        most=10.0,
    ),
    Deferral(
        name="too many recipients",
        level=Level.MAIL,
        rule="RFC 5321 §4.5.3.1.10, RFC 3463 §3.6 (X.5.3): the rest is to be sent in another transaction, soon",
        enhanced=r"4\.5\.3",
        text=r"too many recipients",
        most=1.0,
    ),
    Deferral(
        name="rate limited",
        level=Level.RELAY,
        rule="RFC 3463 §3.5 (X.4.5 congestion); IANA X.7.28 (mail flood detected)",
        enhanced=r"4\.4\.5|4\.7\.28",
        text=r"^(?!4\.[12]\.).*(?:rate.?limit|throttl|too (?:many|much|fast|frequent))",
        least=2.0,
        relay_is_unwell=True,
    ),
    Deferral(
        name="mailbox full",
        level=Level.RECIPIENT,
        rule="RFC 3463 §3.3 (X.2.2): it is emptied by a person, not by our asking",
        enhanced=r"4\.2\.2",
        text=r"(?:mailbox|inbox).{0,40}(?:full|exceed)|(?:over|exceed\w*).{0,20}quota|quota.{0,20}exceed",
        least=60.0,
    ),
    Deferral(
        name="mailbox",
        level=Level.RECIPIENT,
        rule="RFC 3463 §3.2 and §3.3 (X.1.x, X.2.x); RFC 5321 §4.2.3 (450: mailbox busy)",
        enhanced=r"4\.[12]\.\d+",
        codes=frozenset({450}),
    ),
    Deferral(
        name="relay's system",
        level=Level.RELAY,
        rule="RFC 3463 §3.4 (X.3.x); RFC 5321 §4.2.3 (421: not available, 452: storage)",
        enhanced=r"4\.3\.\d+",
        codes=frozenset({421, 452}),
        relay_is_unwell=True,
    ),
    Deferral(
        name="network",
        level=Level.RELAY,
        rule="RFC 3463 §3.5 (X.4.x): the way beyond the relay, which may differ from mail to mail",
        enhanced=r"4\.4\.\d+",
    ),
    Deferral(
        name="policy",
        level=Level.RELAY,
        rule="RFC 3463 §3.8 (X.7.x): what the relay allows whom, which may differ from mail to mail",
        enhanced=r"4\.7\.\d+",
    ),
    OTHER,
)
"""In the order in which they are tried; the last takes what no other did."""

_MATCHERS = tuple(
    (k, re.compile(k.enhanced or r"(?!)"), re.compile(k.text, re.IGNORECASE) if k.text else None) for k in KINDS
)
_HINT = re.compile(
    r"(?:(?:re)?try|come back|wait|again|defer\w*|delay\w*|gr[ae]y[ -]?list\w*)\b[^.;]{0,40}?\b(\d{1,6})\s*"
    r"(s|secs?|seconds?|m|mins?|minutes?|h|hrs?|hours?)\b",
    re.IGNORECASE,
)
_CLOCK = re.compile(
    r"(?:(?:re)?try|come back|wait|again)\b(?:[^.;]{0,40}?\b(?:in|for|after))?[\s=]+"
    r"(?:(\d{1,2}):)?(\d{1,2}):(\d{2})\b(?!:)",
    re.IGNORECASE,
)
_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}


def kind_of(reply: Reply) -> Deferral:
    """The kind of deferral that ``reply`` is; the enhanced code goes over the reply code, the kinds by their order."""
    enhanced = reply.enhanced or ""
    for kind, by_enhanced, by_text in _MATCHERS:
        if by_enhanced.fullmatch(enhanced) or (not enhanced and reply.code in kind.codes):
            return kind
        if by_text is not None and by_text.search(reply.text):
            return kind
    return OTHER


def unwell(answered: Answered) -> Reply | None:
    """What the relay said if it took the mail for nobody, for reasons of its own: the next mail would hear the same."""
    for verdict in answered.verdicts.values():
        if verdict.kind is not Kind.DEFERRED or not kind_of(verdict.reply).relay_is_unwell:
            return None
    return next(iter(answered.verdicts.values())).reply


def hinted(reply: Reply) -> float | None:
    """Seconds after which the relay says that it may be tried again, if its text says so.

    "try again in 300 seconds", "retry after 5 minutes", "come back in 00:04:30": forms that are seen; no RFC has one.
    """
    if found := _HINT.search(reply.text):
        return float(found[1]) * _UNITS[found[2][0].lower()]
    if found := _CLOCK.search(reply.text):
        return int(found[1] or 0) * 3600.0 + int(found[2]) * 60.0 + int(found[3])
    return None
