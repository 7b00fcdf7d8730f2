"""Checks an operation before it begins: would its result be too long, or the operation take too long?

Each check raises ``OverBudget``.
"""

from __future__ import annotations

import re
from itertools import islice
from typing import Any

from mailbatch.infrastructure.templates.budget import (
    LONGEST_LIST,
    SHORT,
    VIEWS,
    OverBudget,
    check_integer,
    check_list_length,
    current_budget,
    is_small,
)
from mailbatch.infrastructure.templates.text_values import ensure_formattable

WIDEST = 1_000
"""Characters to which anything is padded, and digits of a precision, at most."""
_LONGEST_NUMBER = 4_300
"""Characters of a text that is read as a number: Python's own limit for decimal ones."""
_LONGEST_FORMAT = 100_000
NANOSECONDS_OF_A_CHARACTER = 30
"""The most that a character costs an operation for which nothing else is said."""
_DIGITS = re.compile(r"\d+")
# A width that comes from a value: "%*d" (its flags and digits before the star), "{:{}}".
_STARRED = re.compile(r"%[-+ #0\d.]*\*")
_NESTED = re.compile(r"\{[^{}]+\{")


def check_addition(left: Any, right: Any) -> None:
    """Check ``left + right``."""
    if isinstance(left, str) and isinstance(right, str):
        current_budget().check_length(len(left) + len(right))
    elif isinstance(left, (list, tuple)) and isinstance(right, (list, tuple)):
        check_list_length(len(left) + len(right))


def check_multiplication(left: Any, right: Any) -> None:
    """Check ``left * right``."""
    if isinstance(right, (str, list, tuple)):
        left, right = right, left
    if not isinstance(right, int):
        return
    if isinstance(left, str):
        current_budget().check_length(len(left) * right)
    elif isinstance(left, (list, tuple)):
        check_list_length(len(left) * right)
    elif isinstance(left, int):
        check_integer(left.bit_length() + right.bit_length())


def check_power(left: Any, right: Any) -> None:
    """Check ``left ** right``."""
    if isinstance(left, int) and isinstance(right, int):
        check_integer(left.bit_length() * abs(right))


def check_remainder(left: Any, right: Any) -> None:
    """Check ``left % right``, which for a text is formatting."""
    if isinstance(left, str):
        check_format(left, right)


def check_percent(left: Any, right: Any) -> None:
    """Check the operator ``%``: as ``check_remainder``, and each value that a text is formatted with has a text."""
    check_remainder(left, right)
    if isinstance(left, str):
        ensure_formattable(left, right)


def subtract(left: Any, right: Any) -> Any:
    """Return ``left - right``. From the keys of a dict each of ``right`` is removed by a look-up."""
    if isinstance(left, (set, *VIEWS)):
        right = with_length(right)
        current_budget().measure((left, right))
    return left - right


def check_padding(width: Any) -> None:
    """Check padding to ``width`` characters."""
    if isinstance(width, int) and abs(width) > WIDEST:
        raise OverBudget(f"pads to {width} characters; at most {WIDEST} are allowed")


def check_format(text: str, values: Any) -> None:
    """Check formatting ``values`` by ``text``: no width is large or comes from a value, and the result fits."""
    if len(text) > _LONGEST_FORMAT:
        raise OverBudget(f"formats by a text of more than {_LONGEST_FORMAT} characters")
    for digits in _DIGITS.findall(text):
        if len(digits) > len(str(WIDEST)) or int(digits) > WIDEST:
            raise OverBudget(f"formats with the number {digits[:12]}; at most {WIDEST} is allowed")
    if _STARRED.search(text) or _NESTED.search(text):
        raise OverBudget("formats with a width taken from a value, which is not allowed")
    if len(text) <= SHORT and is_small(values):
        return
    current_budget().measure(values)
    # Each placeholder can stand for the longest value.
    current_budget().check_length(len(text) + (text.count("%") + text.count("{")) * _longest(values))


def check_number_text(value: Any) -> None:
    """Check reading ``value`` as a number."""
    if isinstance(value, str) and len(value) > _LONGEST_NUMBER:
        raise OverBudget(f"reads a text of more than {_LONGEST_NUMBER} characters as a number")


def check_replacement(text: str, old: Any, new: Any) -> None:
    """Check replacing every ``old`` in ``text`` by ``new``."""
    current_budget().check_length(len(text) + text.count(str(old)) * len(str(new)))


def check_join(separator: Any, values: Any = (), *_: Any) -> list[Any]:
    """Return ``values`` as a list if they may be joined by ``separator``."""
    pieces = list(with_length(values))
    current_budget().measure((pieces, separator))
    current_budget().check_length(len(pieces) * len(str(separator)))
    return pieces


def with_length(values: Any) -> Any:
    """Return ``values`` with a length, and no longer than a list may be; a generator becomes a list."""
    if not isinstance(values, (list, tuple, dict, set, str, range, *VIEWS)):
        values = list(islice(values, LONGEST_LIST + 1))
    check_list_length(len(values))
    return values


def _longest(values: Any) -> int:
    """Return about how many characters the longest of ``values`` has when it is spelled out."""
    if isinstance(values, dict):
        values = tuple(values.values())
    many = values if isinstance(values, (tuple, list)) else (values,)
    return max((len(v if isinstance(v, str) else str(v)) for v in many), default=0)
