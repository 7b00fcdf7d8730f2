"""Ports of sending: the backlog, composing, the transport, and what is known of the relay."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from mailbatch.domain.content import Content

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Generator, Hashable, Iterable, Mapping, Sequence
    from contextlib import AbstractContextManager
    from uuid import UUID

    from mailbatch.domain.body import Body
    from mailbatch.domain.circuit import Circuit
    from mailbatch.domain.claimed import Claimed, ClaimedMail, Cursor, DoubtsResolved, Page, Without
    from mailbatch.domain.letter import Letter, Rendered
    from mailbatch.domain.lifecycle import OnDoubt
    from mailbatch.domain.message import Claim, Message
    from mailbatch.domain.outcome import Outcome
    from mailbatch.domain.relay_profile import RelayProfile
    from mailbatch.domain.reply_kinds import Concern
    from mailbatch.domain.reservation import Mail
    from mailbatch.domain.settlement import Settlement
    from mailbatch.domain.written_message import Additions, WrittenMessage


class Backlog(Protocol):
    """The reservations that are due, for one lane of a run. Every method may raise ``StoreError``."""

    def claim(self, run_id: UUID, lane: int, after: Cursor | None, limit: int, without: Without | None = None) -> Page:
        """Claim up to ``limit`` due reservations behind ``after``, except those that ``without`` names.

        The claim is committed before any byte of these mails goes on the wire.
        """

    def claim_isolated(self, run_id: UUID, lane: int) -> Page:
        """Claim one of the reservations that ``claim`` passes over because senders died with them.

        It counts as on the wire only from ``commit_intent`` on.
        """

    def load(self, claimed: Sequence[Claimed]) -> list[ClaimedMail]:
        """Return the mails of ``claimed``, in the same order, without those that this lane no longer holds."""

    def settle(self, run_id: UUID, lane: int, settlements: Sequence[Settlement]) -> set[Claim]:
        """Write ``settlements`` where the claim still holds. Return the claims for which it did."""

    def settle_and_claim(
        self,
        run_id: UUID,
        lane: int,
        settlements: Sequence[Settlement],
        after: Cursor | None,
        limit: int,
        without: Without | None = None,
    ) -> tuple[set[Claim], Page]:
        """Settle and claim in one transaction: both are committed, or neither."""

    def commit_intent(self, run_id: UUID, claims: Sequence[Claim]) -> set[Claim]:
        """Commit that the last bytes of ``claims`` go out now. Return the claims that still hold.

        None holds in a run that was told to stop. Only a strict lane and isolated mails need this, because their
        claims do not count as on the wire: see docs/explanation/delivery.md.
        """

    def release_orphans(self, run_id: UUID, lane: int, held: Collection[Claim]) -> int:
        """Release the claims of this lane that are not among ``held``. Return how many there were.

        They were committed, but their answer never reached the lane. So nothing of them was on the wire.
        """

    def renew(self, run_id: UUID, lane: int) -> None:
        """Give the claims of this lane a new lease, unless theirs has ended."""

    def expire(self, limit: int) -> int:
        """Mark up to ``limit`` reservations whose time has passed as expired. Return how many there were."""

    def resolve_doubts(self, run_id: UUID, on_doubt: OnDoubt, limit: int) -> DoubtsResolved:
        """Resolve up to ``limit`` reservations whose lease has ended, by the policy ``on_doubt``.

        Lane 0 of a run calls this. Its own claims are left out, whatever the clocks say: it settles them itself.
        """

    def has_urgent(self, priority: int) -> bool:
        """Return whether a reservation of at least ``priority`` is due that was never claimed, and has not expired.

        It is cheap enough to be called every second. Of each priority the mails that became due last are looked at.
        """

    def remaining(self) -> int:
        """Return how many reservations are due and unsent."""


@dataclass(frozen=True, slots=True)
class Nap:
    """A pause in a stream of messages: no message follows for ``seconds``. What is on the wire goes on."""

    seconds: float


class Composer(Protocol):
    """Composes a mail."""

    def __call__(self, claimed: ClaimedMail) -> Message:
        """Return the message. Raise ``CannotCompose`` with every reason if the mail cannot be composed."""


class Renderer(Protocol):
    """Runs the templates of a mail."""

    def __call__(self, mail: Mail) -> Rendered:
        """Return the parts. Raise ``CannotCompose`` with a line for each part that fails, which names part and line."""


class Folder(Protocol):
    """Files below one folder, and nothing outside of it."""

    def open(self, path: str) -> AbstractContextManager[OpenFile]:
        """Open a regular file for the time of the block. Raise ``CannotCompose``, or ``ContentUnavailable``."""


class OpenFile(Content, Protocol):
    """An open file. ``version`` is another one for each file, and after each change of it."""

    @property
    def version(self) -> Hashable:
        """What identifies the file and its content."""


class LetterWriter(Protocol):
    """Writes a letter as RFC 5322 bytes."""

    def __call__(self, letter: Letter) -> bytes | Body:
        """Return the bytes: CRLF line ends, no line over 998 bytes, not dot-stuffed.

        With a file that is read in pieces it is a ``Body``.

        Bytes above 127 occur only where no encoding can express them: in addresses.
        """


class MessageWriter(Protocol):
    """Makes a finished message (RFC 5322) ready for the wire."""

    def __call__(self, message: bytes | Content, additions: Additions) -> WrittenMessage:
        """Return it with CRLF line ends, without Bcc, and with no line over 998 bytes. It is not dot-stuffed.

        Bytes above 127 occur only where a signature covers them, or no encoding can express them. Raise
        ``CannotCompose`` with one line if it cannot be sent. A ``Content`` is read in pieces and never held.
        """


class Watchdog(Protocol):
    """Ends this process if one operation blocks all its threads, and remembers the mail that was being composed.

    Call ``renew`` every ``renew_every`` seconds, in a thread of its own, from ``begin`` to ``end``.
    """

    renew_every: float

    def begin(self) -> None:
        """Watch the thread that calls this."""

    def renew(self) -> None:
        """Note that the threads of this process still run."""

    def end(self) -> None:
        """Stop watching."""

    def composing(self, claim: Claim) -> None:
        """Note that the mail of this claim is being composed from now on."""

    def composed(self) -> None:
        """Note that no mail is being composed any more."""

    def condemned(self, claim: Claim) -> str | None:
        """Return why the mail of this claim must not be composed, or None if it may.

        It must not if composing it ended the process that held its last claim.
        """


class Transport(Protocol):
    """Sends a stream of messages to a relay and returns a stream of outcomes, one for each message, in any order.

    It pulls the next message only when it can begin to send or prepare it at once. So the stream is pulled no faster
    than the wire goes. After a ``Nap`` it pulls again when the nap is over. If pulling raises, the outcomes of the
    messages in flight come first, then the error.

    It calls ``permit`` before the first byte of each mail. If that returns False, the outcome is ``NotSent``. A relay
    that fails is an outcome of the mails that it touched; nothing is raised for it. While no outcome comes, the
    transport may yield None about every second, so that the caller can see to what it has so far.

    With ``commit_intent`` it holds the last bytes of a mail back until this callback has returned the mail's claim. It
    calls the callback when everything before them has gone out, with all mails that are so far. A mail that the
    callback does not return is not sent.

    So the intent is committed in the middle of the transmission: ``SendDue`` owns that step, the transport calls it.
    """

    @property
    def capacity(self) -> int:
        """How many mails can be in flight now, if this changes while it sends; else 0."""

    def send(
        self,
        messages: Iterable[Message | Nap],
        permit: Callable[[], bool],
        commit_intent: Callable[[Sequence[Claim]], set[Claim]] | None = None,
    ) -> Generator[Outcome | None, None, None]:
        """Send ``messages``. End when they have ended and the last outcome is out. Closing closes all connections."""


@dataclass(frozen=True, slots=True)
class RelayStream:
    """The messages for one of several relays. ``permit`` is asked before the first byte of each."""

    relay: str
    messages: Iterable[Message | Nap]
    permit: Callable[[], bool]


class Transports(Protocol):
    """Sends several streams, each to its own relay, and returns one stream of all outcomes.

    Each stream is treated as ``Transport`` treats its one stream. None waits for another.
    """

    def send(
        self, streams: Sequence[RelayStream], commit_intent: Callable[[Sequence[Claim]], set[Claim]] | None = None
    ) -> Generator[Outcome | None, None, None]:
        """Send them. End when all have ended and the last outcome is out. Closing closes all connections."""


class Slots(Protocol):
    """Limits how many connections to the relay are open at once, over all lanes and hosts. One slot for each.

    Nothing is raised. While the store is away, slots that are held stay held, and none is granted. A process that
    never reached the store keeps to the limit by itself. The methods may be called from several threads.
    """

    def take(self) -> bool:
        """Take a slot. Return False if all are taken. It costs a request, so wait a moment before the next call."""

    def give_back(self) -> None:
        """Give a slot back, because its connection has closed. Do nothing if none is held."""

    def renew(self) -> None:
        """Prolong the slots that are held. Without this they go to others after the time to live."""

    @property
    def renew_every(self) -> float:
        """Call ``renew`` every so many seconds: a third of the time to live."""


class Circuits(Protocol):
    """The circuits of relays, by the store's clock. The circuit of an unknown relay is closed."""

    def look(self, relay: str) -> Circuit:
        """Return the relay's circuit."""

    def open(
        self,
        relay: str,
        reason: str,
        seconds: float,
        concern: Concern | None = None,
        suspects: Mapping[UUID, int] | None = None,
    ) -> Circuit:
        """Open the circuit for ``seconds``, with one failure more. If another lane has opened it, nothing changes."""

    def half_open(self, relay: str) -> None:
        """Note that a probe is on its way."""

    def close(self, relay: str) -> None:
        """Close the circuit: forget all failures, but not the suspects."""


class RelayMemory(Protocol):
    """Remembers for a day, over all processes, what was learned of one relay.

    After a day it is learned anew, so that a relay that was mended is fast again. That costs the commands of one mail
    or one round trip, never a verdict. Nothing is raised, because sending goes on without this memory.
    """

    def recall(self) -> RelayProfile | None:
        """Return what is known, the defaults if nothing is, or None if the memory cannot be read now."""

    def note(self, profile: RelayProfile) -> bool:
        """Replace what is known. Return whether that was done."""
