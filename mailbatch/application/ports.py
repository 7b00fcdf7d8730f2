"""What the use cases ask of the world outside. Adapters in ``infrastructure`` answer; fakes do in the tests.

Every method of a store may raise ``StoreError``; its ``transient`` says whether asking again may help.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Generator, Iterable, Mapping, Sequence
    from datetime import datetime
    from uuid import UUID

    from mailbatch.domain.circuit import Circuit
    from mailbatch.domain.lifecycle import OnDoubt, Settlement
    from mailbatch.domain.message import Address, Claim, Message
    from mailbatch.domain.outcome import Outcome, Verdict
    from mailbatch.domain.relay_habits import RelayHabits
    from mailbatch.domain.reply_kinds import Concern
    from mailbatch.domain.reservation import Mail
    from mailbatch.domain.run import Counts, ItemError, Pause, RunOutcome, RunReport, Trigger

# --- sending -----------------------------------------------------------------------------------------------------


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

    ``left``: nothing was claimed although something is due; it may have to go alone.
    """

    claimed: Sequence[Claimed]
    cursor: Cursor | None
    left: bool = False


@dataclass(frozen=True, slots=True)
class DoubtsResolved:
    """What became of leases that ended. ``released`` had nothing on the wire; the others may have gone out.

    ``doubtful`` names these others, each with an item index of the run that resolves them; ``set_aside`` likewise
    names those that failed because they kill whoever takes them.
    """

    released: int = 0
    resent: int = 0
    held: int = 0
    doubtful: Sequence[tuple[int, UUID]] = ()
    set_aside: Sequence[tuple[int, UUID]] = ()


@dataclass(frozen=True, slots=True)
class Without:
    """Groups of mails that are not to be claimed: those with one of ``tags``; without a tag, one of ``templates``."""

    tags: frozenset[str] = frozenset()
    templates: frozenset[str] = frozenset()


class Backlog(Protocol):
    """The reservations that are due, as a lane of a run sees them."""

    def claim(self, run_id: UUID, lane: int, after: Cursor | None, limit: int, without: Without | None = None) -> Page:
        """Claim up to ``limit`` due reservations behind ``after``, durably, before any byte goes on the wire.

        Those of the groups ``without`` are passed over.
        """

    def claim_alone(self, run_id: UUID, lane: int) -> Page:
        """Claim one of those that ``claim`` passes over because senders died with them.

        Nothing of it is on the wire before ``intend`` says so.
        """

    def load(self, claimed: Sequence[Claimed]) -> list[ClaimedMail]:
        """Read the bodies of ``claimed``, in its order; what this lane no longer holds is left out."""

    def settle(self, run_id: UUID, lane: int, settlements: Sequence[Settlement]) -> set[Claim]:
        """Write ``settlements`` where the claim still holds; answer the claims for which it did."""

    def turn_over(
        self,
        run_id: UUID,
        lane: int,
        settlements: Sequence[Settlement],
        after: Cursor | None,
        limit: int,
        without: Without | None = None,
    ) -> tuple[set[Claim], Page]:
        """``settle`` and ``claim`` together: both are done, or neither."""

    def intend(self, run_id: UUID, claims: Sequence[Claim]) -> set[Claim]:
        """Note that the last bytes of ``claims`` go out now; answer those that still hold, in a run that goes on.

        Only for a strict lane, whose claims say nothing of the wire: see docs/explanation/delivery.md.
        """

    def give_up_strays(self, run_id: UUID, lane: int, held: Collection[Claim]) -> int:
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

    With ``last_look`` a mail's last bytes are held back until that has answered its claim: it is asked when everything
    before them has gone out, for all mails that are so far. A mail that it does not answer is not sent.
    """

    def send(
        self,
        messages: Iterable[Message | Nap],
        permit: Callable[[], bool],
        last_look: Callable[[Sequence[Claim]], set[Claim]] | None = None,
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


class Clock(Protocol):
    """Time that passes, whatever the wall clock says."""

    def monotonic(self) -> float:
        """Seconds since some point; goes on while the machine is suspended."""

    def sleep(self, seconds: float) -> None:
        """Wait."""


class StopToken(Protocol):
    """Says whether the run must stop, and why. Cheap enough to be asked before each mail."""

    def reason(self) -> RunOutcome | None:
        """One of ``STOPPED``, or None to go on. Once it has given a reason it keeps to it."""


class Run(Protocol):
    """A run in progress, as the work that it does sees it."""

    @property
    def id(self) -> UUID:
        """The run's id."""

    @property
    def trigger(self) -> Trigger:
        """Who started it."""

    @property
    def stop(self) -> StopToken:
        """What is asked before each item."""

    def every(self, seconds: float, deed: Callable[[], None]) -> None:
        """Do ``deed`` every so many seconds, in a thread of its own, until the run ends."""

    def count(self, counts: Counts) -> None:
        """Add to what the run has done."""

    def elsewhere(self, counts: Counts) -> None:
        """Say what other lanes of this run have done so far, in all."""

    def item_error(self, error: ItemError) -> None:
        """Collect what went wrong with an item; it never stops the others."""


