"""What one rendering may use up, and the measures that tell beforehand what an operation would make."""

from __future__ import annotations

import os
import re
import time
from contextvars import ContextVar
from itertools import islice
from pathlib import Path
from typing import Any

from jinja2.environment import TemplateModule
from jinja2.exceptions import SecurityError
from jinja2.runtime import LoopContext
from jinja2.utils import Cycler, Namespace

STEPS = 1_000_000
SECONDS = 5.0
"""Of this thread's own: a machine that is busy with other things is no mail's fault."""
_BETWEEN_LOOKS = 20
"""Steps after which the clock is looked at, the first time to start it: most mails never do."""
WIDEST = 1_000
"""Characters to which anything is padded, and digits of a precision, at most."""
LONGEST_LIST = 100_000
NANOSECONDS_AT_ONCE = 1_000_000_000
"""What one operation may take, by an estimate for its worst input: nothing interrupts the interpreter inside of one."""
_NANOSECONDS_OF_A_STEP = int(SECONDS * 1e9) // STEPS
_LONGEST_NUMBER = 4_300
"""Characters of a text that is read as a number: Python's own limit for decimal ones."""
_LONGEST_FORMAT = 100_000
_NODE = 16
"""Characters as which a value within a list or a dict counts, beside its own."""
WRITTEN = 8
"""How many times ``most`` may be written in all, into macros, set blocks and from them on."""
BITS = 4_096
GROWTH = 64 * 2**20
"""Bytes by which the process may grow while it renders, beside what may be written."""
_BETWEEN_WEIGHINGS = 1_000
_BIG = 8_192
"""Characters, or members of a list, from which on a value is big: the process is weighed when one is made."""
PLAIN: frozenset[Any] = frozenset({int, float, bool, type(None)})
SHORT = 256
"""Characters up to which a text is handled as fast as a number."""
_PAGE = os.sysconf("SC_PAGE_SIZE")
_DIGITS = re.compile(r"\d+")
VIEWS: tuple[type, ...] = (type({}.keys()), type({}.values()), type({}.items()))
# Objects of Jinja2 that hold values and spell them out, or have them as attributes.
_HOLDERS = (Namespace, TemplateModule, Cycler, LoopContext)
# A width that comes from a value: "%*d" (its flags and digits before the star), "{:{}}".
_STARRED = re.compile(r"%[-+ #0\d.]*\*")
_NESTED = re.compile(r"\{[^{}]+\{")


class OverBudget(SecurityError):
    """A template asks for more than it is given; the text says of what."""


