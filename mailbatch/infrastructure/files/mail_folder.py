"""Lists the messages of a folder: files that end with .eml, or all files of a Maildir."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_MAILDIR = ("new", "cur")


def message_files(folder: Path) -> list[str]:
    """Return the paths of the messages from ``folder`` on, sorted by their names. Hidden files are left out.

    A folder with ``cur`` and ``new`` is a Maildir: there each file of these two is a message, whatever its name.
    Raises ``OSError``.
    """
    if all((folder / part).is_dir() for part in _MAILDIR):
        found = [(one.name, f"{part}/{one.name}") for part in _MAILDIR for one in (folder / part).iterdir()]
    else:
        found = [(one.name, one.name) for one in folder.iterdir() if one.suffix.lower() == ".eml"]
    return [path for name, path in sorted(found) if not name.startswith(".")]
