"""Opens files below one folder, and nothing outside of it, whatever path a mail names.

Each part of the path is opened on its own, from the folder before it, and no link is followed. So what is checked is
what is read, even if somebody changes the folders meanwhile. (openat2 of Linux does it in one call; Python has none.)
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mailbatch.domain.content import PIECE
from mailbatch.domain.errors import CannotCompose, ContentUnavailable, ResourceAway
from mailbatch.domain.file_rules import NO_FOLDER, path_parts, path_problem
from mailbatch.domain.redaction import lines
from mailbatch.infrastructure.shared_folder import SHARED_ERRORS, cannot_be_opened, why_away

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from mailbatch.application.ports.sending import OpenFile

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
# Without O_NONBLOCK the opening of a FIFO waits until somebody writes into it.
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_LONGEST_SHOWN = 120
_PASSING = frozenset({errno.EIO, errno.EINTR, errno.EAGAIN})
"""Errors that may pass, or may be those of this file alone, for example of a bad sector: the mail is tried again."""


@dataclass(frozen=True, slots=True)
class FilesBelow:
    """The port ``Folder``. ``root`` may be a link itself; None: there is no such folder. ``label`` begins errors."""

    root: Path | None
    label: str = "attachments"

    @contextmanager
    def open(self, path: str) -> Iterator[OpenFile]:
        """Open a regular file for the time of the block.

        Raises:
            CannotCompose: one line that says why this file cannot be sent.
            ContentUnavailable: it cannot be read at this moment.
            ResourceAway: the folder itself cannot be opened, or is empty, or the machine fails.
        """
        shown = f"{self.label}: {lines.shown(path, _LONGEST_SHOWN)}"
        if self.root is None:
            raise CannotCompose([f"{shown}: {NO_FOLDER}"])
        if wrong := path_problem(path):
            raise CannotCompose([f"{shown}: {wrong}"])
        parts = path_parts(path)
        descriptor = self._folder(self.root)
        try:
            try:
                descriptor = _descend(descriptor, parts, shown)
            except FileNotFoundError as error:
                raise self._missing(self.root, shown) from error
            yield _Opened(descriptor, os.fstat(descriptor), shown)
        finally:
            os.close(descriptor)

    def _folder(self, root: Path) -> int:
        try:
            return os.open(root, _FOLDER)
        except OSError as error:
            raise ResourceAway([f"{self.label}: {cannot_be_opened(root, error)}"]) from error

    def _missing(self, root: Path, shown: str) -> CannotCompose:
        if why := why_away(root):
            return ResourceAway([f"{self.label}: {why}"])
        return CannotCompose([f"{shown}: is not there"])


class _Opened:
    """An open regular file: the port ``OpenFile``. ``version`` changes when the file does."""

    def __init__(self, descriptor: int, state: os.stat_result, shown: str) -> None:
        self._descriptor, self._shown = descriptor, shown
        self.size = state.st_size
        self.version = _version(state)

    def pieces(self) -> Iterator[bytes]:
        """Yield the bytes; raise as ``FilesBelow.open``, also if the file changes while it is read."""
        at = 0
        while piece := self._read(at):
            at += len(piece)
            if at > self.size:
                break
            yield piece
        if at != self.size or _version(os.fstat(self._descriptor)) != self.version:
            raise CannotCompose([f"{self._shown}: was changed while it was read; requeue the mail when it is complete"])

    def _read(self, at: int) -> bytes:
        try:
            return os.pread(self._descriptor, PIECE, at)
        except OSError as error:
            raise _unusable(self._shown, error) from error


def _descend(folder: int, parts: list[str], shown: str) -> int:
    """Return the descriptor of the regular file at ``parts`` below ``folder``, which is closed.

    If it cannot be opened, ``folder`` is left open for the caller. Raises ``FileNotFoundError`` if it is not there.
    """
    opened: list[int] = []
    try:
        at = folder
        for part in parts[:-1]:
            at = os.open(part, _FOLDER | os.O_NOFOLLOW, dir_fd=at)
            opened.append(at)
        # Looked at before, because the opening of a device can do something; what counts is the descriptor.
        _ensure_regular(os.stat(parts[-1], dir_fd=at, follow_symlinks=False), shown)
        found = os.open(parts[-1], _FILE, dir_fd=at)
        try:
            _ensure_regular(os.fstat(found), shown)
        except CannotCompose:
            os.close(found)
            raise
    except FileNotFoundError:
        raise
    except (OSError, UnicodeEncodeError) as error:
        raise _unusable(shown, error) from error
    finally:
        for one in opened:
            os.close(one)
    os.close(folder)
    return found


def _ensure_regular(state: os.stat_result, shown: str) -> None:
    if stat.S_ISLNK(state.st_mode):
        raise CannotCompose([f"{shown}: is a link; links are not followed"])
    if not stat.S_ISREG(state.st_mode):
        raise CannotCompose([f"{shown}: is no regular file"])


def _unusable(shown: str, error: OSError | UnicodeEncodeError) -> CannotCompose:
    number = error.errno if isinstance(error, OSError) else errno.EINVAL
    if number in SHARED_ERRORS:
        return ResourceAway([f"{shown}: cannot be read: {os.strerror(number or 0)}"])
    if number in _PASSING:
        return ContentUnavailable([f"{shown}: cannot be read at this moment: {os.strerror(number or 0)}"])
    if number in (errno.ELOOP, errno.ENOTDIR):
        return CannotCompose([f"{shown}: a part of its path is a link, or no folder; links are not followed"])
    return CannotCompose([f"{shown}: cannot be read: {os.strerror(number or 0)}"])


def _version(state: os.stat_result) -> tuple[int, int, int, int, int]:
    return state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns
