"""Which of the three dialogues a relay is spoken to in, and how that is lowered for a relay that cannot keep up."""

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

_ENOUGH = 2
"""Sessions lost in a dialogue that never worked, before it is given up."""
_EVERYTHING = ("pipelining", "chunking")
_ENDS_THAT_TELL = 3
"""Sessions that end after the same number of mails, before that number is taken for a limit."""
MAILS_ON_ONE_CONNECTION = "mails on one connection"
"""How the domain names the limit of that name (``reply_kinds``)."""

logger = logging.getLogger(__name__)


_AHEAD = "ahead"
"""What is proven by a mail that was taken although its commands came before the mail before was answered."""


class RelayCapabilities:
    """What was learned of a relay. All connections of a process to it share one, ``memory`` all processes.

    ``memory`` is made when it is first asked. It forgets after a while (see ``RelayMemory``), so that a relay that was
    mended is fast again. Without one it is kept as long as the process lives.
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

    # --- what it comes to -----------------------------------------------------------------------------------------

    def choose(self, features: Container[str]) -> DialogueMode:
        """The dialogue for a new connection. BDAT only if the relay was seen to swallow a chunk that it refused."""
        fastest = self._fastest(features)
        return min(fastest, DialogueMode.PIPELINING) if self.needs_chunk_trial(features) else fastest

    def needs_chunk_trial(self, features: Container[str]) -> bool:
        """Whether BDAT would be the dialogue, if only the relay were known to swallow a chunk that it refuses."""
        return self._fastest(features) is DialogueMode.BDAT and not self._profile.swallows

    @property
    def may_send_ahead(self) -> bool:
        """Whether a mail's commands may go out before the mail before was answered."""
        return self._profile.takes_ahead

    @property
    def mails_per_connection(self) -> int:
        """How many mails the relay takes on one connection, 0 for no limit."""
        return self._profile.mails

    def _fastest(self, features: Container[str]) -> DialogueMode:
        mastered = DialogueMode.__members__.get(self._profile.dialogue or "", self._best)
        return min(mastered, self._best, DialogueMode.offered(features))

    # --- what is learned ------------------------------------------------------------------------------------------

    def note_mode_works(self, mode: DialogueMode, *, ahead: bool) -> None:
        """A mail was answered in it; ``ahead``: one was taken whose commands came before that."""
        self._proven.add(mode)
        if ahead:
            self._proven.add(_AHEAD)

    def note_chunk_swallowed(self) -> None:
        """The relay read a chunk that it refused."""
        self._learn(swallows=True)

    def suspect(self, mode: DialogueMode, relay: str, reason: str, *, likely: bool, ahead: bool = False) -> None:
        """A session broke in it. Before any mail was answered in it, the dialogue itself may be why.

        ``likely``: what came was not what a relay says that merely goes away. ``ahead``: a mail was in flight whose
        commands came before the mail before was answered, and none such was taken yet.
        """
        if mode in self._proven and not (ahead and _AHEAD not in self._proven):
            return
        self._suspicions += 1
        if likely or self._suspicions >= _ENOUGH:
            if mode in self._proven:
                self.forbid_ahead(relay, reason)
            else:
                self.use_slower_mode(mode, relay, reason)

    def use_slower_mode(self, mode: DialogueMode, relay: str, reason: str) -> None:
        """Use a slower one than ``mode`` from now on."""
        if mode is DialogueMode.DATA or self._fastest(_EVERYTHING) < mode:
            return
        slower = DialogueMode(mode - 1)
        self._suspicions = 0
        self._learn(dialogue=slower.name, swallows=False, reason=reason)
        logger.warning("%s: offers %s but chokes on it, %s from now on: %s", relay, mode.name, slower.name, reason)

    def forbid_ahead(self, relay: str, reason: str) -> None:
        """Send a mail's commands only when the mail before was answered, from now on."""
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
        """The relay ended a session after so many mails; ``limit``: the name of the limit that it spoke of.

        A relay that names none has one too if it ends three in a row in the middle of the next after the same number.
        """
        if limit == MAILS_ON_ONE_CONNECTION:
            self._ends = _ENDS_THAT_TELL
        elif idle or not mails:
            return
        else:
            self._ends = self._ends + 1 if mails == self._ended_after else 1
        self._ended_after = mails
        if mails and self._ends >= _ENDS_THAT_TELL and mails != self._profile.mails:
            self._learn(mails=mails, reason=reason)
            logger.info("a connection carries %d mails from now on: %s", mails, reason)

    def learn_from_loss(self, dialogue: Dialogue, error: RelayError, relay: str) -> None:
        """Take what a lost connection shows: how many mails one may carry, and whether the relay masters the mode."""
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

    # --- over processes -------------------------------------------------------------------------------------------

    def recall(self) -> None:
        """Read what all processes have learned; what it was that this one could not note yet is noted first."""
        self.note()
        if self._memory is not None and self._is_noted and (known := self._memory().recall()) is not None:
            self._profile = known

    def note(self) -> None:
        """Note what was learned since."""
        if not self._is_noted and self._memory is not None:
            self._is_noted = self._memory().note(self._profile)


def _may_have_carried_enough(error: RelayError) -> bool:
    """Whether a connection may have ended because it carried enough mails, not because we were too fast."""
    if error.reply is None:
        return isinstance(error, HungUp)
    return concern_of(error.reply) not in {Concern.RATE, Concern.QUOTA, Concern.ACCOUNT}
