"""The checks that single filters need beside the general ones: what would they make of these arguments?

Each raises ``OverBudget``, or the errors of ``as_text`` for a value that has no text.
"""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Any

from mailbatch.infrastructure.templates.budget import OverBudget, check_list_length, current_budget
from mailbatch.infrastructure.templates.null_values import is_defined
from mailbatch.infrastructure.templates.operations import (
    check_format,
    check_number_text,
    check_padding,
    check_power,
    check_replacement,
)
from mailbatch.infrastructure.templates.text_values import as_text, ensure_formattable

if TYPE_CHECKING:
    from collections.abc import Callable

_NANOSECONDS_OF_A_LINE = 5_000
"""What each line costs ``wordwrap`` beside its characters."""
_WIDEST_INDENT_OF_JSON = 16
"""Nesting multiplies it."""


def check_nothing(*_: Any, **__: Any) -> None:
    """Check nothing more."""


def _trim(value: Any, chars: str | None = None) -> None:
    if chars is not None:
        current_budget().use_time(len(str(value)) * len(str(chars)))


def _center(_value: Any, width: int = 80) -> None:
    check_padding(width)


def _indent(text: Any, width: int | str = 4, *_: Any, **__: Any) -> None:
    columns = len(width) if isinstance(width, str) else width
    check_padding(columns)
    current_budget().check_length(len(str(text)) + (str(text).count("\n") + 1) * columns)


def _wordwrap(
    text: Any, width: int = 79, break_long_words: Any = 1, wrapstring: str | None = None, *_: Any, **__: Any
) -> None:
    budget = current_budget()
    wrapstring, text = wrapstring or "\n", str(text)
    budget.check_length(len(text) + len(text) // max(width, 1) * len(wrapstring))
    if len(wrapstring) > 1:
        check_padding(len(wrapstring))
        budget.check_length(len(text) * len(wrapstring))
    # A word that is longer than the line is copied once for each line that it fills.
    longest = max(map(len, text.split()), default=0) if break_long_words and len(text) > width else 0
    copied = longest * len(text) // max(width, 1)
    budget.use_time((text.count("\n") + 1) * _NANOSECONDS_OF_A_LINE + copied // 4)


def _format(value: Any, *args: Any, **kwargs: Any) -> None:
    check_format(str(value), kwargs or args)
    ensure_formattable(str(value), kwargs or args)


def _replace(text: Any, old: Any, new: Any, *_: Any, **__: Any) -> None:
    check_replacement(str(text), as_text(old, "what replace looks for"), as_text(new, "what replace puts in"))


def _urlencode(value: Any) -> None:
    if isinstance(value, (dict, list, tuple)):
        pairs = value.items() if isinstance(value, dict) else value
        for part in chain.from_iterable(pairs):
            as_text(part, "a value given to urlencode")
    else:
        as_text(value, "a value given to urlencode")


def _xmlattr(value: Any, *_: Any, **__: Any) -> None:
    for part in value.values() if isinstance(value, dict) else ():
        if is_defined(part):
            as_text(part, "a value given to xmlattr")


def _batch(_value: Any, linecount: int, *_: Any, **__: Any) -> None:
    check_list_length(linecount)


def _slice(_value: Any, slices: int, *_: Any, **__: Any) -> None:
    check_list_length(slices)


def _nl2br(value: Any) -> None:
    check_replacement(str(value), "\n", "<br>\n")


def _number(value: Any, *_: Any, **__: Any) -> None:
    check_number_text(value)


def _round(value: Any, precision: int = 0, *_: Any, **__: Any) -> None:
    check_padding(precision)
    if isinstance(value, int):
        check_power(10, precision)


def _sum(_value: Any, attribute: Any = None, start: Any = 0) -> None:  # noqa: ARG001 - its place
    # From a list on it copies the whole sum at each step, and no step can be counted in between.
    if not isinstance(start, (int, float)):
        raise OverBudget("adds up something other than numbers")


def _tojson(_value: Any, indent: int | None = None) -> None:
    if indent is not None and indent > _WIDEST_INDENT_OF_JSON:
        raise OverBudget(f"indents JSON by {indent}; at most {_WIDEST_INDENT_OF_JSON} is allowed")


CHECKS: dict[str, Callable[..., None]] = {
    "batch": _batch,
    "center": _center,
    "filesizeformat": _number,
    "float": _number,
    "format": _format,
    "indent": _indent,
    "int": _number,
    "nl2br": _nl2br,
    "replace": _replace,
    "round": _round,
    "slice": _slice,
    "sum": _sum,
    "tojson": _tojson,
    "trim": _trim,
    "urlencode": _urlencode,
    "wordwrap": _wordwrap,
    "xmlattr": _xmlattr,
}
"""The check of a filter by the filter's name; it gets the filter's own arguments."""
