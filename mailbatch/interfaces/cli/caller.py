"""The actor of a command, for the audit log: who is logged in."""

from __future__ import annotations

import os
from pathlib import Path

LOGIN = Path("/proc/self/loginuid")
"""Linux keeps the login there; neither su nor sudo changes it (pam_loginuid(8))."""
_NOBODY = 2**32 - 1
"""The content of ``LOGIN`` if nobody logged in: in a container, in a service."""
_LONGEST_NAME = 64


def actor() -> str:
    """Return ``cli:`` and the user who is logged in, if the system knows; else sudo's user, else the account."""
    name = _logged_in() or os.environ.get("SUDO_USER") or _name_of(os.getuid()) or str(os.getuid())
    return "cli:" + "".join(c if c.isprintable() else "?" for c in name)[:_LONGEST_NAME]


def _logged_in() -> str | None:
    try:
        number = int(LOGIN.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None
    return _name_of(number) if number != _NOBODY else None


def _name_of(number: int) -> str | None:
    """Return the name of an account; a container may run as a number that has none."""
    import pwd

    try:
        return pwd.getpwuid(number).pw_name
    except (KeyError, OverflowError):
        return None
