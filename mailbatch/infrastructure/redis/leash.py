"""Child processes that end when their parent does, however that ends (Linux: PR_SET_PDEATHSIG, prctl(2))."""

from __future__ import annotations

import os
import signal
import sys

# A program of its own instead of a preexec_fn: that may deadlock where there are threads, and warns of it since
# Python 3.12. The user changes first, for that clears the signal; a parent that is gone already sends none any more.
_LEASH = """\
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


def leashed(argv: list[str], *, at_parents_end: signal.Signals = signal.SIGTERM, user: str | None = None) -> list[str]:
    """The command line that runs ``argv`` as a child which gets ``at_parents_end`` when its parent ends.

    The parent is the *thread* that starts it: start it from one that lives as long as the child shall. ``user``, for
    a parent that is root, names whom it runs as. Where there is no prctl, ``argv`` comes back as it is.
    """
    if not sys.platform.startswith("linux"):
        return argv
    return [sys.executable, "-I", "-S", "-c", _LEASH, str(int(at_parents_end)), str(os.getpid()), user or "", *argv]
