"""Timers of the kernel that call a function of the C library: they need neither the interpreter nor its lock.

POSIX ``timer_create`` with ``SIGEV_THREAD``. The clock is the processor time of one thread: it stands still while the
process is stopped, the machine sleeps or the thread waits, so none of these looks like a thread that hangs.
"""

from __future__ import annotations

import ctypes
import threading
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

_SIGEV_THREAD = 2


class _Event(ctypes.Structure):
    """``struct sigevent``, 64 bytes on 64-bit Linux."""

    _fields_ = (
        ("value", ctypes.c_void_p),
        ("signal", ctypes.c_int),
        ("notify", ctypes.c_int),
        ("function", ctypes.c_void_p),
        ("attributes", ctypes.c_void_p),
        ("padding", ctypes.c_char * 32),
    )


class _Setting(ctypes.Structure):
    """``struct itimerspec``."""

    _fields_ = (("interval", ctypes.c_long * 2), ("value", ctypes.c_long * 2))


def in_a_thread_of_the_system() -> bool:
    """Return whether this runs in a thread that the kernel knows, and not in a greenlet of gevent's or eventlet's."""
    pthread_self = ctypes.CDLL(None).pthread_self
    pthread_self.restype = ctypes.c_ulong
    return int(pthread_self()) == threading.get_ident()


class NativeTimers:
    """Calls functions of the C library when the thread that made this has used so many seconds of a processor.

    ``calls``: name of a function, its one argument (an integer or an address), seconds. ``name`` is what the library
    calls this program in its messages. Raises ``OSError`` or ``AttributeError`` where there are no such timers.
    """

    def __init__(self, name: bytes, calls: Sequence[tuple[str, int, float]]) -> None:
        library = ctypes.CDLL(None, use_errno=True)
        # Before glibc 2.34 they stand in a library of their own.
        self._library: Any = library if hasattr(library, "timer_create") else ctypes.CDLL("librt.so.1", use_errno=True)
        ctypes.c_char_p.in_dll(library, "program_invocation_short_name").value = name
        clock = ctypes.c_int(time.CLOCK_THREAD_CPUTIME_ID)
        self._timers: list[tuple[ctypes.c_void_p, float]] = []
        for function, argument, seconds in calls:
            address = ctypes.cast(getattr(library, function), ctypes.c_void_p).value
            event = _Event(value=argument, notify=_SIGEV_THREAD, function=address)
            timer = ctypes.c_void_p()
            if self._library.timer_create(clock, ctypes.byref(event), ctypes.byref(timer)):
                self.close()
                raise OSError(ctypes.get_errno(), "timer_create")
            self._timers.append((timer, seconds))

    def start(self) -> None:
        """Let all seconds begin anew, from now."""
        for timer, seconds in self._timers:
            setting = _Setting()
            setting.value[0], setting.value[1] = int(seconds), int(seconds % 1 * 1e9)
            self._library.timer_settime(timer, 0, ctypes.byref(setting), None)

    def close(self) -> None:
        """Remove the timers."""
        while self._timers:
            self._library.timer_delete(self._timers.pop()[0])
