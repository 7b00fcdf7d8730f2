"""Reads from a claimed mail what rules look at, before it is composed."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mailbatch.domain.content import beginning_of
from mailbatch.domain.errors import MailbatchError
from mailbatch.domain.traits import Traits

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mailbatch.application.ports.system import AddressReader
    from mailbatch.domain.claimed import ClaimedMail
    from mailbatch.domain.message import Address


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadTraits:
    """``sender`` and ``redirect_all_to``: as the settings have them.

    ``author_of`` returns the From of a finished message, of which it gets the beginning; it raises ``ValueError``.
    ``domains``: whether any rule looks at domains; otherwise no address is read. An address that cannot be read has no
    domain here. What is wrong with it is said when the mail is composed.
    """

    read_addresses: AddressReader
    author_of: Callable[[bytes], Address | None]
    sender: str | None
    redirect_all_to: str | None
    domains: bool = True

    def __call__(self, claimed: ClaimedMail) -> Traits:
        """Return the traits of a mail."""
        if not self.domains:
            return Traits(tag=claimed.tag, priority=claimed.priority)
        mail = claimed.mail
        whom = (self.redirect_all_to,) if self.redirect_all_to else (mail.recipients, mail.cc, mail.bcc)
        return Traits(
            tag=claimed.tag,
            priority=claimed.priority,
            sender_domain=self._sender_domain(claimed),
            recipients=Counter(one.domain.lower() for text in whom for one in self._read(text)),
        )

    def _sender_domain(self, claimed: ClaimedMail) -> str:
        try:
            author = self.author_of(beginning_of(claimed.mail.message)) if claimed.mail.message else None
        except (ValueError, MailbatchError):
            author = None
        authors = [author] if author else self._read(claimed.mail.sender or self.sender)
        return authors[0].domain.lower() if authors else ""

    def _read(self, text: str | None) -> Sequence[Address]:
        try:
            return self.read_addresses(text) if text and text.strip() else ()
        except ValueError:
            return ()