# --- runs --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class OpenRun:
    """A run whose row says that it has not ended. ``silent``: seconds since its last heartbeat."""

    run_id: UUID
    started_at: datetime
    silent: float


class Runs(Protocol):
    """The rows that tell of runs: ``batch_runs`` and ``run_errors``."""

    def open(self, run_id: UUID, job: str, trigger: Trigger, bound: int) -> None:
        """Write the row of a run that begins now."""

    def beat(self, run_id: UUID, counts: Counts) -> None:
        """Say that the run lives, and how far it is."""

    def errors(self, run_id: UUID, errors: Sequence[ItemError]) -> None:
        """Append item errors, in full."""

    def close(self, job: str, report: RunReport, error: str | None) -> None:
        """Write how the run ended; an ``error`` of the run itself stands beside its items' errors."""

    def open_run(self, job: str) -> OpenRun | None:
        """The newest run of ``job`` that has not ended."""

    def close_dead(self, job: str, silent: float, remaining: Callable[[], int] = lambda: 0) -> list[UUID]:
        """Close, as failed, runs of ``job`` without a heartbeat for ``silent`` seconds.

        ``remaining`` counts what they left undone; it is asked only if there are any.
        """

    def first_errors(self, run_id: UUID, limit: int) -> list[ItemError]:
        """The first item errors of a run, of all its lanes, by index."""

    def outcome_of(self, run_id: UUID) -> RunOutcome | None:
        """How a run ended, or None."""

    def tell_to_stop(self, run_id: UUID) -> bool:
        """Tell a run that goes on to stop between two items, all its lanes; False if it has ended, or was told before.

        It ends as ``revoked``.
        """

    def told_to_stop(self, run_id: UUID) -> RunOutcome | None:
        """The reason for which somebody told the run to stop; None if nobody has."""


class Lanes(Protocol):
    """The helpers of a run. What they do is counted in the transaction that settles it: see ``Backlog.settle``."""

    def join(self, run_id: UUID, lane: int) -> bool:
        """Take part in a run that goes on; False if it has ended, was told to stop, or that lane is taken."""

    def beat(self, run_id: UUID, lane: int) -> None:
        """Say that the lane lives."""

    def leave(self, run_id: UUID, lane: int, error: str | None) -> None:
        """Say that the lane has ended, and whether something made it."""

    def living(self, run_id: UUID, silent: float) -> int:
        """How many helpers have not left, and were heard of within ``silent`` seconds."""

    def seal(self, run_id: UUID, silent: float) -> bool:
        """Let nobody join any more; False, and nothing is changed, while a helper is ``living``."""

    def counts(self, run_id: UUID) -> Counts:
        """What all helpers have settled so far."""

    def tell_to_stop(self, run_id: UUID, reason: RunOutcome) -> None:
        """Tell every lane of the run to stop; the first reason stays."""

    def must_stop(self, run_id: UUID, silent: float) -> RunOutcome | None:
        """Why a helper must stop: it was told to, the run has ended, or lane 0 was silent for ``silent`` seconds."""


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


class Switch(Protocol):
    """The pause of a job; it survives restarts."""

    def paused(self, job: str) -> Pause:
        """What is suspended now."""

    def set(self, job: str, pause: Pause) -> None:
        """Suspend, or go on."""


class Lock(Protocol):
    """Mutual exclusion with an owner token, a time to live and renewal."""

    def acquire(self) -> bool:
        """Take the lock if it is free. Raises ``LockUnavailable`` when that cannot be found out."""

    def renew(self) -> None:
        """Prolong it; from then on ``held`` tells the truth for another time to live."""

    def held(self) -> bool:
        """Whether it is surely still ours. Asks nobody."""

    def release(self) -> None:
        """Give it back if it is still ours; never raises."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """Who holds the lock of a job, as ``host:pid``, and for how many seconds (``math.inf``: a key set by hand).

    ``elsewhere`` describes the database on which the holder works, if it is another one than ours.
    """

    owner: str
    left: float
    elsewhere: str | None = None


class Driver(Protocol):
    """Knows whether anybody drives a job now: the holder of its lock."""

    @property
    def key(self) -> str:
        """Where the lock stands, for who must delete it by hand."""

    def peek(self) -> float | None:
        """Seconds for which a run on our database still holds it, None if none does. Raises ``LockUnavailable``."""

    def holder(self) -> Holder | None:
        """Who holds it, on whatever database; None if nobody does. Raises ``LockUnavailable``."""


class StatusBoard(Protocol):
    """Where a running job shows its progress; what is missing is idle."""

    def put(self, job: str, progress: Mapping[str, Any]) -> None:
        """Show ``progress``; never raises: a run does not end because nobody can watch it."""

    def get(self, job: str) -> dict[str, Any] | None:
        """What ``job`` shows, or None."""


class AddressReader(Protocol):
    """Reads RFC 5322 address lists."""

    def __call__(self, text: str) -> list[Address]:
        """The mailboxes of ``text`` in order; ``ValueError`` with one line that names the one that is none."""


class HeaderCheck(Protocol):
    """Knows the grammars of header fields."""

    def __call__(self, headers: Mapping[str, str | Sequence[str]]) -> list[str]:
        """One line for each of ``headers`` that cannot be written; their names and texts have been checked."""
