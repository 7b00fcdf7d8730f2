"""Who acts at this command line, and the note that is made of it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mailbatch.interfaces.noting import do_noted, note, noted

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager
    from uuid import UUID

    from mailbatch.application.bulk import Act
    from mailbatch.application.operating_ports import Answer
    from mailbatch.bootstrap import Parts
    from mailbatch.interfaces.noting import Deed

_LONGEST_NAME = 64


@dataclass(frozen=True, slots=True)
class _Person:
    actor: str


def note_act(parts: Parts, action: str, target: dict[str, Any], affected: int | None, outcome: str = "done") -> None:
    """Note what is done here, whether or not that can be noted: ids and filters, never contents or addresses."""
    note(parts.actions, _Person(f"cli:{_user()}"), action, target, affected, outcome)


def noted_act(parts: Parts, action: str, target: dict[str, Any]) -> AbstractContextManager[Deed]:
    """Note what is about to be done here, and at its end what came of it. Nothing is done that cannot be noted."""
    return noted(parts.actions, _Person(f"cli:{_user()}"), action, target)


def do_each(parts: Parts, act: Act, ids: Sequence[UUID]) -> list[Answer]:
    """Do ``act`` to single reservations, noted as done here; return what became of each, in order."""
    return do_noted(parts.interventions, parts.actions, _Person(f"cli:{_user()}"), act, ids)


def _user() -> str:
    """Who gave the command; behind sudo, who gave that: else all would be one and the same."""
    name = os.environ.get("SUDO_USER") or _account()
    return "".join(c if c.isprintable() else "?" for c in name)[:_LONGEST_NAME]


def _account() -> str:
    import pwd

    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        # A container may run as a number that has no name.
        return str(os.getuid())
