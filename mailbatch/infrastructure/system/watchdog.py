"""Ends a process that one operation in C blocks for ten seconds, and tells the next process on this host which mail.

Such an operation keeps the interpreter's lock, so no signal handler, no other thread and no revoke can run. A thread of
the run renews timers of the kernel every second, which it can only do while the lock changes hands. If it cannot, the
C library marks the note, writes one line and exits with code 1 (``native_timers.py``).

The note is a page of memory in a file, so that writing it needs no system call. The file is in a folder for this user,
host and database, ``mailbatch-composing-*``, in the folder for temporary files. A run also removes such folders of
other databases, if the processes that used them are gone. docs/adr/0014 says why.
"""

from __future__ import annotations

import ctypes
import fcntl
import logging
import mmap
import os
import re
import stat
import tempfile
import threading
import time
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

from mailbatch.domain.message import Claim
from mailbatch.infrastructure.system.native_timers import NativeTimers, in_native_thread

if TYPE_CHECKING:
    from collections.abc import Iterator

log = logging.getLogger(__name__)

SECONDS = 10.0
"""Seconds of processor time that the thread of a run may use while no other thread of its process can run."""
_LAST = 0.25
"""Seconds more until the exit, so that the line can be written."""
_SIZE = 4096
_MARK = 1024
"""Where in the page the C library marks (``sem_post``) that the time was used up."""
_FIRST = b"mail "
_NOBODY = b"%-54s" % b"-"
_WHERE = slice(len(_FIRST), len(_FIRST) + len(_NOBODY))
_LINE = (
    _FIRST
    + _NOBODY
    + b" held its process for more than %d seconds while it was composed, and the process ends with exit code 1; "
    b"the next run on this host fails this mail alone\0" % int(SECONDS)
)
_NOTED = re.compile(rb"mail ([0-9a-f-]{36}), claim +(\d+)")
_FOLDER = "mailbatch-composing-{user}-{database}"
_NOTE = re.compile(r"\.?\d+-\d+-\d+")
_KEPT = 86_400.0
"""Seconds for which a note is kept if no run claims its mail again."""


class ProcessWatchdog:
    """The port ``Watchdog``: watches the thread that calls ``begin``. ``database_url``: where the reservations are."""

    renew_every = 1.0

    def __init__(self, database_url: str, seconds: float = SECONDS) -> None:
        whose = sha256(database_url.encode()).hexdigest()[:12]
        self._folder = Path(tempfile.gettempdir()) / _FOLDER.format(user=os.getuid(), database=whose)
        self._seconds = seconds
        self._page: mmap.mmap | None = None
        self._file = -1
        self._path: Path | None = None
        self._timers: NativeTimers | None = None
        self._guard = threading.Lock()
        self._condemned: dict[Claim, Path] = {}

    def begin(self) -> None:
        """Watch this thread from now on. If that is not possible, log why, and watch nothing.

        In a greenlet nothing is watched: other greenlets run only when this one waits.
        """
        try:
            if not in_native_thread():
                return
            self._open_the_note()
            self._condemned = dict(self._read(self._folder))
            self._remove_folders()
            page = self._page
            assert page is not None  # noqa: S101 - tells mypy what was just done
            address = ctypes.addressof(ctypes.c_char.from_buffer(page))
            timers = NativeTimers(
                b"mailbatch",
                [
                    ("sem_post", address + _MARK, self._seconds),
                    ("warnx", address, self._seconds),
                    ("_exit", 1, self._seconds + _LAST),
                ],
            )
        except (OSError, AttributeError, ValueError) as error:
            self.end()
            log.warning("no watchdog ends a process that hangs in a template: %s", error)
            return
        with self._guard:
            self._timers = timers
            timers.start()

    def renew(self) -> None:
        """Renew the timers, which shows that the interpreter's lock is free. Call it every ``renew_every`` seconds."""
        with self._guard:
            if self._timers is None or self._page is None:
                return
            self._timers.start()
            self._page[_MARK : _MARK + 4] = bytes(4)
        self._condemned = dict(self._read(self._folder))

    def end(self) -> None:
        """Stop watching."""
        with self._guard:
            if self._timers is not None:
                self._timers.close()
            self._timers = self._page = None
            if self._path is not None:
                self._path.unlink(missing_ok=True)
            if self._file >= 0:
                os.close(self._file)
            self._path, self._file = None, -1

    def composing(self, claim: Claim) -> None:
        """Note that the mail of ``claim`` is being composed."""
        if self._page is not None:
            self._page[_WHERE] = b"%s, claim %10d" % (str(claim.reservation_id).encode(), claim.claim_no)

    def composed(self) -> None:
        """Note that no mail is being composed."""
        if self._page is not None:
            self._page[_WHERE] = _NOBODY

    def condemned(self, claim: Claim) -> str | None:
        """Return why the mail of ``claim`` must not be composed: composing it ended a process here. Else None."""
        if not self._condemned or (path := self._condemned.pop(claim, None)) is None:
            return None
        path.unlink(missing_ok=True)
        return (
            f"composing it held its process for more than {self._seconds:g} seconds, and ended it; look for an "
            "operation on large texts or lists in its templates"
        )

    def _open_the_note(self) -> None:
        # A run with another database may remove the folder as long as it is empty.
        with suppress(FileNotFoundError):
            self._try_to_open_the_note()
            return
        self._try_to_open_the_note()

    def _try_to_open_the_note(self) -> None:
        self._folder.mkdir(mode=0o700, exist_ok=True)
        if not _is_of_this_user_alone(self._folder):
            raise OSError(f"{self._folder} is not a folder of this user alone; remove it")
        name = f"{os.getpid()}-{threading.get_native_id()}-{time.monotonic_ns()}"
        fresh, path = self._folder / f".{name}", self._folder / name
        file = os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            # It is locked before other processes see it: an unlocked note belongs to a process that has ended.
            fcntl.flock(file, fcntl.LOCK_EX)
            fresh.rename(path)
        except OSError:
            os.close(file)
            raise
        self._file, self._path = file, path
        os.ftruncate(file, _SIZE)
        self._page = mmap.mmap(file, _SIZE)
        self._page[: len(_LINE)] = _LINE

    def _read(self, folder: Path) -> Iterator[tuple[Claim, Path]]:
        """Yield the claims that must not be composed; remove notes that tell nothing."""
        for path in [path for path in folder.iterdir() if _NOTE.fullmatch(path.name)]:
            with suppress(OSError), path.open("rb") as file:
                if path == self._path:
                    continue
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                content = file.read(_SIZE)
                noted = _NOTED.match(content)
                old = time.time() - path.stat().st_mtime > _KEPT
                if noted is None or old or not any(content[_MARK : _MARK + 4]):
                    path.unlink(missing_ok=True)
                else:
                    # Only the next claim: before a later one, somebody requeued the mail or another host tried it.
                    yield Claim(UUID(noted[1].decode()), int(noted[2]) + 1), path

    def _remove_folders(self) -> None:
        """Remove the folders of other databases that no process uses, and that have no note for a next run."""
        named = re.compile(_FOLDER.format(user=os.getuid(), database="[0-9a-f]{12}"))
        for folder in [path for path in self._folder.parent.iterdir() if named.fullmatch(path.name)]:
            with suppress(OSError):
                if folder != self._folder and _is_of_this_user_alone(folder) and not list(self._read(folder)):
                    folder.rmdir()


def _is_of_this_user_alone(folder: Path) -> bool:
    found = folder.lstat()
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o077
