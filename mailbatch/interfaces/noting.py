"""Every act is noted, with who did it: ids and filters, never contents or addresses."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from mailbatch.domain.errors import MailbatchError, StoreError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mailbatch.application.operating_ports import Actions, Selection

log = logging.getLogger(__name__)


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

    A note that says ``begun`` for good is of an act whose process died: it may be done, or a part of it. Nothing is
    done that cannot be noted: raises ``StoreError`` then.
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
        try:
            actions.end(note_id, deed.target, deed.affected, deed.outcome or "done")
        except StoreError as error:
            log.error("cannot note what came of it: %s", error)  # noqa: TRY400 - one line says it all


def note(
    actions: Actions, caller: Caller, action: str, target: dict[str, Any], affected: int | None, outcome: str = "done"
) -> None:
    """Note what was done. If that cannot be stored it stands in the log at least: it *was* done."""
    _tell(caller, action, Deed(target, affected, outcome))
    try:
        actions.note(caller.actor, action, target, affected, outcome)
    except StoreError as error:
        log.error("cannot note that %s did %s %s: %s", caller.actor, action, target, error)  # noqa: TRY400


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
