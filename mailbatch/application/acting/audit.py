"""Records an operator's act before it is done, and its result after: ids and filters, no contents or addresses."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mailbatch.domain.errors import MailbatchError, StoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mailbatch.application.ports.operating import AuditLog
    from mailbatch.application.ports.system import Clock

log = logging.getLogger(__name__)

KEPT_FOR = 60.0
"""Seconds during which a write that the database refuses is tried again: another program may be writing to it."""
_PAUSES = 0.05, 1.0
"""Seconds between two tries: the first and the longest pause."""


@dataclass(slots=True)
class Entry:
    """What an act did, as far as that is known. An empty ``outcome`` becomes ``done``."""

    target: dict[str, Any]
    affected: int | None = None
    outcome: str = ""


@dataclass(frozen=True, slots=True)
class Audit:
    """Writes to the audit log."""

    audit_log: AuditLog
    clock: Clock

    @contextmanager
    def around(self, actor: str, action: str, target: dict[str, Any]) -> Iterator[Entry]:
        """Record ``action`` as begun, run the block, and record its end. The block fills in the entry.

        ``actor``: the interface and the person (``api:operate``, ``console:operate``, ``cli:<user>``). If the process
        dies or the database goes away in between, the entry stays ``begun``: the act may be done, or a part of it.

        Raises:
            StoreError: if the beginning cannot be recorded. Then the block does not run.
        """
        entry = Entry(target)
        entry_id = self.audit_log.begin(actor, action, target)
        try:
            yield entry
        except BaseException as error:
            # If the database goes away in a bulk act, some reservations may be changed already.
            refused = isinstance(error, MailbatchError) and not isinstance(error, StoreError)
            entry.outcome = entry.outcome or ("refused" if refused else "broken off")
            raise
        finally:
            entry.outcome = entry.outcome or "done"
            _log(actor, action, entry)
            try:
                self._insist(lambda: self.audit_log.end(entry_id, entry.target, entry.affected, entry.outcome))
            except StoreError as error:
                kept = "the list of actions says `begun` of %s %s by %s, which is %s: %s"
                log.error(kept, action, entry.target, actor, entry.outcome, error)  # noqa: TRY400 - one line is enough

    def record(self, actor: str, action: str, target: dict[str, Any], outcome: str) -> None:
        """Record what is done even if it cannot be recorded: then only the log has it."""
        _log(actor, action, Entry(target, None, outcome))
        try:
            self._insist(lambda: self.audit_log.record(actor, action, target, None, outcome))
        except StoreError as error:
            log.error("cannot note that %s did %s %s: %s", actor, action, target, error)  # noqa: TRY400 - as above

    def _insist(self, write: Callable[[], None]) -> None:
        """Try for ``KEPT_FOR`` to write. Raises ``StoreError`` after that, or if it is permanent."""
        until = self.clock.monotonic() + KEPT_FOR
        pause, longest = _PAUSES
        while True:
            try:
                write()
            except StoreError as error:
                if not error.transient or self.clock.monotonic() + pause > until:
                    raise
                log.warning("the note of an act is kept, and tried again: %s", error)
            else:
                return
            self.clock.sleep(pause)
            pause = min(2 * pause, longest)


def _log(actor: str, action: str, entry: Entry) -> None:
    affected = "" if entry.affected is None else f", {entry.affected} affected"
    log.info("%s did %s %s: %s%s", actor, action, entry.target, entry.outcome, affected)
