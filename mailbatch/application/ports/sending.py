"""Ports of a lane: claims and settlements, composing, the relay, and what is known of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Generator, Iterable, Mapping, Sequence
    from uuid import UUID

    from mailbatch.domain.circuit import Circuit
    from mailbatch.domain.claimed import Claimed, ClaimedMail, Cursor, DoubtsResolved, Page, Without
    from mailbatch.domain.lifecycle import OnDoubt, Settlement
    from mailbatch.domain.message import Claim, Message
    from mailbatch.domain.outcome import Outcome
    from mailbatch.domain.relay_habits import RelayHabits
    from mailbatch.domain.reply_kinds import Concern


class Backlog(Protocol):
    """The reservations that are due, as a lane of a run sees them."""

    def claim(self, run_id: UUID, lane: int, after: Cursor | None, limit: int, without: Without | None = None) -> Page:
        """Claim up to ``limit`` due reservations behind ``after``, durably, before any byte goes on the wire.

        Those of the groups ``without`` are passed over.
        """

    def claim_isolated(self, run_id: UUID, lane: int) -> Page:
        """Claim one of those that ``claim`` passes over because senders died with them.

        Nothing of it is on the wire before ``commit_intent`` says so.
        """

    def load(self, claimed: Sequence[Claimed]) -> list[ClaimedMail]:
        """Read the bodies of ``claimed``, in its order; what this lane no longer holds is left out."""

    def settle(self, run_id: UUID, lane: int, settlements: Sequence[Settlement]) -> set[Claim]:
        """Write ``settlements`` where the claim still holds; answer the claims for which it did."""

    def settle_and_claim(
        self,
        run_id: UUID,
        lane: int,
        settlements: Sequence[Settlement],
        after: Cursor | None,
        limit: int,
        without: Without | None = None,
    ) -> tuple[set[Claim], Page]:
        """``settle`` and ``claim`` together: both are done, or neither."""

    def commit_intent(self, run_id: UUID, claims: Sequence[Claim]) -> set[Claim]:
        """Note that the last bytes of ``claims`` go out now; answer those that still hold, in a run that goes on.

        Only for a strict lane, whose claims say nothing of the wire: see docs/explanation/delivery.md.
        """

    def release_orphans(self, run_id: UUID, lane: int, held: Collection[Claim]) -> int:
        """Release claims of this lane that are none of ``held``: those whose commit was done but never answered.

        Nothing of them was on the wire, for nobody knew of them. Answers how many there were.
        """

    def renew(self, run_id: UUID, lane: int) -> None:
        """Give the unsettled reservations of this lane a new lease."""

    def expire(self, limit: int) -> int:
        """Mark up to ``limit`` reservations whose time has passed as expired; answer how many there were."""

    def resolve_doubts(self, run_id: UUID, on_doubt: OnDoubt, limit: int) -> DoubtsResolved:
        """Take back up to ``limit`` reservations whose lease has ended, by the policy ``on_doubt``.

        Asked by lane 0 of a run: what it holds itself it will settle, whatever the clocks say.
        """

    def remaining(self) -> int:
        """How many reservations are due and unsent."""


@dataclass(frozen=True, slots=True)
class Nap:
    """Stands in a stream of messages where nothing is to go for so many ``seconds``; what is on the wire goes on."""

    seconds: float


class Composer(Protocol):
    """Makes a message of a mail."""

    def __call__(self, claimed: ClaimedMail) -> Message:
        """Raise ``CannotCompose`` with every reason if it cannot be made."""


class Watchdog(Protocol):
    """Ends this process if one operation holds all of it, and remembers the mail that was being composed.

    ``renew_every`` in seconds: ``renew`` is called so often, in a thread of its own, from ``begin`` to ``end``.
    """

    renew_every: float

    def begin(self) -> None:
        """Watch the thread that calls this."""

    def renew(self) -> None:
        """The threads of this process come to their turns."""

    def end(self) -> None:
        """Watch no more."""

    def composing(self, claim: Claim) -> None:
        """The mail of this claim is composed from now on."""

    def composed(self) -> None:
        """None is composed any more."""

    def condemned(self, claim: Claim) -> str | None:
        """Why the mail of this claim must not be composed: to do so ended the process that held its last claim."""


class Transport(Protocol):
    """A way to a relay: a stream of messages in, a stream of outcomes out, in any order, one for each message.

    It takes the next message only when it can begin to send it (or to prepare it) at once, so that the stream is
    pulled no faster than the wire goes; after a ``Nap`` it is pulled when that is over. Before the first byte of each
    mail it asks ``permit``; if that answers no, the outcome is ``NotSent``. A faulty relay is an outcome of the mails
    that it touched; nothing is raised for it. While no outcome comes it may give None, about every second, so that the
    caller can see to what it has so far.

    With ``commit_intent`` a mail's last bytes are held back until that callback has returned its claim. The callback
    is called when everything before them has gone out, with all mails that are so far. A mail that it does not return
    is not sent.
    """

    def send(
        self,
        messages: Iterable[Message | Nap],
        permit: Callable[[], bool],
        commit_intent: Callable[[Sequence[Claim]], set[Claim]] | None = None,
    ) -> Generator[Outcome | None, None, None]:
        """Send ``messages``; end when they end and the last outcome is out. Closing the iterator closes connections."""


class Slots(Protocol):
    """Leave to have connections to the relay: no more of them are open at once, over all lanes and hosts, than agreed.

    Nothing is raised: while nobody can be asked, what is held stays held and nothing is granted; who never got an
    answer keeps to what was agreed by itself. May be called from several threads.
    """

    def take(self) -> bool:
        """Ask for one more; no if all are taken. Costs a request: wait a moment before asking again."""

    def give_back(self) -> None:
        """Give one back, because its connection has closed; nothing if none is held."""

    def renew(self) -> None:
        """Prolong those that are held. Whoever does not, within the time to live, loses them to others."""

    @property
    def renew_every(self) -> float:
        """Seconds within which ``renew`` is to be called: a third of the time to live."""


class Circuits(Protocol):
    """What is known of relays that failed; one that nothing is known of is well. Times are by the store's clock."""

    def look(self, relay: str) -> Circuit:
        """The relay's circuit."""

    def open(
        self,
        relay: str,
        reason: str,
        seconds: float,
        concern: Concern | None = None,
        suspects: Mapping[UUID, int] | None = None,
    ) -> Circuit:
        """Leave it alone for ``seconds``, one failure more; what another lane has opened meanwhile stays as it is."""

    def half_open(self, relay: str) -> None:
        """Say that a probe is on its way."""

    def close(self, relay: str) -> None:
        """It is well again: forget all failures, but not the suspects."""


class RelayMemory(Protocol):
    """What was learned of the way in which one relay is to be spoken to, kept over processes, for a day.

    After that it is forgotten and tried anew: a relay that was mended is fast again, and trying costs a mail's commands
    or one round trip, never a verdict. Nothing is raised: a memory that cannot be asked is no reason not to send.
    """

    def recall(self) -> RelayHabits | None:
        """What is known, the defaults if nothing is; None if that cannot be found out now."""

    def note(self, habits: RelayHabits) -> bool:
        """Keep it in place of what was known; return whether that was done."""
