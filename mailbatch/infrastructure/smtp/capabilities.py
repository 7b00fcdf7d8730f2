"""Chooses the dialogue mode for a relay, and a slower one if the relay does not handle the mode that it offers."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from mailbatch.domain.relay_profile import RelayProfile
from mailbatch.domain.reply_kinds import Concern, concern_of
from mailbatch.infrastructure.smtp.dialogue.mode import DialogueMode
from mailbatch.infrastructure.smtp.errors import HungUp, ProtocolViolation, masked

if TYPE_CHECKING:
    from collections.abc import Callable, Container

    from mailbatch.application.ports.sending import RelayMemory
    from mailbatch.infrastructure.smtp.dialogue.base import Dialogue
    from mailbatch.infrastructure.smtp.errors import RelayError

_LOSSES_BEFORE_SLOWER = 2
"""Connections lost in a mode that has never worked, before a slower mode is used."""
_EVERYTHING = ("pipelining", "chunking")
_ENDS_AT_A_LIMIT = 3
"""Connections that end in a row after the same number of mails, before this number counts as a limit."""
_LEAST_IDLE_LIMIT, _SAME_IDLE = 1.0, 0.2
"""Seconds of an idle limit at least, and by which share two of them may differ."""
MAILS_ON_ONE_CONNECTION = "mails on one connection"
"""The name of this limit in ``domain/reply_kinds.py``."""

_AHEAD = "ahead"
"""Proven once the relay accepts MAIL of a mail whose commands were sent before the previous mail was answered."""

logger = logging.getLogger(__name__)


class RelayCapabilities:
    """What this process knows of a relay. All connections to the relay share one object.

    ``memory`` returns the ``RelayMemory`` that shares the knowledge with other processes, and that forgets it after a
    while. It is called when it is first needed. Without it the knowledge lives as long as the process.
    """

    def __init__(
        self, best: DialogueMode = DialogueMode.BDAT, *, memory: Callable[[], RelayMemory] | None = None
    ) -> None:
        self._best = best
        self._memory = memory
        self._profile = RelayProfile()
        self._is_noted = True
        self._proven: set[DialogueMode | str] = set()
        self._suspicions = 0
        self._ends = self._ended_after = 0
        self._idled_before = 0.0

    # --- what follows from it -----------------------------------------------------------------------------------------

    def choose(self, features: Container[str]) -> DialogueMode:
        """Return the mode for a new connection: BDAT only if the relay has shown that it reads a refused chunk."""
        fastest = self._fastest(features)
        return min(fastest, DialogueMode.PIPELINING) if self.needs_chunk_trial(features) else fastest

    def needs_chunk_trial(self, features: Container[str]) -> bool:
        """Whether BDAT would be the mode, but the relay must first show that it reads a chunk that it refuses."""
        return self._fastest(features) is DialogueMode.BDAT and not self._profile.swallows

    @property
    def may_send_ahead(self) -> bool:
        """Whether a mail's commands may be sent before the previous mail was answered."""
        return self._profile.takes_ahead

    @property
    def mails_per_connection(self) -> int:
        """The number of mails that the relay takes on one connection; 0: no limit."""
        return self._profile.mails

    @property
    def connections(self) -> int:
        """How many connections a lane had at the end of its run; 0: nothing was tried yet."""
        return self._profile.connections

    @property
    def idle_seconds(self) -> float:
        """The seconds without a mail after which the relay closes a connection; 0: that was not seen."""
        return self._profile.idle

    def _fastest(self, features: Container[str]) -> DialogueMode:
        mastered = DialogueMode.__members__.get(self._profile.dialogue or "", self._best)
        return min(mastered, self._best, DialogueMode.offered(features))

    # --- what is learned ------------------------------------------------------------------------------------------

    def note_mode_works(self, mode: DialogueMode, *, ahead: bool) -> None:
        """Note that a mail was answered in ``mode``. ``ahead``: MAIL of a mail that was sent ahead was accepted too."""
        self._proven.add(mode)
        if ahead:
            self._proven.add(_AHEAD)

    def note_chunk_swallowed(self) -> None:
        """Note that the relay read and discarded a chunk that it refused."""
        self._learn(swallows=True)

    def suspect(self, mode: DialogueMode, relay: str, reason: str, *, likely: bool, ahead: bool = False) -> None:
        """Note that a connection broke in ``mode``. The mode may be the reason unless the relay answered a mail in it.

        ``likely``: the relay broke the protocol, and did not just go away. ``ahead``: a mail was in flight whose
        commands were sent ahead, and the relay has accepted no such mail yet.
        """
        if mode in self._proven and not (ahead and _AHEAD not in self._proven):
            return
        self._suspicions += 1
        if likely or self._suspicions >= _LOSSES_BEFORE_SLOWER:
            if mode in self._proven:
                self.forbid_ahead(relay, reason)
            else:
                self.use_slower_mode(mode, relay, reason)

    def use_slower_mode(self, mode: DialogueMode, relay: str, reason: str) -> None:
        """Use the next slower mode than ``mode`` from now on."""
        if mode is DialogueMode.DATA or self._fastest(_EVERYTHING) < mode:
            return
        slower = DialogueMode(mode - 1)
        self._suspicions = 0
        self._learn(dialogue=slower.name, swallows=False, reason=reason)
        logger.warning(
            "%s: offers %s but cannot handle it; %s is used from now on: %s", relay, mode.name, slower.name, reason
        )

    def forbid_ahead(self, relay: str, reason: str) -> None:
        """From now on send a mail's commands only after the previous mail was answered."""
        if not self._profile.takes_ahead:
            return
        self._suspicions = 0
        self._learn(takes_ahead=False, reason=reason)
        logger.warning(
            "%s: offers PIPELINING but takes no command before it has answered the mail before; each mail waits for "
            "that from now on: %s",
            relay,
            reason,
        )

    def _note_end(self, mails: int, limit: str | None, *, idle: bool, reason: str) -> None:
        """Note that the relay ended a connection after so many mails. ``limit``: the name of the limit that it gave.

        A relay that names no limit has one if it ends three connections in a row after the same number of mails, while
        the next mail is in flight.
        """
        if limit == MAILS_ON_ONE_CONNECTION:
            self._ends = _ENDS_AT_A_LIMIT
        elif idle or not mails:
            return
        else:
            self._ends = self._ends + 1 if mails == self._ended_after else 1
        self._ended_after = mails
        if mails and self._ends >= _ENDS_AT_A_LIMIT and mails != self._profile.mails:
            self._learn(mails=mails, reason=reason)
            logger.info("a connection carries %d mails from now on: %s", mails, reason)

    def note_connections(self, count: int) -> None:
        """Note how many connections a lane has at the end of its run."""
        self._learn(connections=count)

    def note_idle_end(self, seconds: float) -> None:
        """Note that the relay closed a connection after so many seconds without a mail.

        Two in a row after about the same time are no chance: the relay has a limit.
        """
        before, self._idled_before = self._idled_before, seconds
        if seconds >= _LEAST_IDLE_LIMIT and abs(seconds - before) <= _SAME_IDLE * seconds:
            shortest = min(before, seconds)
            if not 0 < self._profile.idle <= shortest:
                self._learn(idle=shortest)
                logger.info("a connection without a mail is closed before %.1f s from now on", shortest)

    def learn_from_loss(self, dialogue: Dialogue, error: RelayError, relay: str) -> None:
        """Learn from a lost connection how many mails one may carry, and whether the relay handles the mode."""
        reason = masked(str(error))
        if _may_have_carried_enough(error):
            limit = dialogue.limit.name if dialogue.limit is not None else None
            self._note_end(dialogue.mails_answered, limit, idle=dialogue.idle_at_loss, reason=reason)
        if dialogue.mode_failure is not None:
            self.use_slower_mode(dialogue.mode, relay, masked(dialogue.mode_failure))
        elif not dialogue.idle_at_loss and dialogue.limit is None:
            likely = isinstance(error, ProtocolViolation)
            self.suspect(dialogue.mode, relay, reason, likely=likely, ahead=dialogue.ahead_at_loss)
        if dialogue.sequence_error is not None:
            self.use_slower_mode(dialogue.mode, relay, masked(dialogue.sequence_error))

    def _learn(self, **facts: Any) -> None:
        self._profile = replace(self._profile, **facts)
        self._is_noted = False

    # --- shared with other processes -----------------------------------------------------------------------------

    def recall(self) -> None:
        """Read what all processes have learned, after writing what this one could not write before."""
        self.note()
        if self._memory is not None and self._is_noted and (known := self._memory().recall()) is not None:
            self._profile = known

    def note(self) -> None:
        """Write what was learned since the last call."""
        if not self._is_noted and self._memory is not None:
            self._is_noted = self._memory().note(self._profile)


def _may_have_carried_enough(error: RelayError) -> bool:
    """Whether a connection may have ended because it carried enough mails, not because we were too fast."""
    if error.reply is None:
        return isinstance(error, HungUp)
    return concern_of(error.reply) not in {Concern.RATE, Concern.QUOTA, Concern.ACCOUNT}
