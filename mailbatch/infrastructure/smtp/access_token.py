"""The token by which we log in to a relay (OAuth 2.0): read from a file or a command, and kept for a while."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import threading
import time
from typing import TYPE_CHECKING

from mailbatch.infrastructure.smtp.errors import RelayError, system_words

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

KEPT = 50 * 60.0
"""Seconds after which a token is read anew. Google's and Microsoft's last for an hour."""
COMMAND_TIMEOUT = 30.0
"""Seconds that the command may take."""
_LONGEST = 16 * 1024
# RFC 6750 §2.1.
_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*")


class AccessToken:
    """Keeps what ``read`` returned, for all connections of a process. ``clock``: seconds that only rise."""

    def __init__(self, read: Callable[[], str], clock: Callable[[], float] = time.monotonic) -> None:
        self._read = read
        self._clock = clock
        self._lock = threading.Lock()
        self._text: str | None = None
        self._read_at = 0.0

    def tries(self) -> Iterator[str]:
        """Yield the token. If the caller asks again, it was refused: yield a new one, unless this was new.

        Raises:
            RelayError: no token can be read.
        """
        text, is_new = self._get(refused=None)
        yield text
        if not is_new:
            text, _ = self._get(refused=text)
            yield text

    def _get(self, *, refused: str | None) -> tuple[str, bool]:
        """Return the token, and whether it was read by this call. ``refused``: the one that is useless."""
        with self._lock:
            if self._text is not None and self._text != refused and self._clock() - self._read_at < KEPT:
                return self._text, False
            self._text = None
            text = self._read().strip()
            if len(text) > _LONGEST or not _TOKEN.fullmatch(text):
                raise RelayError("the token is empty, or holds characters that no token has (RFC 6750)")
            self._text, self._read_at = text, self._clock()
            return text, True


def token_from_file(path: Path) -> str:
    """Read the token from a file. Raises ``RelayError``."""
    try:
        with path.open(encoding="ascii") as file:
            return file.read(_LONGEST + 2)
    except (OSError, UnicodeError) as error:
        raise RelayError(f"token_file {path} cannot be read: {system_words(error)}") from error


def token_from_command(words: Sequence[str], timeout: float = COMMAND_TIMEOUT) -> str:
    """Return what the command prints. No shell runs it, and nothing that it prints is logged.

    Raises:
        RelayError: it cannot be started, fails, or takes longer than ``timeout`` seconds.
    """
    name = f"token_command {words[0]}"
    try:
        # A session of its own, so that the programs that it started end with it.
        process = subprocess.Popen(  # noqa: S603 (the operator's own command)
            words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True
        )
    except OSError as error:
        raise RelayError(f"{name} cannot be started: {system_words(error)}") from error
    with process:
        try:
            printed, _ = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            raise RelayError(f"{name} took longer than {timeout:g} s") from None
    if process.returncode:
        raise RelayError(f"{name} failed with the exit status {process.returncode}")
    return printed.decode("ascii", "replace")
