"""What rules look at in a mail: its tag, its priority, and the domains of its sender and its recipients."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from fnmatch import translate
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from mailbatch.domain.message import Envelope

_COMPARISONS: dict[str, Callable[[int, int], bool]] = {
    ">=": int.__ge__,
    "<=": int.__le__,
    ">": int.__gt__,
    "<": int.__lt__,
    "=": int.__eq__,
}
_COMPARISON = re.compile(r"\s*(>=|<=|>|<|=)\s*([+-]?\d{1,10})\s*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Traits:
    """What is known of a mail before it is composed.

    ``recipients``: how many at each domain. Domains are in lower case, and in ASCII as SMTP has them
    (``xn--bcher-kva.example``).
    """

    tag: str | None = None
    priority: int = 0
    sender_domain: str = ""
    recipients: Mapping[str, int] = field(default_factory=dict)


def envelope_traits(envelope: Envelope) -> Traits:
    """Return what the envelope says of a mail that is no reservation: its domains."""
    return Traits(
        sender_domain=envelope.sender.rpartition("@")[2].lower(),
        recipients=Counter(to.rpartition("@")[2].lower() for to in envelope.recipients),
    )


@dataclass(frozen=True, slots=True)
class PriorityIs:
    """A comparison with the priority of a mail, for example ``>= 10``."""

    sign: str
    number: int

    @classmethod
    def read(cls, text: str) -> Self:
        """Read ``>= 10``. Raises ``ValueError`` with what is allowed."""
        if not (found := _COMPARISON.fullmatch(text)):
            raise ValueError(f"must be a comparison such as '>= 10' (got {text!r})")
        return cls(found[1], int(found[2]))

    def fits(self, priority: int) -> bool:
        """Whether a mail of this priority is meant."""
        return _COMPARISONS[self.sign](priority, self.number)


@dataclass(frozen=True, slots=True)
class Names:
    """A list of names with the wildcards ``*`` and ``?``."""

    names: tuple[str, ...]
    _pattern: re.Pattern[str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_pattern", re.compile("|".join(map(translate, self.names))))

    def has(self, name: str) -> bool:
        """Whether ``name`` is one of these."""
        return self._pattern.match(name) is not None

    def among(self, names: Iterable[str]) -> frozenset[str]:
        """Return those of ``names`` that are meant."""
        return frozenset(filter(self._pattern.match, names))


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """Which mails a rule is for: those that have everything that is named here.

    A mail to several domains fits ``recipient_domain`` if one of them does, because SMTP sends it as one mail.
    """

    tag: Names | None = None
    priority: PriorityIs | None = None
    sender_domain: Names | None = None
    recipient_domain: Names | None = None

    def fits(self, mail: Traits) -> bool:
        """Whether the rule is for ``mail``."""
        return (
            (self.tag is None or (mail.tag is not None and self.tag.has(mail.tag)))
            and (self.priority is None or self.priority.fits(mail.priority))
            and (self.sender_domain is None or self.sender_domain.has(mail.sender_domain))
            and (self.recipient_domain is None or bool(self.recipient_domain.among(mail.recipients)))
        )


EVERY_MAIL = Match()
