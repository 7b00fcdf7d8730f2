"""Says why a folder that all mails share cannot serve any of them, so that this counts as no mail's fault."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

SHARED_ERRORS = frozenset(
    {
        errno.EMFILE,
        errno.ENFILE,
        errno.ENOMEM,
        errno.ESTALE,
        errno.ETIMEDOUT,
        errno.ENOTCONN,
        errno.EHOSTDOWN,
        errno.EHOSTUNREACH,
        errno.ENETDOWN,
    }
)
"""Errors of a file that speak of the machine or of its whole file system, for example of NFS or FUSE."""


def why_away(folder: Path) -> str | None:
    """Return why no file can be found below ``folder``: it cannot be opened, or is empty. None if it is there.

    A mount point on which nothing is mounted is an empty folder, so a file that is missing there may not be missing.
    """
    try:
        return f"the folder {folder} is empty; is its file system mounted?" if is_empty(folder) else None
    except OSError as error:
        return cannot_be_opened(folder, error)


def is_empty(folder: Path) -> bool:
    """Return whether nothing is in ``folder``. Raises ``OSError``."""
    with os.scandir(folder) as entries:
        return next(entries, None) is None


def cannot_be_opened(folder: Path, error: OSError) -> str:
    """Return a line about the error that opening ``folder`` raised."""
    return f"the folder {folder} cannot be opened: {error.strerror or type(error).__name__}"
