"""Makes records of finished messages: one for each message of a mail folder."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING

from mailbatch.application.acting.mbox_records import TooLong, read_mbox
from mailbatch.application.acting.records import BadLine, Record
from mailbatch.application.acting.reserve import Draft
from mailbatch.domain.errors import CannotCompose, InvalidReservation
from mailbatch.domain.limits import LONGEST_KEY
from mailbatch.domain.message_id import own_message_id
from mailbatch.domain.reservation import Mail

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from datetime import datetime
    from typing import IO

    from mailbatch.application.acting.mbox_records import Mbox
    from mailbatch.application.ports.sending import Folder
    from mailbatch.application.ports.system import EnvelopeReader


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageRecords:
    """Reads messages as records. All of them get the same time, priority, tag and envelope sender.

    ``largest``: bytes of a message at most.
    """

    read_envelope: EnvelopeReader
    largest: int
    scheduled_at: datetime | None = None
    expires_at: datetime | None = None
    priority: int = 0
    tag: str | None = None
    envelope_sender: str | None = None

    def of_mbox(self, file: IO[bytes], style: Mbox) -> Iterator[Record | BadLine]:
        """Read a mail folder in one file. Raises ``UnreadableFile``."""
        for line, message in read_mbox(file, self.largest, style):
            yield self._too_long(line) if isinstance(message, TooLong) else self._record(line, message)

    def of_folder(
        self, folder: Folder, names: Iterable[str], on_read: Callable[[], None] = lambda: None
    ) -> Iterator[Record | BadLine]:
        """Read the files ``names`` below ``folder``, one message in each. ``on_read`` is called after each."""
        for name in names:
            yield self._of_file(folder, name)
            on_read()

    def _of_file(self, folder: Folder, name: str) -> Record | BadLine:
        try:
            with folder.open(name) as file:
                if file.size > self.largest:
                    return self._too_long(1, name)
                message = b"".join(file.pieces())
        except CannotCompose as error:
            return BadLine(1, tuple(error.errors), name)
        return self._record(1, message, name)

    def _record(self, line: int, message: bytes, file: str | None = None) -> Record | BadLine:
        try:
            envelope = self.read_envelope(message)
        except InvalidReservation as error:
            return BadLine(line, tuple(error.problems), file)
        draft = Draft(
            mail=Mail(recipients=envelope.recipients, message=envelope.message, envelope_sender=self.envelope_sender),
            scheduled_at=self.scheduled_at,
            expires_at=self.expires_at,
            priority=self.priority,
            idempotency_key=key_of(message),
            tag=self.tag,
        )
        return Record(line, draft, file)

    def _too_long(self, line: int, file: str | None = None) -> BadLine:
        why = f"message: has more than {self.largest} bytes, which MAILBATCH_MAX_MESSAGE_BYTES allows"
        return BadLine(line, (why,), file)


def key_of(message: bytes) -> str:
    """Return the idempotency key of ``message``: its Message-ID, or a digest if it has none that can be a key."""
    own = own_message_id(message)
    return own if own is not None and len(own) <= LONGEST_KEY else f"sha256:{sha256(message).hexdigest()}"
