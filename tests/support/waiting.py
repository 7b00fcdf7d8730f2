"""Waiting for a condition with a deadline, in place of sleeping by the clock."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

PATIENCE = 60.0
"""Seconds that every wait has at least. A wait ends when its condition is met, so this costs only a test that fails;
a shorter one would fail on a busy machine."""


def wait_until(
    predicate: Callable[[], T | None], timeout: float, what: str | Callable[[], str], *, every: float = 0.02
) -> T:
    """Call ``predicate`` until it returns something true, and return that.

    Raises ``AssertionError`` that names ``what`` after ``timeout`` seconds, ``PATIENCE`` at least. A callable ``what``
    is called only then. A test that promises a time measures it itself.
    """
    timeout = max(timeout, PATIENCE)
    deadline = time.monotonic() + timeout
    while True:
        if answer := predicate():
            return answer
        if time.monotonic() >= deadline:
            named = what if isinstance(what, str) else what()
            raise AssertionError(f"waited {timeout:g} s in vain: {named}")
        time.sleep(every)
