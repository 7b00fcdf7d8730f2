"""A process that composes under a watchdog, and may hang in it."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from uuid import UUID

URL = "sqlite:///watched.db"
"""The database of the mails that it composes."""
CLAIM_NO = 7
_WATCHED = f"""
import sys, threading, time
from uuid import UUID
from mailbatch.domain.message import Claim
from mailbatch.infrastructure.system.watchdog import ProcessWatchdog

dog = ProcessWatchdog({URL!r}, seconds=0.5)
dog.begin()
over = threading.Event()

def keep():
    while not over.wait(0.05):
        dog.renew()

threading.Thread(target=keep, daemon=True).start()
dog.composing(Claim(UUID(sys.argv[1]), {CLAIM_NO}))
print("composing", flush=True)
exec(sys.argv[2])
dog.composed()
over.set()
dog.end()
print("well", flush=True)
"""
HANGS = "('a' * 8_000_000).rfind('ab' + 'a' * 4_000_000)"


def watched(mail: UUID, what: str) -> subprocess.Popen[str]:
    """Start a process that composes ``mail``, and does ``what`` meanwhile."""
    process = subprocess.Popen(
        [sys.executable, "-c", _WATCHED, str(mail), what], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "composing\n"
    return process
