"""What a lane gets from a claim: pages of claimed reservations, and the results of leases that ended."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from mailbatch.domain.lifecycle import Event

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from uuid import UUID

    from mailbatch.domain.message import Claim
    from mailbatch.domain.outcome import Verdict
    from mailbatch.domain.reservation import Mail

_DOUBTS = frozenset({Event.NO_VERDICT_RESEND, Event.NO_VERDICT_HOLD})


@dataclass(frozen=True, slots=True)
class Cursor:
    """The key of the last reservation of a page, behind which the next begins. Only the store reads ``due_at``."""

    priority: int
    due_at: Any
    reservation_id: UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimedMail:
    """All that is needed to send a claimed reservation. ``earlier``: verdicts of recipients that took it before."""

    claim: Claim
    index: int
    mail: Mail
    message_id: str
    attempts: int
    earlier: Mapping[str, Verdict]
    tag: str | None = None
    priority: int = 0


@dataclass(frozen=True, slots=True)
class Claimed:
    """A claimed reservation. ``index`` counts from 1 over the run, ``size`` is about its bytes.

    ``mail`` came with the claim if it is small; a fat one is loaded when its turn comes.
    """

    claim: Claim
    index: int
    size: int
    mail: ClaimedMail | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """One claimed group, in the order in which it is to go. ``cursor`` is None at the end of the backlog.

    ``has_isolated``: nothing was claimed although something is due. It may be for an isolated claim.
    """

    claimed: Sequence[Claimed]
    cursor: Cursor | None
    has_isolated: bool = False


@dataclass(frozen=True, slots=True)
class DoubtsResolved:
    """What became of the leases that ended.

    ``released``: nothing of these mails was on the wire. ``resent`` and ``held``: these may have gone out.
    ``doubtful`` names the latter, each with an item index of the run that resolves them. ``quarantined`` names in the
    same way those that failed because each sender died with them.
    """

    released: int = 0
    resent: int = 0
    held: int = 0
    doubtful: Sequence[tuple[int, UUID]] = ()
    quarantined: Sequence[tuple[int, UUID]] = ()

    @classmethod
    def of(cls, events: Mapping[UUID, Event], reserve_indexes: Callable[[int], int]) -> Self:
        """Count ``events`` by reservation. ``reserve_indexes(n)`` reserves n item indexes and returns the first."""
        kinds = Counter(events.values())
        doubtful = [own for own, event in events.items() if event in _DOUBTS]
        quarantined = [own for own, event in events.items() if event is Event.QUARANTINED]
        named = [*doubtful, *quarantined]
        indexed = list(enumerate(named, reserve_indexes(len(named)))) if named else []
        return cls(
            released=kinds[Event.CRASHED] + kinds[Event.CRASHED_ALONE],
            resent=kinds[Event.NO_VERDICT_RESEND],
            held=kinds[Event.NO_VERDICT_HOLD],
            doubtful=indexed[: len(doubtful)],
            quarantined=indexed[len(doubtful) :],
        )


@dataclass(frozen=True, slots=True)
class Without:
    """Mails that are not to be claimed: those with one of ``tags``; without a tag, one of ``templates``.

    Nor those that this run has claimed before, and that are due again for ``returned_within`` seconds or less.
    """

    tags: frozenset[str] = frozenset()
    templates: frozenset[str] = frozenset()
    returned_within: float = 0.0
