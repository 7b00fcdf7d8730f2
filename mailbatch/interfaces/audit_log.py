"""Every act is noted, with who did it: ids and filters, never contents or addresses."""

from __future__ import annotations

import logging
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from mailbatch.application.acting.bulk import DoEach, outcome_of
from mailbatch.domain.errors import MailbatchError, StoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from uuid import UUID

    from mailbatch.application.acting.bulk import Act
    from mailbatch.application.ports.operating import Actions
    from mailbatch.application.ports.stores import Interventions
    from mailbatch.domain.change import ChangeResult
    from mailbatch.domain.selection import Selection

log = logging.getLogger(__name__)

KEPT_FOR = 60.0
"""Seconds for which a note that the database does not take is tried again: another may be writing to it."""
_PAUSES = 0.05, 1.0
_IDS_NOTED = 100


class Caller(Protocol):
    """Somebody who acts."""

    @property
    def actor(self) -> str:
        """Through which door, and as whom: ``api:operate``, ``console:operate``, ``cli:<user>``."""


@dataclass(slots=True)
class Deed:
    """What an act came to, as far as that is known."""

    target: dict[str, Any]
    affected: int | None = None
    outcome: str = ""


@contextmanager
def noted(actions: Actions, caller: Caller, action: str, target: dict[str, Any]) -> Iterator[Deed]:
    """Note an act before it is done, and at its end what it came to; the block says so to what is yielded.

    A note that says ``begun`` for good is of an act whose process died, or whose database went away: it may be done, or
    a part of it. Nothing is done that cannot be noted: raises ``StoreError`` then.
    """
    deed = Deed(target)
    note_id = actions.begin(caller.actor, action, target)
    try:
        yield deed
    except BaseException as error:
        # Of many some may be changed already when the database goes away.
        refused = isinstance(error, MailbatchError) and not isinstance(error, StoreError)
        deed.outcome = deed.outcome or ("refused" if refused else "broken off")
        raise
    finally:
        _tell(caller, action, deed)
        outcome = deed.outcome or "done"
        try:
            _insist(lambda: actions.end(note_id, deed.target, deed.affected, outcome))
        except StoreError as error:
            kept = "the list of actions says `begun` of %s %s by %s, which is %s: %s"
            log.error(kept, action, deed.target, caller.actor, outcome, error)  # noqa: TRY400 - one line says it all


def do_noted(
    interventions: Interventions, actions: Actions, caller: Caller, act: Act, ids: Sequence[UUID]
) -> list[ChangeResult]:
    """Do ``act`` to single reservations, whoever asks; return what became of each, in order, which is noted as well."""
    named = [str(own) for own in ids[:_IDS_NOTED]]
    target: dict[str, Any] = {"id": named[0]} if len(ids) == 1 else {"ids": named, "of": len(ids)}
    with noted(actions, caller, act.value, target) as deed:
        answers = DoEach(interventions)(act, ids)
        deed.affected, deed.outcome = sum(answer.changed for answer in answers), outcome_of(act, answers)
    return answers


def note(
    actions: Actions, caller: Caller, action: str, target: dict[str, Any], affected: int | None, outcome: str = "done"
) -> None:
    """Note what is done, and is not to be kept from being done. If it cannot be stored it stands in the log."""
    _tell(caller, action, Deed(target, affected, outcome))
    try:
        _insist(lambda: actions.note(caller.actor, action, target, affected, outcome))
    except StoreError as error:
        log.error("cannot note that %s did %s %s: %s", caller.actor, action, target, error)  # noqa: TRY400


def _insist(write: Callable[[], None]) -> None:
    """Try to write until the database takes it. Raises ``StoreError`` if that takes too long, or will never help."""
    until = time.monotonic() + KEPT_FOR
    pause, longest = _PAUSES
    while True:
        try:
            write()
        except StoreError as error:
            if not error.transient or time.monotonic() + pause > until:
                raise
            log.warning("the note of an act is kept, and tried again: %s", error)
        else:
            return
        time.sleep(pause)
        pause = min(2 * pause, longest)


def _tell(caller: Caller, action: str, deed: Deed) -> None:
    many = "" if deed.affected is None else f", {deed.affected} affected"
    log.info("%s did %s %s: %s%s", caller.actor, action, deed.target, deed.outcome or "done", many)


def told(which: Selection) -> dict[str, Any]:
    """A filter as it may be noted: part of an address is hidden."""
    given = {
        "status": which.status,
        "tag": which.tag,
        "to": "***" if which.to else None,
        "since": which.since and which.since.isoformat(timespec="seconds"),
        "until": which.until and which.until.isoformat(timespec="seconds"),
        "reply": which.reply,
        "run": which.run_id and str(which.run_id),
    }
    return {name: str(value) for name, value in given.items() if value is not None}
