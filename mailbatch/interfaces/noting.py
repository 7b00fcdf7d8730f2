"""Every act is noted, with who did it: ids and filters, never contents or addresses."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Protocol

from mailbatch.domain.errors import StoreError

if TYPE_CHECKING:
    from mailbatch.application.operating_ports import Actions, Selection

log = logging.getLogger(__name__)


class Caller(Protocol):
    """Somebody who acts."""

    @property
    def actor(self) -> str:
        """Through which door, and as whom: ``api:operate``, ``console:operate``, ``cli:<user>``."""


def note(
    actions: Actions, caller: Caller, action: str, target: dict[str, Any], affected: int | None, outcome: str = "done"
) -> None:
    """Note what was done. If that cannot be stored it stands in the log at least: it *was* done."""
    many = "" if affected is None else f", {affected} affected"
    log.info("%s did %s %s: %s%s", caller.actor, action, target, outcome, many)
    try:
        actions.note(caller.actor, action, target, affected, outcome)
    except StoreError as error:
        log.error("cannot note that %s did %s %s: %s", caller.actor, action, target, error)  # noqa: TRY400


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
