"""What a lane gets from a claim: pages of claimed reservations, and the results of leases that ended."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from uuid import UUID

    from mailbatch.domain.message import Claim
    from mailbatch.domain.outcome import Verdict
    from mailbatch.domain.reservation import Mail


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
    """What became of leases that ended. ``released`` had nothing on the wire; the others may have gone out.

    ``doubtful`` names these others, each with an item index of the run that resolves them; ``quarantined`` likewise
    names those that failed because they kill whoever takes them.
    """

    released: int = 0
    resent: int = 0
    held: int = 0
    doubtful: Sequence[tuple[int, UUID]] = ()
    quarantined: Sequence[tuple[int, UUID]] = ()


@dataclass(frozen=True, slots=True)
class Without:
    """Groups of mails that are not to be claimed: those with one of ``tags``; without a tag, one of ``templates``."""

    tags: frozenset[str] = frozenset()
    templates: frozenset[str] = frozenset()