class Budget:
    """Steps, seconds, characters (``most``) of any one value, and the memory of all together.

    That is measured on the process itself, for nobody counts what a value costs and whether it is still held; where
    the system does not tell (other than Linux) it is not bounded.
    """

    def __init__(self, most: int, steps: int = STEPS, seconds: float = SECONDS) -> None:
        self.most = most
        self._left = most * WRITTEN
        self._all_steps = self._steps = steps
        self._seconds = seconds
        self._until: float | None = None
        self._look_below = steps - _BETWEEN_LOOKS
        self._weigh_below = steps - _BETWEEN_WEIGHINGS
        self._weight: int | None = None

    def step(self, count: int = 1) -> None:
        """Use up ``count`` steps."""
        self._steps -= count
        if self._steps >= self._look_below:
            return
        self._look_below = self._steps - _BETWEEN_LOOKS
        if self._steps < 0:
            raise OverBudget(f"takes more than {self._all_steps} steps; look for a loop in a loop")
        now = time.thread_time()
        if self._until is None:
            self._until = now + self._seconds
        elif now > self._until:
            raise OverBudget(f"takes longer than {self._seconds:g} seconds")
        if self._steps < self._weigh_below:
            self._weigh_below = self._steps - _BETWEEN_WEIGHINGS
            self._weigh()

    def _weigh(self) -> None:
        weight = _resident()
        if self._weight is None:
            self._weight = weight
        elif weight - self._weight > GROWTH + self.most * WRITTEN:
            raise OverBudget("takes too much memory; look for a list of long texts")

    def room(self, size: int) -> None:
        """See that a text of ``size`` characters may be made."""
        if size > self.most:
            raise OverBudget(f"makes a text of more than {self.most} characters")

    def write(self, size: int) -> None:
        """Use up ``size`` characters of what may be written in all."""
        self._left -= size
        if self._left < 0:
            raise OverBudget(f"writes more than {self.most * WRITTEN} characters, counting what it writes again")

    def work(self, nanoseconds: int) -> None:
        """See that one operation may take so long, by an estimate, and use up as many steps as others do in that."""
        if nanoseconds > NANOSECONDS_AT_ONCE:
            raise OverBudget(f"takes too long at once; it is given about {NANOSECONDS_AT_ONCE // 10**9} second")
        if nanoseconds > _NANOSECONDS_OF_A_STEP:
            self.step(nanoseconds // _NANOSECONDS_OF_A_STEP)

    def weigh(self, value: Any) -> int:
        """See that ``value`` may be spelled out: a list that holds one list twice, and so on, grows by the power.

        Return about how many characters it has then.
        """
        total, nodes, rest = 0, 0, [value]
        while rest:
            item = rest.pop()
            if isinstance(item, str):
                total += len(item)
                self.room(total)
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
        return total + nodes * _NODE

    def check(self, value: Any) -> Any:
        """Answer ``value``, which is new, if it is within the limits; that is a step."""
        self._steps -= 1
        if self._steps < self._look_below:
            self.step(0)
        if isinstance(value, str):
            if len(value) > _BIG:
                self.room(len(value))
                self._weigh()
        elif isinstance(value, (list, tuple)):
            listed(len(value))
            self.made(value)
        elif isinstance(value, int):
            numbered(value.bit_length())
        return value

    def made(self, value: Any) -> Any:
        """Answer ``value``, which is new and not too long, if there is memory for it."""
        if isinstance(value, (str, list, tuple)) and len(value) > _BIG:
            self._weigh()
        return value


_current: ContextVar[Budget] = ContextVar("budget")


def budget() -> Budget:
    """Answer the budget of the rendering in progress."""
    return _current.get()


class spending:  # noqa: N801 - reads as a statement; written out, for a generator would take longer than it guards
    """Let whatever is compiled or rendered inside use up ``what``."""

    def __init__(self, what: Budget) -> None:
        self._what = what

    def __enter__(self) -> Budget:
        self._token = _current.set(self._what)
        return self._what

    def __exit__(self, *_: object) -> None:
        _current.reset(self._token)


def small(value: Any) -> bool:
    """Return whether ``value`` is a number or a short text, with which nothing takes long."""
    kind = value.__class__
    return kind in PLAIN or (kind is str and len(value) <= SHORT)


def listed(count: int) -> None:
    """See that a list of ``count`` values may be made."""
    if count > LONGEST_LIST:
        raise OverBudget(f"makes a list of more than {LONGEST_LIST} values")


def numbered(bits: int) -> None:
    """See that an integer of ``bits`` bits may be made."""
    if bits > BITS:
        raise OverBudget(f"makes a number of more than {BITS} bits")


def padded(width: Any) -> None:
    """See that something may be padded to ``width`` characters."""
    if isinstance(width, int) and abs(width) > WIDEST:
        raise OverBudget(f"pads to {width} characters; at most {WIDEST} are allowed")


def formatted(text: str, values: Any) -> None:
    """See that no width in the format string ``text`` is wide or comes from a value, and that its result has room."""
    if len(text) > _LONGEST_FORMAT:
        raise OverBudget(f"formats by a text of more than {_LONGEST_FORMAT} characters")
    for digits in _DIGITS.findall(text):
        if len(digits) > len(str(WIDEST)) or int(digits) > WIDEST:
            raise OverBudget(f"formats with the number {digits[:12]}; at most {WIDEST} is allowed")
    if _STARRED.search(text) or _NESTED.search(text):
        raise OverBudget("formats with a width taken from a value, which is not allowed")
    if len(text) <= SHORT and small(values):
        return
    budget().weigh(values)
    # A placeholder, at least two characters long, can each time stand for the longest value.
    budget().room(len(text) + (text.count("%") + text.count("{")) * _longest(values))


def counted_as_number(value: Any) -> None:
    """See that ``value`` may be read as a number."""
    if isinstance(value, str) and len(value) > _LONGEST_NUMBER:
        raise OverBudget(f"reads a text of more than {_LONGEST_NUMBER} characters as a number")


def gathered(values: Any) -> Any:
    """Return ``values`` as something with a length and no more than a list may have; a generator becomes a list."""
    if not isinstance(values, (list, tuple, dict, set, str, range, *VIEWS)):
        values = list(islice(values, LONGEST_LIST + 1))
    listed(len(values))
    return values


def replaced(text: str, old: Any, new: Any) -> None:
    """See that ``text`` has room for every ``old`` to become ``new``."""
    budget().room(len(text) + text.count(str(old)) * len(str(new)))


def added(left: Any, right: Any) -> None:
    """Measure ``left + right``."""
    if isinstance(left, str) and isinstance(right, str):
        budget().room(len(left) + len(right))
    elif isinstance(left, (list, tuple)) and isinstance(right, (list, tuple)):
        listed(len(left) + len(right))


def multiplied(left: Any, right: Any) -> None:
    """Measure ``left * right``."""
    if isinstance(right, (str, list, tuple)):
        left, right = right, left
    if not isinstance(right, int):
        return
    if isinstance(left, str):
        budget().room(len(left) * right)
    elif isinstance(left, (list, tuple)):
        listed(len(left) * right)
    elif isinstance(left, int):
        numbered(left.bit_length() + right.bit_length())


def raised(left: Any, right: Any) -> None:
    """Measure ``left ** right``."""
    if isinstance(left, int) and isinstance(right, int):
        numbered(left.bit_length() * abs(right))


def subtracted(left: Any, right: Any) -> Any:
    """Return ``left - right``; of the keys of dicts each of ``right`` is looked up."""
    if isinstance(left, (set, *VIEWS)):
        right = gathered(right)
        budget().weigh((left, right))
    return left - right


def remained(left: Any, right: Any) -> None:
    """Measure ``left % right``, which for a text is formatting."""
    if isinstance(left, str):
        formatted(left, right)


def _longest(values: Any) -> int:
    """Answer how long the longest of ``values`` is when it is spelled out, about."""
    if isinstance(values, dict):
        values = tuple(values.values())
    return max(
        (len(v if isinstance(v, str) else str(v)) for v in (values if _is_many(values) else (values,))), default=0
    )


def _resident() -> int:
    """Bytes that this process holds in memory; 0 where the system does not tell."""
    try:
        return int(Path("/proc/self/statm").read_bytes().split()[1]) * _PAGE
    except OSError:
        return 0


def _is_many(values: Any) -> bool:
    return isinstance(values, (tuple, list))
