"""Who acts at this command line, and the note that is made of it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mailbatch.interfaces.audit_log import do_noted, note, noted

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager
    from uuid import UUID

    from mailbatch.application.acting.bulk import Act
    from mailbatch.bootstrap import Parts
    from mailbatch.domain.change import ChangeResult
    from mailbatch.interfaces.audit_log import Deed

LOGIN = Path("/proc/self/loginuid")
"""Where Linux keeps who logged in: neither su nor sudo changes it (pam_loginuid(8))."""
_NOBODY = 2**32 - 1
"""What stands there where nobody logged in: in a container, in a service."""
_LONGEST_NAME = 64


@dataclass(frozen=True, slots=True)
class _Person:
    actor: str


def note_act(parts: Parts, action: str, target: dict[str, Any], affected: int | None, outcome: str = "done") -> None:
    """Note what is done here, whether or not that can be noted: ids and filters, never contents or addresses."""
    note(parts.stores.actions, _Person(f"cli:{_user()}"), action, target, affected, outcome)


def noted_act(parts: Parts, action: str, target: dict[str, Any]) -> AbstractContextManager[Deed]:
    """Note what is about to be done here, and at its end what came of it. Nothing is done that cannot be noted."""
    return noted(parts.stores.actions, _Person(f"cli:{_user()}"), action, target)


def do_each(parts: Parts, act: Act, ids: Sequence[UUID]) -> list[ChangeResult]:
    """Do ``act`` to single reservations, noted as done here; return what became of each, in order."""
    return do_noted(parts.stores.interventions, parts.stores.actions, _Person(f"cli:{_user()}"), act, ids)


def _user() -> str:
    """Who is logged in, where the system knows it; else who gave the command to sudo, or the account it runs under."""
    name = _logged_in() or os.environ.get("SUDO_USER") or _name_of(os.getuid()) or str(os.getuid())
    return "".join(c if c.isprintable() else "?" for c in name)[:_LONGEST_NAME]


def _logged_in() -> str | None:
    try:
        number = int(LOGIN.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None
    return _name_of(number) if number != _NOBODY else None


def _name_of(number: int) -> str | None:
    """The name of an account; a container may run as a number that has none."""
    import pwd

    try:
        return pwd.getpwuid(number).pw_name
    except (KeyError, OverflowError):
        return None
