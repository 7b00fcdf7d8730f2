"""Starts child processes that end when their parent ends, in any way (Linux: PR_SET_PDEATHSIG, prctl(2))."""

from __future__ import annotations

import os
import signal
import sys

# A program of its own, because a preexec_fn may deadlock if there are threads (Python 3.12 warns of it). It changes the
# user first, because that clears the signal. If the parent has ended before, no signal comes: the program just exits.
_LAUNCHER = """\
import ctypes, os, pwd, sys
number, parent, user, *argv = sys.argv[1:]
libc = ctypes.CDLL(None, use_errno=True)
if user:
    who = pwd.getpwnam(user)
    os.initgroups(user, who.pw_gid)
    os.setgid(who.pw_gid)
    os.setuid(who.pw_uid)
libc.prctl(1, int(number), 0, 0, 0)
if os.getppid() != int(parent):
    sys.exit(0)
os.execvp(argv[0], argv)
"""


def ending_with_parent(
    argv: list[str], *, at_parents_end: signal.Signals = signal.SIGTERM, user: str | None = None
) -> list[str]:
    """Return the command line that runs ``argv`` as a child, which gets ``at_parents_end`` when its parent ends.

    The parent is the *thread* that starts the child: start it from a thread that lives as long as the child must live.
    ``user``: the user that the child runs as, if the parent is root. Without prctl, ``argv`` is returned unchanged.
    """
    if not sys.platform.startswith("linux"):
        return argv
    return [sys.executable, "-I", "-S", "-c", _LAUNCHER, str(int(at_parents_end)), str(os.getpid()), user or "", *argv]
