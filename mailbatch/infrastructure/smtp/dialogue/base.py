"""The mails in flight on one connection: takes messages and replies, returns bytes and outcomes; no I/O, no clock.

There is one subclass for each mode; its hooks decide what is sent before which reply. Two offsets show how far a mail
is: the bytes that were queued, and the bytes that the kernel has taken. Above 300 lines because all methods work on the
same transactions, and half of the lines explain the fields.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from mailbatch.domain.body import bytes_held
from mailbatch.domain.outcome import ContentFault, Kind, Outcome, RelayFault, Replied, Reply, Verdict
from mailbatch.domain.reply_kinds import Concern, kind_of
from mailbatch.infrastructure.smtp.dialogue.outgoing import Outgoing
from mailbatch.infrastructure.smtp.dialogue.sequence import SequenceErrors
from mailbatch.infrastructure.smtp.dialogue.transaction import END, Transaction
from mailbatch.infrastructure.smtp.envelope import Extensions, commands, permanent_refusal, recipients_taken
from mailbatch.infrastructure.smtp.errors import BodyUnreadable, HungUp, ProtocolViolation, RelayError
from mailbatch.infrastructure.smtp.replies import CLOSING, OK, MalformedReply, RawReply, ReplyReader

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mailbatch.domain.message import Message
    from mailbatch.domain.reply_kinds import ReplyKind
    from mailbatch.infrastructure.smtp.dialogue.mode import DialogueMode

_REFUSAL = 400
_LARGE = 2**20
"""Bytes. Behind a mail of this size no other mail is begun on its connection: sending it outlasts a round trip."""
_STEP = 2**20
"""Bytes of a body after which the time allowance for writing it begins anew."""
_OF_ADDRESS = "2.1."
"""How the text of a good reply to MAIL or RCPT begins at a relay with enhanced codes (RFC 3463 §3.2)."""


@dataclass(frozen=True, slots=True)
class Phase:
    """What the dialogue waits for. ``data``: the phase may take ``data_timeout``, not ``timeout``."""

    doing: str
    data: bool


class Dialogue(ABC):
    """The mails in flight on a connection whose relay announced ``features``.

    One mail is in flight until the relay has answered a mail, which shows that it understands the mode. After that up
    to ``window`` mails are in flight, as far as the mode allows. ``waits_for_intent``: the end of a body is sent only
    after ``send_end`` is called. ``may_send_ahead``: a mail's commands may be sent before the previous mail's answer.
    """

    mode: ClassVar[DialogueMode]
    _sequence_errors: ClassVar[type[SequenceErrors]] = SequenceErrors
    _resets_behind_others: ClassVar[bool] = False
    """Whether RSET goes before a mail that is sent behind others in flight."""
    _unreadable: tuple[Transaction, BodyUnreadable] | None = None
    """The mail whose body cannot be read, and why; no further mail is begun."""

    def __init__(
        self,
        relay: str,
        features: Mapping[str, str],
        window: int,
        *,
        waits_for_intent: bool = False,
        may_send_ahead: bool = True,
    ) -> None:
        self._window = window
        self._may_send_ahead = may_send_ahead
        self._most_in_flight = 1
        self.mails_begun = 0
        """Mails whose bytes were queued."""
        self.mails_answered = 0
        """Mails that the relay answered."""
        self.progress = 0
        """Rises when a phase ends and another one begins."""
        self.least_room = 1
        """Mails are begun when there is room for so many: several in one write cost less, and lose no time."""
        self.sends_ahead = False
        """Whether the next mail's commands are sent with the end of this one."""
        self.sequence_error: str | None = None
        """A reply "out of sequence" to a mail that was not sent ahead; no further mail is begun."""
        self.not_taken: list[Message] = []
        """Mails that the relay certainly did not take, because of ``sequence_error`` or ``closing``."""
        self.closing: RelayError | None = None
        """The reply that ends the connection; no further mail is begun."""
        self.limit: ReplyKind | None = None
        """The kind of that reply if it names a limit on connections or on mails on one; no mail is to blame for it."""
        self.limited_mail: Message | None = None
        """The mail that got that reply."""
        self.refused_early: list[tuple[Message, Reply]] = []
        """Mails that seem to be refused because they were sent ahead of the previous answer, each with its reply."""
        self.idle_at_loss = False
        """Whether no mail was in flight when the connection broke."""
        self.ahead_at_loss = False
        """Whether, when the connection broke, a mail was sent ahead and the relay had accepted no such mail yet."""
        self.mode_failure: str | None = None
        """Why the relay certainly does not handle the mode correctly, if the lost connection showed it."""
        self.ahead_accepted = False
        """Whether the relay accepted MAIL of a mail that was sent ahead, before the previous mail was answered."""
        self.out = Outgoing()
        self._relay = relay
        self._extensions = Extensions.of(features)
        self._waits_for_intent = waits_for_intent
        self._replies = ReplyReader()
        self._transactions: deque[Transaction] = deque()
        self._needs_reset = False
        """Whether the last transaction may still be open."""
        self._takes_groups = False
        """Whether the good replies to a mail may be taken in one go."""
        self._sequence = self._sequence_errors()
        self._may_begin = True
        self._has_large = False
        self._rcpt_text = ""
        self._rcpt_text_differs: bool | None = None
        """Whether good replies to RCPT begin with "2.1.", and those to the end of a body do not. None: not known."""
        self._outcomes: list[tuple[Message, Outcome]] = []

    # --- what goes out -------------------------------------------------------------------------------------------

    @property
    def idle(self) -> bool:
        """Whether no mail is in flight."""
        return not self._transactions

    @property
    def in_flight(self) -> int:
        """The number of mails in flight."""
        return len(self._transactions)

    @property
    def is_ending(self) -> bool:
        """Whether nothing more is sent, and replies are only read until the relay hangs up."""
        return self.closing is not None

    @property
    def bytes_in_flight(self) -> int:
        """The bytes in memory of the mails in flight."""
        return sum(bytes_held(one.message.data) for one in self._transactions)

    @property
    def room(self) -> int:
        """How many more mails may begin now."""
        if not self._may_begin:
            return 0
        if self._most_in_flight != 1 or not self._transactions:
            return self._most_in_flight - len(self._transactions)
        return int(self.sends_ahead and len(self._transactions) == 1 and self._transactions[0].end is not None)

    def begin(self, message: Message) -> None:
        """Queue the first bytes of ``message``. If this relay can never take it, settle it at once."""
        if (reply := permanent_refusal(message, self._extensions)) is not None:
            verdicts = dict.fromkeys(message.envelope.recipients, Verdict(Kind.REJECTED, reply))
            self._outcomes.append((message, Replied(message.claim, self._relay, verdicts)))
            return
        if not self._transactions:
            self.progress += 1
        recipients = recipients_taken(message, self._extensions)
        lines = commands(message, self._extensions, recipients)
        if has_reset := self._needs_reset or (self._resets_behind_others and bool(self._transactions)):
            lines.insert(0, b"RSET\r\n")
        self._needs_reset = False
        if len(message.data) >= _LARGE:
            self._has_large, self._may_begin = True, False
        one = Transaction(message, lines, has_reset, self.out.queued, recipients, is_ahead=bool(self._transactions))
        if len(recipients) < len(message.envelope.recipients):
            one.refused = put_off_beyond(message, recipients)
        self.mails_begun += 1
        self._transactions.append(one)
        self._queue_mail(one)

    def bytes_sent(self, size: int) -> None:
        """Note that the kernel took ``size`` bytes of the chunk that ``out`` returned."""
        out = self.out
        out.bytes_sent(size)
        if not out.pending or out.sent // _STEP > (out.sent - size) // _STEP:
            self.progress += 1

    def body_unreadable(self, error: BodyUnreadable) -> list[Message]:
        """Send nothing more, because the body of the first mail that was not sent to its end cannot be read.

        The relay still answers the mails before that mail. Return the mails behind it, of which no byte was sent.

        Raises:
            BodyUnreadable: no mail before that mail waits for an answer.
        """
        flight = self._transactions
        whole = sum(one.end is not None and one.end <= self.out.sent for one in flight)
        behind = [flight.pop().message for _ in range(len(flight) - whole - 1)]
        self.mails_begun -= len(behind)
        self._unreadable, self._may_begin = (flight[whole], error), False
        self.out.clear()
        self._end_if_unreadable()
        return behind[::-1]

    def _end_if_unreadable(self) -> None:
        if self._unreadable is not None and self._transactions and self._transactions[0] is self._unreadable[0]:
            raise self._unreadable[1]

    @property
    def max_mails(self) -> int:
        """How many mails the relay has announced to take on this connection (RFC 9422); 0: it has not."""
        return self._extensions.max_mails

    @property
    def awaiting_intent(self) -> Message | None:
        """The mail whose body was sent except for its end, while that end is held back; else None."""
        return None

    def send_end(self) -> None:  # noqa: B027 (a hook)
        """Queue the end of the body that was held back; from then on the relay may take the mail."""

    def allow_ahead(self, *, allowed: bool) -> None:
        """Allow or forbid to send a mail's commands before the previous mail was answered."""
        self._may_send_ahead = allowed
        if not allowed:
            self._most_in_flight, self.least_room, self.sends_ahead = 1, 1, False
        else:
            self.ahead_accepted = True
            if self.mails_answered:
                self._trust()

    def take_back(self) -> list[Message]:
        """Withdraw the mails of which no byte was sent; return them in their order."""
        messages: deque[Message] = deque()
        while self._transactions and (one := self._transactions[-1]).start >= self.out.sent:
            self._transactions.pop()
            messages.appendleft(one.message)
            self.out.cut(one.start)
            self._needs_reset = self._needs_reset or (one.has_reset and not self._transactions)
            self.mails_begun -= 1
        self._decide_whether_it_may_begin()
        return list(messages)

    def _decide_whether_it_may_begin(self) -> None:
        """Begin nothing behind a large mail, because it takes long, nor on a connection that is about to end."""
        self._has_large = self._has_large and any(len(one.message.data) >= _LARGE for one in self._transactions)
        self._may_begin = (
            self.sequence_error is None and not self.is_ending and not self._has_large and self._unreadable is None
        )

    # --- what comes in -------------------------------------------------------------------------------------------

    def phase(self) -> Phase | None:
        """Return what the dialogue waits for, or None."""
        if self.out.pending:
            written = any(one.end is not None and one.end > self.out.sent for one in self._transactions)
            if written:
                return Phase("the body", data=True)
        if not self._transactions:
            return None
        one = self._transactions[0]
        doing = one.awaited()
        # A relay may keep back its replies to a group of commands until it has processed all of them (RFC 2920 §3.2).
        # So with BDAT the replies to MAIL and RCPT may wait for a filter that checks the body.
        return Phase(doing, data=doing == END or one.end is not None)

    def receive_data(self, data: bytes) -> None:
        """Take in what was received.

        Raises:
            RelayError: the connection is of no more use; ``connection_lost`` decides the mails in flight.
        """
        replies, flight = self._replies, self._transactions
        replies.feed(data)
        try:
            while True:
                if flight and self._take_good(flight[0]):
                    continue
                if (reply := replies.read()) is None:
                    break
                self._take(reply)
        except MalformedReply as error:
            awaited = flight[0].awaited() if flight else "nothing"
            raise ProtocolViolation(f"{error} (answer to {awaited})") from error
        if self._unreadable is not None:
            self._end_if_unreadable()
        if replies and not self._may_answer():
            raise self._unexpected("")

    def collect_outcomes(self) -> list[tuple[Message, Outcome]]:
        """Return the outcomes since the last call."""
        done, self._outcomes = self._outcomes, []
        return done

    def _may_answer(self) -> bool:
        """Whether the relay was sent something that it has not answered."""
        if not self._transactions:
            return False
        one = self._transactions[0]
        if one.received >= one.expected or self.out.sent < one.earliest_reply:
            return False
        # The last reply must not come before the last byte was sent.
        return one.end is None or one.received < one.expected - 1 or self.out.sent >= one.end

    def _unexpected(self, text: str) -> RelayError:
        if self._transactions and (self._transactions[0].body_queued or self._transactions[0].end is not None):
            return RelayError(f"the relay answered before the end of the body{text}")
        return RelayError(f"the relay said more than it was asked{text}")

    def _take(self, reply: RawReply) -> None:
        if not self._may_answer():
            raise self._unexpected(f": {reply.decoded()}")
        one = self._transactions[0]
        position = one.received - one.has_reset
        one.received += 1
        self.progress += 1
        if reply.code >= _REFUSAL and self.closing is None:
            self._check_for_closing(one, reply)
        if position < 0:
            self._reset_answered(one, reply)
        elif position == 0:
            self._mail_answered(one, reply)
        elif position <= len(one.recipients):
            self._rcpt_answered(one, one.recipients[position - 1], reply)
        else:
            self._content_answered(one, reply)

    def _check_for_closing(self, one: Transaction, reply: RawReply) -> None:
        """Treat 421, or a limit on connections or on mails on one, as the end of the connection and not as a verdict.

        RFC 5321 §3.8: a relay that says 421 closes the connection. With BDAT other mails may be in flight, still
        without a reply. Some relays (Exim) stay and refuse them one by one, so their replies are still read.
        """
        said = reply.decoded()
        kind = kind_of(said)
        is_limit = kind.concern is Concern.CONNECTION
        if reply.code != CLOSING and not is_limit:
            return
        one.heard_closing, self._may_begin = True, False
        self.closing = RelayError(f"the relay is closing (at {one.awaited(1)}): {said}", reply=said)
        if is_limit:
            self.limit, self.limited_mail = kind, one.message
        if not self._hears_out():
            raise self.closing

    def _reset_answered(self, one: Transaction, reply: RawReply) -> None:
        if reply.code != OK and self.closing is None:
            if not self._sequence.in_reset(one, reply):
                raise RelayError(f"RSET was refused: {reply.decoded()}")
            one.out_of_sequence = True
        self._proceed(one)

    def _mail_answered(self, one: Transaction, reply: RawReply) -> None:
        if reply.code // 100 != OK // 100:
            one.refused = dict.fromkeys(one.message.envelope.recipients, refused_by("MAIL", reply))
            one.sender_refused = True
            one.out_of_sequence |= self._sequence.in_mail(one, reply, ahead_accepted=self.ahead_accepted)
        elif one.is_ahead:
            self.ahead_accepted = True
        one.mail_answered = not one.heard_closing
        self._proceed(one)

    def _rcpt_answered(self, one: Transaction, recipient: str, reply: RawReply) -> None:
        if reply.code // 100 != OK // 100 and recipient not in one.refused:
            one.refused[recipient] = refused_by("RCPT", reply)
            one.out_of_sequence |= self._sequence.in_rcpt(reply)
        if self._rcpt_text_differs is None:
            self._rcpt_text = reply.decoded().text
        self._proceed(one)

    def _refuse_out_of_sequence(self, one: Transaction, verdict: Verdict) -> None:
        """Note a refusal of DATA or BDAT that says nothing of the mail."""
        one.out_of_sequence = True
        one.refused |= {to: verdict for to in one.message.envelope.recipients if to not in one.refused}

    # --- how a mail ends -----------------------------------------------------------------------------------------

    def _accept(self, one: Transaction, reply: Reply) -> None:
        if reply.text.startswith(_OF_ADDRESS):
            if self._rcpt_text_differs:
                # The relay sent one reply too many before. So this is its reply to RCPT, not to the end of the body.
                raise ProtocolViolation(f"the answer to {END} is one to an address: {reply}")
        elif self._rcpt_text_differs is None:
            self._rcpt_text_differs = self._rcpt_text.startswith(_OF_ADDRESS)
        self._transactions.popleft()
        if self._has_large:
            self._decide_whether_it_may_begin()
        self._answer(one, one.verdicts(Verdict(Kind.ACCEPTED, reply)))
        if self.closing is not None:
            self._close_if_all_are_answered()

    def _finish(self, one: Transaction, verdict: Verdict | None = None) -> None:
        """End a mail that was refused. ``verdict``: the one for recipients that no earlier reply refused, if any."""
        self._transactions.popleft()
        if self._has_large:
            self._decide_whether_it_may_begin()
        if self.closing is not None:
            self._give_back(one, self.closing)
        elif one.out_of_sequence and one.all_refused:
            self._send_again(one)
        else:
            self._answer(one, one.verdicts(verdict) if verdict is not None else one.refused)
        self._close_if_all_are_answered()

    def _close_if_all_are_answered(self) -> None:
        if self.closing is not None and not self._transactions:
            raise self.closing

    def _answer(self, one: Transaction, verdicts: Mapping[str, Verdict]) -> None:
        self.mails_answered += 1
        if self.mails_answered == 1:
            # The relay has answered a mail. This shows that it understands the mode.
            self._takes_groups = True
            if self._may_send_ahead:
                self._trust()
        self._outcomes.append((one.message, Replied(one.message.claim, self._relay, verdicts)))

    def _send_again(self, one: Transaction) -> None:
        """Give back a mail that the relay neither took nor judged, so that it is sent again."""
        said = next(iter(one.refused.values())).reply
        if one.is_ahead:
            self.refused_early.append((one.message, said))
            self.allow_ahead(allowed=False)
        else:
            self.sequence_error, self._may_begin = str(said), False
            self.not_taken.append(one.message)

    def _give_back(self, one: Transaction, error: RelayError) -> None:
        """Give back a mail that the relay did not take, because it is closing."""
        if one.heard_closing and one.mail_answered and self.limit is None:
            self._settle(one, self._fault(one.message, error, in_dialogue=True))
        else:
            self.not_taken.append(one.message)

    # --- when the connection breaks ------------------------------------------------------------------------------

    def connection_lost(self, error: RelayError) -> list[Message]:
        """Decide the mails in flight, because the connection is over; return those that the relay cannot have taken."""
        self.idle_at_loss = not self._transactions
        self.ahead_at_loss = not self.ahead_accepted and any(one.is_ahead for one in self._transactions)
        untouched, self.not_taken = self.not_taken, []
        was_heard_out = self.is_ending and (isinstance(error, HungUp) or error is self.closing)
        for one in self._transactions:
            if self._unreadable is not None and one is self._unreadable[0]:
                self._settle(one, ContentFault(one.message.claim, self._relay, str(self._unreadable[1])))
            elif was_heard_out or one.heard_closing:
                # The relay closed the connection, and accepted none of these.
                self._give_back(one, self.closing or error)
            elif one.all_refused and one.out_of_sequence:
                self._send_again(one)
            elif one.all_refused:
                self._settle(one, Replied(one.message.claim, self._relay, one.refused))
            elif one.end is not None and self.out.sent >= one.end:
                verdict = Verdict(Kind.NO_VERDICT, Reply(0, str(error)))
                self._settle(one, Replied(one.message.claim, self._relay, one.verdicts(verdict)))
            elif one.mail_answered:
                self._settle(one, self._fault(one.message, error, in_dialogue=True))
            else:
                untouched.append(one.message)
        untouched += self.not_taken
        self.not_taken = []
        self._transactions.clear()
        self.out.clear()
        return untouched

    def blame(self, message: Message, error: RelayError) -> None:
        """Make the relay's fault the outcome of ``message``, which cannot have caused it."""
        self._outcomes.append((message, self._fault(message, error)))

    def _fault(self, message: Message, error: RelayError, *, in_dialogue: bool = False) -> RelayFault:
        return RelayFault(message.claim, self._relay, str(error), error.hopeless, in_dialogue, error.reply)

    def _settle(self, one: Transaction, outcome: Outcome) -> None:
        self._outcomes.append((one.message, outcome))

    # --- hooks: how a mode differs -------------------------------------------------------------------------------

    @abstractmethod
    def _queue_mail(self, one: Transaction) -> None:
        """Queue the first bytes of a mail."""

    def _proceed(self, one: Transaction) -> None:  # noqa: B027
        """Do what follows the reply to RSET, MAIL or RCPT."""

    @abstractmethod
    def _content_answered(self, one: Transaction, reply: RawReply) -> None:
        """Take the reply to DATA, BDAT or the end of the body."""

    @abstractmethod
    def _take_good(self, one: Transaction) -> bool:
        """Take all replies of a mail at once, if all have come and are good. Return whether they were taken.

        This makes the usual case fast.
        """

    def _trust(self) -> None:  # noqa: B027
        """Use the mode to the full: the relay has answered a mail."""

    def _hears_out(self) -> bool:
        """Whether replies to other mails may come after the relay said that it is closing."""
        return False


def put_off_beyond(message: Message, taken: Sequence[str]) -> dict[str, Verdict]:
    """Return the verdicts of the recipients of ``message`` that are not ``taken``: they go in another mail, soon."""
    said = f"4.5.3 the relay takes {len(taken)} recipients in one mail (RFC 9422); these are for the next one"
    return dict.fromkeys(message.envelope.recipients[len(taken) :], Verdict(Kind.DEFERRED, Reply(452, said)))


def refused_by(doing: str, reply: RawReply) -> Verdict:
    """Return the verdict for a refusal: deferred after 4xx, rejected after 5xx.

    Raises:
        ProtocolViolation: the reply is neither 4xx nor 5xx.
    """
    match reply.code // 100:
        case 4:
            return Verdict(Kind.DEFERRED, reply.decoded())
        case 5:
            return Verdict(Kind.REJECTED, reply.decoded())
        case _:
            raise ProtocolViolation(f"the answer to {doing} neither accepts nor refuses: {reply.decoded()}")
