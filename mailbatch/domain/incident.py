"""Something that is wrong, as people are notified of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mailbatch.domain.redaction.addresses import public

if TYPE_CHECKING:
    from datetime import datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Incident:
    """Something that is wrong ``since`` then, and that ``channel`` reports. ``kind``: the name of the finding."""

    kind: str
    channel: str
    since: datetime
    what: str
    advice: str

    @property
    def id(self) -> str:
        """The same for each try, so that a receiver can tell a repetition."""
        return f"incident_{self.kind}_{self.since:%Y%m%dT%H%M%S}"

    def as_dict(self) -> dict[str, Any]:
        """Return what a channel delivers: JSON types only, addresses masked."""
        since = self.since.isoformat()
        return {"kind": self.kind, "what": public(self.what), "advice": self.advice, "since": since}
