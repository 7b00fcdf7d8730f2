"""The mails in flight on one session: messages and replies in, bytes and outcomes out; without I/O and without a clock.

One machine speaks three dialogues (see ``protocol``); they differ in what may be written before which reply. What it
knows of each mail rests on two numbers: how many bytes were queued for the wire, and how many the kernel has taken.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mailbatch.domain.outcome import Kind, Outcome, RelayFault, Replied, Reply, Verdict
from mailbatch.domain.reply_kinds import Concern, kind_of
from mailbatch.infrastructure.smtp.capabilities import DialogueMode
from mailbatch.infrastructure.smtp.connection import CLOSING, OK, START_BODY, HungUp
from mailbatch.infrastructure.smtp.envelope import Offer, commands, permanent_refusal, stuffed
from mailbatch.infrastructure.smtp.outgoing import Outgoing
from mailbatch.infrastructure.smtp.relay import RelayError
from mailbatch.infrastructure.smtp.replies import GarbledReply, RawReply, ReplyReader, speaks_of_order
from mailbatch.infrastructure.smtp.transaction import END, Transaction

if TYPE_CHECKING:
    from collections.abc import Container, Mapping

    from mailbatch.domain.message import Message
    from mailbatch.domain.reply_kinds import ReplyKind

_OUT_OF_ORDER = range(500, 505)
"""What a relay says that lost the thread (RFC 5321 §4.2.3)."""
_NEVER_OF_RECIPIENT = (500, 502, 503)
"""Not 501, a malformed address; nor 504, a domain without a dot (Postfix): these are meant for the recipient."""
_ANY_REFUSAL = range(500, 600)
_BAD_SEQUENCE = 503
_REFUSAL = 400
_FAT = 2**20
"""Bytes of a mail behind which no other is begun on its connection: its own way takes longer than a round trip."""
_OF_ADDRESS = "2.1."
"""How the text of a good answer to MAIL or RCPT begins at a relay with enhanced codes (RFC 3463 §3.2)."""


class ProtocolViolation(RelayError):
    """What came can only be explained by a relay that does not master what it offers."""


class Unswallowed(ProtocolViolation):
    """The relay refused a chunk (RFC 3030) and read its bytes as commands."""


@dataclass(frozen=True, slots=True)
class Phase:
    """What is being waited for; ``data`` says that the longer time allowance is its."""

    doing: str
    data: bool


class Dialogue:
    """The mails in flight on a session whose relay announced ``features``.

    Up to ``window`` mails are in flight; one until the first was answered, which shows that the relay understands.
    ``held_back``: the end of a body waits until ``release`` is called.
    """

    def __init__(
        self,
        relay: str,
        features: Mapping[str, str],
        protocol: DialogueMode,
        window: int,
        *,
        held_back: bool = False,
        may_look_ahead: bool = True,
    ) -> None:
        self.protocol = protocol
        self._window = window
        self._may_look_ahead = may_look_ahead
        self._depth = 1
        self.begun = 0
        """Mails whose bytes were queued."""
        self.finished = 0
        """Mails that the relay answered."""
        self.progress = 0
        """Rises when a phase ends and another one begins."""
        self.batch = 1
        """How much room makes it worth while to begin mails: many in one write cost less, and lose no time."""
        self.looks_ahead = False
        """Whether the next mail's commands go out with the end of this one."""
        self.confused: str | None = None
        """What a relay said that lost the thread; no further mail is to be begun."""
        self.again: list[Message] = []
        """Mails that such a relay certainly did not take."""
        self.closing: RelayError | None = None
        """What the relay said that ends the connection; no further mail is to be begun."""
        self.limit: ReplyKind | None = None
        """Which limit of connections that was, if it was one: no mail is to blame for it."""
        self.limited: Message | None = None
        """The mail that heard of the limit."""
        self.early: list[tuple[Message, Reply]] = []
        """Mails refused because, it seems, their commands came before the mail before was answered; and that reply."""
        self.idle_at_loss = False
        """Whether no mail was in flight when the session broke."""
        self._relay = relay
        self._offer = Offer.of(features)
        self._held_back = held_back
        self.out = Outgoing()
        self._replies = ReplyReader()
        self._flight: deque[Transaction] = deque()
        self._spoiled = False
        self.ahead_is_taken = False
        """Whether the relay took MAIL of a mail before it had answered the mail before."""
        self.chunk_was_refused = False
        """Whether that is the last that was heard: nothing shows yet that the relay swallowed it."""
        self._early_codes = {_BAD_SEQUENCE}
        self._may_begin = True
        self._has_fat = False
        self.unswallowed: Unswallowed | None = None
        """What showed that the relay reads refused chunks as commands; it is only listened to from then on."""
        self._rcpt_text = ""
        self._tells_apart: bool | None = None
        self._done: list[tuple[Message, Outcome]] = []

    # --- what goes out -------------------------------------------------------------------------------------------

    @property
    def idle(self) -> bool:
        """Whether no mail is in flight."""
        return not self._flight

    @property
    def in_flight(self) -> int:
        """How many mails are."""
        return len(self._flight)

    @property
    def ahead_is_doubtful(self) -> bool:
        """Whether a mail's commands went out before the mail before was answered, and no such mail was taken yet."""
        return not self.ahead_is_taken and any(one.is_ahead for one in self._flight)

    @property
    def is_ending(self) -> bool:
        """Whether the relay is only listened to, until it hangs up."""
        return self.unswallowed is not None or self.closing is not None

    @property
    def bytes_in_flight(self) -> int:
        """How many bytes these have."""
        return sum(len(one.message.data) for one in self._flight)

    @property
    def room(self) -> int:
        """How many more mails may begin now."""
        if not self._may_begin:
            return 0
        if self._depth != 1 or not self._flight:
            return self._depth - len(self._flight)
        return int(self.looks_ahead and len(self._flight) == 1 and self._flight[0].end is not None)

    def begin(self, message: Message) -> None:
        """Queue the first bytes of ``message``, or settle it at once if this relay can never take it."""
        if (refusal := permanent_refusal(message, self._offer)) is not None:
            verdicts = dict.fromkeys(message.envelope.recipients, Verdict(Kind.REJECTED, refusal))
            self._done.append((message, Replied(message.claim, self._relay, verdicts)))
            return
        if not self._flight:
            self.progress += 1
        lines = commands(message, self._offer)
        # A failed transaction may stay open (RFC 3030 §3), and how those in flight end is not known yet: with RSET
        # before it the next mail can never be added to what is left of the last one.
        has_reset = self._spoiled or (self.protocol is DialogueMode.BDAT and bool(self._flight))
        if has_reset:
            lines.insert(0, b"RSET\r\n")
        self._spoiled = False
        if len(message.data) >= _FAT:
            self._has_fat, self._may_begin = True, False
        one = Transaction(message, lines, has_reset, self.out.queued, is_ahead=bool(self._flight))
        self.begun += 1
        self._flight.append(one)
        if self.protocol is DialogueMode.BDAT:
            lines.append(b"BDAT %d LAST\r\n" % len(message.data))
            self.out.queue(b"".join(lines))
            self.out.queue(message.data)
            one.asked, one.legit, one.end = len(lines), one.start + 1, self.out.queued
            return
        lines.append(b"DATA\r\n")
        if self.protocol is DialogueMode.PIPELINING:
            self.out.queue(b"".join(lines))
            one.asked, one.legit = len(lines), one.start + 1
        else:
            self._ask_next(one)

    def handed(self, size: int) -> None:
        """The kernel took so many bytes of the chunk that ``out`` gave."""
        self.out.take(size)
        if not self.out.pending:
            self.progress += 1

    @property
    def held(self) -> Message | None:
        """The mail whose body has gone out but for its end, if that is held back now."""
        if not self._held_back or not self._flight or self.out.pending:
            return None
        one = self._flight[0]
        return one.message if one.in_body and one.end is None else None

    def release(self) -> None:
        """Queue the end of the body that was held back; from then on the relay may take the mail."""
        self._queue_end(self._flight[0])

    def look_ahead(self, *, allowed: bool) -> None:
        """Say whether a mail's commands may go out before the mail before it was answered."""
        self._may_look_ahead = allowed
        if not allowed:
            self._depth, self.batch, self.looks_ahead = 1, 1, False
        else:
            self.ahead_is_taken = True
            if self.finished:
                self._trust()

    def take_back(self) -> list[Message]:
        """Withdraw the mails of which not a byte has gone out, in their order."""
        messages: deque[Message] = deque()
        while self._flight and (one := self._flight[-1]).start >= self.out.handed:
            self._flight.pop()
            messages.appendleft(one.message)
            self.out.cut(one.start)
            self._spoiled = self._spoiled or (one.has_reset and not self._flight)
            self.begun -= 1
        self._look_whether_it_may_begin()
        return list(messages)

    def _look_whether_it_may_begin(self) -> None:
        """Nothing is begun behind a fat mail, which may take its time, nor on a connection that is about to end."""
        self._has_fat = self._has_fat and any(len(one.message.data) >= _FAT for one in self._flight)
        self._may_begin = self.confused is None and not self.is_ending and not self._has_fat

    def _ask_next(self, one: Transaction) -> None:
        self.out.queue(one.commands[one.asked])
        one.asked += 1
        one.legit = self.out.queued

    def _send_body(self, one: Transaction, data: bytes) -> None:
        self.out.queue(data)
        one.in_body = True
        if not self._held_back or one.hopeless:
            self._queue_end(one)

    def _queue_end(self, one: Transaction) -> None:
        self.out.queue(b".\r\n")
        one.asked += 1
        one.legit = one.end = self.out.queued

    # --- what comes in -------------------------------------------------------------------------------------------

    def phase(self) -> Phase | None:
        """What is being waited for, or None."""
        if self.out.pending:
            written = any(one.end is not None and one.end > self.out.handed for one in self._flight)
            if written:
                return Phase("the body", data=True)
        if not self._flight:
            return None
        one = self._flight[0]
        doing = one.question()
        # A relay may keep back its answers to a group until it has dealt with all of it (RFC 2920 §3.2): behind BDAT
        # those to MAIL and RCPT wait for whatever looks at the body.
        return Phase(doing, data=doing == END or one.end is not None)

    def said(self, data: bytes) -> None:
        """Take in what was received.

        Raises:
            RelayError: the session is of no more use; ``lost`` says what that means for the mails in flight.
        """
        replies, flight = self._replies, self._flight
        replies.feed(data)
        try:
            while True:
                if flight and self._all_well(flight[0]):
                    continue
                if (reply := replies.read()) is None:
                    break
                self._take(reply)
        except GarbledReply as error:
            raise ProtocolViolation(f"{error} (answer to {self._awaited()})") from error
        if replies and self.unswallowed is None and not self._is_asking():
            raise self._unasked("")

    def _all_well(self, one: Transaction) -> bool:
        """Take all that is to be said of a mail for now in one go, if it is there and all is well: the usual case."""
        left = one.asked - one.answered
        if not left or one.refused or not self.finished:
            return False
        if one.end is None:
            if self.protocol is not DialogueMode.PIPELINING or self.out.handed <= one.start:
                return False
            if self._replies.read_well(left, START_BODY) is None:
                return False
            one.answered, one.well = one.asked, True
            self.ahead_is_taken |= one.is_ahead
            self.progress += 1
            self._send_body(one, stuffed(one.message.data))
            return True
        if self.out.handed < one.end or (reply := self._replies.read_well(left, OK)) is None:
            return False
        self.ahead_is_taken |= one.is_ahead
        self.progress += 1
        self._accept(one, reply)
        return True

    def collect(self) -> list[tuple[Message, Outcome]]:
        """What came out since this was last called."""
        done, self._done = self._done, []
        return done

    def _awaited(self) -> str:
        return self._flight[0].question() if self._flight else "nothing"

    def _is_asking(self) -> bool:
        if not self._flight:
            return False
        one = self._flight[0]
        if one.answered >= one.asked or self.out.handed < one.legit:
            return False
        # The last answer is not to come before the last byte has gone.
        return one.end is None or one.answered < one.asked - 1 or self.out.handed >= one.end

    def _unasked(self, text: str) -> RelayError:
        if self._flight and (self._flight[0].in_body or self._flight[0].end is not None):
            return RelayError(f"the relay answered before the end of the body{text}")
        if self.chunk_was_refused and not self._flight:
            self.unswallowed = Unswallowed(f"the relay refused a chunk and read it as commands{text}")
            return self.unswallowed
        return RelayError(f"the relay said more than it was asked{text}")

    def _take(self, reply: RawReply) -> None:
        if self.unswallowed is not None:
            self._overhear(reply)
            return
        if not self._is_asking():
            raise self._unasked(f": {reply.cooked()}")
        one = self._flight[0]
        position = one.answered - one.has_reset
        one.answered += 1
        self.progress += 1
        if reply.code >= _REFUSAL and self.closing is None:
            self._ask_whether_that_ends_the_connection(one, reply)
        if position < 0:
            self._reset(one, reply)
        elif position == 0:
            self._mail(one, reply)
        elif position <= len(one.message.envelope.recipients):
            self._rcpt(one, one.message.envelope.recipients[position - 1], reply)
        elif one.answered > len(one.commands) or self.protocol is DialogueMode.BDAT:
            self._final(one, reply)
        else:
            self._data(one, reply)

    def _ask_whether_that_ends_the_connection(self, one: Transaction, reply: RawReply) -> None:
        """Take 421, or a limit of connections or of mails on one, as the connection's end and not as a verdict.

        RFC 5321 §3.8: who says 421 closes the channel. Behind BDAT mails may be in flight to which no reply came yet.
        Some relays (Exim) stay and refuse them one by one; so the rest is listened to.
        """
        said = reply.cooked()
        kind = kind_of(said)
        is_limit = kind.concern is Concern.CONNECTION
        if reply.code != CLOSING and not is_limit:
            return
        one.closing, self._may_begin = True, False
        self.closing = RelayError(f"the relay is closing (at {one.question(1)}): {said}", reply=said)
        if is_limit:
            self.limit, self.limited = kind, one.message
        if self.protocol is not DialogueMode.BDAT or (len(self._flight) == 1 and one.answered == one.asked):
            raise self.closing

    def _reset(self, one: Transaction, reply: RawReply) -> None:
        if reply.code == OK:
            self.chunk_was_refused = False
        elif self.closing is not None:
            pass
        elif self._is_early_reset(one, reply):
            one.confused = True
        else:
            if self.chunk_was_refused:
                self._mistrust(reply)
                return
            raise RelayError(f"RSET was refused: {reply.cooked()}")
        self._go_on(one)

    def _is_early_reset(self, one: Transaction, reply: RawReply) -> bool:
        """Whether RSET was refused because it came early; then so is what follows.

        Behind a refused chunk a refusal may be the answer to a line of it, unless it is one that was heard before.
        """
        if one.is_ahead and not self.chunk_was_refused and reply.code in _ANY_REFUSAL:
            self._early_codes.add(reply.code)
        return one.is_ahead and (reply.code in self._early_codes or speaks_of_order(reply))

    def _mistrust(self, reply: RawReply) -> None:
        """What followed a refused chunk is no answer to what was sent behind it, but to a line of the chunk.

        Nothing more is written. Whether the relay took a mail behind the chunk, what it still says will tell.
        """
        self.unswallowed = Unswallowed(f"the relay refused a chunk and read it as commands: {reply.cooked()}")
        self._may_begin = False
        self.out.clear()

    def _overhear(self, reply: RawReply) -> None:
        if reply.code // 100 in (2, 3):
            raise self.unswallowed or AssertionError

    def _mail(self, one: Transaction, reply: RawReply) -> None:
        if reply.code // 100 != OK // 100:
            one.refused = dict.fromkeys(one.message.envelope.recipients, _verdict("MAIL", reply))
            one.unwanted = True
            one.confused |= self._is_out_of_order(reply, self._never_of_sender(one))
        elif one.is_ahead:
            self.ahead_is_taken = True
        one.well = not one.closing
        if one.unwanted and self.protocol is DialogueMode.DATA:
            self._finish(one)
        else:
            self._go_on(one)

    def _rcpt(self, one: Transaction, recipient: str, reply: RawReply) -> None:
        if reply.code // 100 != OK // 100 and recipient not in one.refused:
            one.refused[recipient] = _verdict("RCPT", reply)
            one.confused |= self._is_out_of_order(reply, _NEVER_OF_RECIPIENT)
        if self._tells_apart is None:
            self._rcpt_text = reply.cooked().text
        if self.protocol is DialogueMode.DATA and one.hopeless and one.asked == len(one.commands) - 1:
            self._spoiled = True
            self._finish(one)
            return
        self._go_on(one)

    def _go_on(self, one: Transaction) -> None:
        if self.protocol is DialogueMode.DATA and one.asked < len(one.commands):
            self._ask_next(one)

    def _data(self, one: Transaction, reply: RawReply) -> None:
        if reply.code == START_BODY:
            # RFC 2920 §3.1: the relay took DATA though nobody is left to send it to.
            self._send_body(one, b"" if one.hopeless else stuffed(one.message.data))
            return
        verdict = _verdict("DATA", reply)
        self._spoiled = True
        if not one.hopeless and self._is_out_of_order(reply, _OUT_OF_ORDER):
            self._lost_thread(one, verdict)
        self._finish(one, verdict)

    def _final(self, one: Transaction, reply: RawReply) -> None:
        """The answer to the end of the body, or to BDAT."""
        if reply.code != OK:
            self.chunk_was_refused = self.protocol is DialogueMode.BDAT
        if one.hopeless:
            if reply.code == OK and self.protocol is DialogueMode.BDAT and one.unwanted:
                one.refused.clear()  # nobody can know for whom it took it
                raise ProtocolViolation(f"the relay refused MAIL and took the message all the same: {reply.cooked()}")
            self._finish(one)
        elif reply.code == OK:
            self._accept(one, reply.cooked())
        else:
            verdict = _verdict(END, reply)
            if self.protocol is DialogueMode.BDAT:
                self._spoiled = True
                if self._is_out_of_order(reply, _OUT_OF_ORDER):
                    self._lost_thread(one, verdict)
            self._finish(one, verdict)

    def _accept(self, one: Transaction, reply: Reply) -> None:
        if reply.text.startswith(_OF_ADDRESS):
            if self._tells_apart:
                # Somewhere before there was a reply too many, and this is the answer to RCPT.
                raise ProtocolViolation(f"the answer to {END} is one to an address: {reply}")
        elif self._tells_apart is None:
            self._tells_apart = self._rcpt_text.startswith(_OF_ADDRESS)
        self.chunk_was_refused = False
        self._finish(one, Verdict(Kind.ACCEPTED, reply))

    def _is_out_of_order(self, reply: RawReply, codes: Container[int]) -> bool:
        """Whether the relay says that commands came out of order, and nothing of the mail: by a code, or its text."""
        return self.protocol is not DialogueMode.DATA and (reply.code in codes or speaks_of_order(reply))

    def _never_of_sender(self, one: Transaction) -> Container[int]:
        """The codes to MAIL that are no verdict on its sender."""
        if not one.is_ahead:
            return ()
        return _OUT_OF_ORDER if self.ahead_is_taken else _ANY_REFUSAL

    def _lost_thread(self, one: Transaction, verdict: Verdict) -> None:
        """Take a refusal of DATA or BDAT, which says nothing of the mail, for all recipients that are left."""
        one.confused = True
        one.refused |= {to: verdict for to in one.message.envelope.recipients if to not in one.refused}

    def _finish(self, one: Transaction, verdict: Verdict | None = None) -> None:
        self._flight.popleft()
        if self._has_fat:
            self._look_whether_it_may_begin()
        if one.hopeless and self.protocol is not DialogueMode.DATA and one.asked <= len(one.commands):
            self._spoiled = True
        if self.closing is not None and (verdict is None or verdict.kind is not Kind.ACCEPTED):
            self._give_back(one, self.closing)
        elif one.confused and one.hopeless:
            self._send_again(one)
        else:
            self._answer(one, verdict)
        if self.closing is not None and not self._flight:
            raise self.closing

    def _answer(self, one: Transaction, verdict: Verdict | None) -> None:
        self.finished += 1
        if self.finished == 1:
            self._trust()
        verdicts = one.verdicts(verdict) if verdict is not None else one.refused
        self._done.append((one.message, Replied(one.message.claim, self._relay, verdicts)))

    def _send_again(self, one: Transaction) -> None:
        """The relay lost the thread: it did not take this mail, and said nothing of it."""
        said = next(iter(one.refused.values())).reply
        if one.is_ahead:
            self.early.append((one.message, said))
            self.look_ahead(allowed=False)
        else:
            self.confused, self._may_begin = str(said), False
            self.again.append(one.message)

    def _give_back(self, one: Transaction, error: RelayError) -> None:
        """The relay is closing, and did not take this mail."""
        if one.closing and one.well and self.limit is None:
            self._settle(one, self._fault(one.message, error, in_dialogue=True))
        else:
            self.again.append(one.message)

    def _trust(self) -> None:
        """The relay has answered a mail: it understands what it offers."""
        if not self._may_look_ahead:
            return
        if self.protocol is DialogueMode.BDAT:
            self._depth = self._window
            self.batch = (self._window + 7) // 8
        self.looks_ahead = self.protocol is DialogueMode.PIPELINING and self._window > 1

    # --- when it breaks ------------------------------------------------------------------------------------------

    def lost(self, error: RelayError) -> list[Message]:
        """The session is over: settle what was in flight; answer the mails that nothing can have become of."""
        self.idle_at_loss = not self._flight
        untouched, self.again = self.again, []
        was_heard_out = self.is_ending and (isinstance(error, HungUp) or error is self.closing)
        for one in self._flight:
            if was_heard_out or one.closing:
                # The relay went away, and said yes to none of these.
                self._give_back(one, self.closing or error)
            elif one.hopeless and one.confused:
                self._send_again(one)
            elif one.hopeless:
                self._settle(one, Replied(one.message.claim, self._relay, one.refused))
            elif one.end is not None and self.out.handed >= one.end:
                verdict = Verdict(Kind.NO_VERDICT, Reply(0, str(error)))
                self._settle(one, Replied(one.message.claim, self._relay, one.verdicts(verdict)))
            elif one.well:
                self._settle(one, self._fault(one.message, error, in_dialogue=True))
            else:
                untouched.append(one.message)
        untouched += self.again
        self.again = []
        self._flight.clear()
        self.out.clear()
        return untouched

    def blame(self, message: Message, error: RelayError) -> None:
        """Say that the relay's fault came before anything that ``message`` could have to do with."""
        self._done.append((message, self._fault(message, error)))

    def _fault(self, message: Message, error: RelayError, *, in_dialogue: bool = False) -> RelayFault:
        return RelayFault(message.claim, self._relay, str(error), error.hopeless, in_dialogue, error.reply)

    def _settle(self, one: Transaction, outcome: Outcome) -> None:
        self._done.append((one.message, outcome))


def _verdict(doing: str, reply: RawReply) -> Verdict:
    """What a definite refusal says of the mail.

    Raises:
        Choked: it is no refusal.
    """
    match reply.code // 100:
        case 4:
            return Verdict(Kind.DEFERRED, reply.cooked())
        case 5:
            return Verdict(Kind.REJECTED, reply.cooked())
        case _:
            raise ProtocolViolation(f"the answer to {doing} means nothing: {reply.cooked()}")
