"""Timers of the kernel that call a function of the C library, without the interpreter and without its lock.

They are POSIX timers (``timer_create`` with ``SIGEV_THREAD``) on the processor time of one thread. That clock stands
still while the process is stopped, the machine sleeps or the thread waits, so none of these looks like a hang.
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


def in_native_thread() -> bool:
    """Return whether this runs in a thread of the kernel, and not in a greenlet of gevent or eventlet."""
    pthread_self = ctypes.CDLL(None).pthread_self
    pthread_self.restype = ctypes.c_ulong
    return int(pthread_self()) == threading.get_ident()


class NativeTimers:
    """Calls functions of the C library when the thread that made this object has used so much processor time.

    ``calls``: the name of a function, its only argument (an integer or an address), and seconds. ``name`` is this
    program's name in the library's messages. Raises ``OSError`` or ``AttributeError`` if the system has no such timers.
    """

    def __init__(self, name: bytes, calls: Sequence[tuple[str, int, float]]) -> None:
        library = ctypes.CDLL(None, use_errno=True)
        # Before glibc 2.34 these functions are in a library of their own.
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
        """Start all timers anew."""
        for timer, seconds in self._timers:
            setting = _Setting()
            setting.value[0], setting.value[1] = int(seconds), int(seconds % 1 * 1e9)
            self._library.timer_settime(timer, 0, ctypes.byref(setting), None)

    def close(self) -> None:
        """Remove the timers."""
        while self._timers:
            self._library.timer_delete(self._timers.pop()[0])
