"""The port ``Gate`` for tests."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING

from mailbatch.domain.gate import NotBefore

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from mailbatch.domain.claimed import ClaimedMail
    from mailbatch.domain.message import Claim


@dataclass
class FakeGate:
    """The port ``Gate``: it holds back the mails of ``tag``, for ``seconds``. ``asked``: the size of each question."""

    tag: str
    seconds: float = 60.0
    reason: str = "a gate"
    asked: list[int] = field(default_factory=list)

    def ask(self, mails: Sequence[ClaimedMail], now: datetime) -> Mapping[Claim, NotBefore]:
        self.asked.append(len(mails))
        answer = NotBefore(now + timedelta(seconds=self.seconds), self.reason)
        return {mail.claim: answer for mail in mails if mail.tag == self.tag}

    def reopen(self, limit: int) -> int:
        return 0
