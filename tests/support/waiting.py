"""Waiting for a condition with a deadline, in place of sleeping by the clock."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


def wait_until(
    predicate: Callable[[], T | None], timeout: float, what: str | Callable[[], str], *, every: float = 0.02
) -> T:
    """Ask ``predicate`` until its answer is true, and give it back.

    Raises ``AssertionError`` that names ``what`` after ``timeout`` seconds; a callable ``what`` is asked only then.
    """
    deadline = time.monotonic() + timeout
    while True:
        if answer := predicate():
            return answer
        if time.monotonic() >= deadline:
            named = what if isinstance(what, str) else what()
            raise AssertionError(f"waited {timeout:g} s in vain: {named}")
        time.sleep(every)
