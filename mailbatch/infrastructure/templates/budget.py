"""The budget of one rendering: steps, seconds, characters of a value, and memory."""

from __future__ import annotations

import os
import time
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Self

from jinja2.environment import TemplateModule
from jinja2.exceptions import SecurityError
from jinja2.runtime import LoopContext
from jinja2.utils import Cycler, Namespace

STEPS = 1_000_000
SECONDS = 5.0
"""CPU time of this thread, because a mail is not at fault if the machine is busy with other things."""
STEPS_BETWEEN_CLOCK_READS = 64
"""The first read comes after as many steps and starts the clock: most mails never get so far."""
LONGEST_LIST = 100_000
NANOSECONDS_AT_ONCE = 1_000_000_000
"""The longest time of one operation, estimated for its worst input: nothing can interrupt the interpreter in one."""
_NANOSECONDS_OF_A_STEP = int(SECONDS * 1e9) // STEPS
_CHARACTERS_OF_A_NODE = 16
"""A value in a list or a dict counts as so many characters, beside its own."""
WRITTEN = 8
"""All writes together, into macros, into set blocks and from there, may have ``WRITTEN`` times ``max_characters``."""
BITS = 4_096
GROWTH = 64 * 2**20
"""Bytes by which the process may grow while it renders, beside what may be written."""
_STEPS_BETWEEN_MEMORY_CHECKS = 1_000
_BIG = 8_192
"""Characters of a text, or members of a list, from which on a new value makes us check the process's memory."""
PLAIN: frozenset[Any] = frozenset({int, float, bool, type(None)})
SHORT = 256
"""Characters up to which every operation on a text is as fast as one on a number."""
_PAGE = os.sysconf("SC_PAGE_SIZE")
VIEWS: tuple[type, ...] = (type({}.keys()), type({}.values()), type({}.items()))
# Objects of Jinja2 that hold values and spell them out, or have them as attributes.
_HOLDERS = (Namespace, TemplateModule, Cycler, LoopContext)


class OverBudget(SecurityError):
    """A template asks for more than its budget; the text says of what."""


class Budget:
    """Steps, CPU seconds, characters of any one value (``max_characters``), and the memory of all values together.

    Memory is measured on the process itself, because nobody counts what a value takes and whether it is still held.
    Where the system does not report it (other than Linux) it is not bounded.

    All that is compiled or rendered inside ``with Budget(…)`` uses it up.
    """

    def __init__(self, max_characters: int, steps: int = STEPS, seconds: float = SECONDS) -> None:
        self.max_characters = max_characters
        self._characters_left = max_characters * WRITTEN
        self._all_steps = self._steps = steps
        self._seconds = seconds
        self._deadline: float | None = None
        self._read_clock_below = steps - STEPS_BETWEEN_CLOCK_READS
        self._check_memory_below = steps - _STEPS_BETWEEN_MEMORY_CHECKS
        self._memory_at_first: int | None = None

    def __enter__(self) -> Self:
        self._token = _current.set(self)
        return self

    def __exit__(self, *_: object) -> None:
        _current.reset(self._token)

    def step(self, count: int = 1) -> None:
        """Use up ``count`` steps."""
        self._steps -= count
        if self._steps >= self._read_clock_below:
            return
        self._read_clock_below = self._steps - STEPS_BETWEEN_CLOCK_READS
        if self._steps < 0:
            raise OverBudget(f"takes more than {self._all_steps} steps; look for a loop in a loop")
        now = time.thread_time()
        if self._deadline is None:
            self._deadline = now + self._seconds
        elif now > self._deadline:
            raise OverBudget(f"takes longer than {self._seconds:g} seconds")
        if self._steps < self._check_memory_below:
            self._check_memory_below = self._steps - _STEPS_BETWEEN_MEMORY_CHECKS
            self._check_memory()

    def _check_memory(self) -> None:
        memory = _resident_bytes()
        if self._memory_at_first is None:
            self._memory_at_first = memory
        elif memory - self._memory_at_first > GROWTH + self.max_characters * WRITTEN:
            raise OverBudget("takes too much memory; look for a list of long texts")

    def check_length(self, characters: int) -> None:
        """Raise unless a text of so many characters may be made."""
        if characters > self.max_characters:
            raise OverBudget(f"makes a text of more than {self.max_characters} characters")

    def use_written(self, characters: int) -> None:
        """Use up so many of the characters that may be written in all."""
        self._characters_left -= characters
        if self._characters_left < 0:
            most = self.max_characters * WRITTEN
            raise OverBudget(f"writes more than {most} characters, counting what it writes again")

    def use_time(self, nanoseconds: int) -> None:
        """Raise unless one operation may take so long, by an estimate; use up the steps that fit into that time."""
        if nanoseconds > NANOSECONDS_AT_ONCE:
            raise OverBudget(f"takes too long at once; it is given about {NANOSECONDS_AT_ONCE // 10**9} second")
        if nanoseconds > _NANOSECONDS_OF_A_STEP:
            self.step(nanoseconds // _NANOSECONDS_OF_A_STEP)

    def measure(self, value: Any) -> int:
        """Return about how many characters ``value`` has when it is spelled out; raise if these are too many.

        A list that holds one list twice, which holds another twice, and so on, doubles with each level.
        """
        total, nodes, rest = 0, 0, [value]
        while rest:
            item = rest.pop()
            if isinstance(item, str):
                total += len(item)
                self.check_length(total)
                continue
            if isinstance(item, (list, tuple, set, *VIEWS)):
                inside: Any = item
            elif isinstance(item, dict):
                inside = (*item.keys(), *item.values())
            elif isinstance(item, _HOLDERS):
                inside = object.__getattribute__(item, "__dict__").values()
            else:
                continue
            self.step(len(inside) + 1)
            nodes += len(inside) + 1
            rest += inside
        return total + nodes * _CHARACTERS_OF_A_NODE

    def check_result(self, value: Any) -> Any:
        """Return ``value``, which is new, if it is within the limits; this is a step."""
        self._steps -= 1
        if self._steps < self._read_clock_below:
            self.step(0)
        if isinstance(value, str):
            if len(value) > _BIG:
                self.check_length(len(value))
                self._check_memory()
        elif isinstance(value, (list, tuple)):
            check_list_length(len(value))
            self.check_memory_of(value)
        elif isinstance(value, int):
            check_integer(value.bit_length())
        return value

    def check_memory_of(self, value: Any) -> Any:
        """Return ``value``, which is new and not too long, if there is memory for it."""
        if isinstance(value, (str, list, tuple)) and len(value) > _BIG:
            self._check_memory()
        return value


_current: ContextVar[Budget] = ContextVar("budget")


def current_budget() -> Budget:
    """Return the budget of the rendering in progress."""
    return _current.get()


def is_small(value: Any) -> bool:
    """Return whether ``value`` is a number or a short text, with which no operation takes long."""
    kind = value.__class__
    return kind in PLAIN or (kind is str and len(value) <= SHORT)


def check_list_length(count: int) -> None:
    """Raise unless a list of ``count`` values may be made."""
    if count > LONGEST_LIST:
        raise OverBudget(f"makes a list of more than {LONGEST_LIST} values")


def check_integer(bits: int) -> None:
    """Raise unless an integer of ``bits`` bits may be made."""
    if bits > BITS:
        raise OverBudget(f"makes a number of more than {BITS} bits")


def _resident_bytes() -> int:
    """Return the bytes of memory that this process holds; 0 where the system does not report them."""
    try:
        return int(Path("/proc/self/statm").read_bytes().split()[1]) * _PAGE
    except OSError:
        return 0
