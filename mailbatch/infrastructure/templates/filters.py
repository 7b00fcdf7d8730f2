"""The filters, tests and methods of text that templates may use, measured before they can grow without measure."""

from __future__ import annotations

import re
from functools import wraps
from itertools import islice
from typing import TYPE_CHECKING, Any

from jinja2.filters import FILTERS
from jinja2.tests import TESTS

from mailbatch.infrastructure.templates.budget import (
    LONGEST_LIST,
    OverBudget,
    budget,
    formatted,
    listed,
    padded,
    raised,
    replaced,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

# Filters that spell out what they are given. What is named in neither list is not there: of Jinja2's own that is
# pprint, urlize (quadratic on hostile text) and whatever a later version may add.
_TEXT = frozenset(
    """capitalize center e escape filesizeformat float forceescape format indent int lower replace safe string
    striptags title tojson trim truncate upper urlencode wordcount wordwrap xmlattr""".split()  # noqa: SIM905 - read as prose, not as a column of quotes
)
_LIST = frozenset(
    """abs attr batch count d default dictsort first groupby items join last length list map max min random reject
    rejectattr reverse round select selectattr slice sort sum unique""".split()  # noqa: SIM905 - as above
)
# Given a text, these go through it sign by sign, and most make a list of all.
_WALK = _LIST - {"abs", "attr", "count", "d", "default", "first", "last", "length", "random", "reverse", "round"}
_SPLIT = {"split": re.compile(r"\s+"), "rsplit": re.compile(r"\s+"), "splitlines": re.compile(r"\s")}
MEASURED_METHODS = frozenset({"center", "format", "format_map", "join", "ljust", "replace", "rjust", "zfill", *_SPLIT})


def measured_filters() -> dict[str, Callable[..., Any]]:
    """Answer the filters by name."""
    return {name: _measured(name, FILTERS[name]) for name in _TEXT | _LIST}


def counted_tests() -> dict[str, Any]:
    """Answer the tests by name; each use is a step, for ``select`` uses one a hundred thousand times."""
    return {name: _counted(function) for name, function in TESTS.items()}


def measured_method(text: str, method: Callable[..., str]) -> Callable[..., str]:
    """Wrap ``method`` of ``text``, one of ``MEASURED_METHODS``."""
    name = method.__name__

    @wraps(method)
    def measured(*args: Any, **kwargs: Any) -> Any:
        if name == "join":
            args = (_joined(text, *args),)
        elif name == "replace":
            replaced(text, *args[:2])
        elif name in ("format", "format_map"):
            formatted(text, [*args, *kwargs.values()])
        elif name in _SPLIT:
            _split(name, text, *args, **kwargs)
        else:
            padded(args[0] if args else None)
        return budget().check(method(*args, **kwargs))

    return measured


def _counted(function: Any) -> Callable[..., Any]:
    @wraps(function)
    def counted(*args: Any, **kwargs: Any) -> Any:
        budget().step()
        return function(*args, **kwargs)

    return counted


def _measured(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    # Filters that Jinja2 hands its context, environment or evaluation context take that first.
    skip = 1 if hasattr(function, "jinja_pass_arg") else 0
    measure = _MEASURES.get(name)

    @wraps(function)
    def measured(*args: Any, **kwargs: Any) -> Any:
        if name in _TEXT:
            budget().weigh([*args[skip:], *kwargs.values()])
        elif name in _WALK and args[skip:] and isinstance(args[skip], str):
            listed(len(args[skip]))
        if name == "join":
            args = (*args[:skip], _joined(kwargs.get("d", ""), *args[skip:]), *args[skip + 1 :])
        if measure:
            measure(*args[skip:], **kwargs)
        return budget().check(function(*args, **kwargs))

    return measured


def _joined(separator: Any, values: Iterable[Any] = (), *more: Any) -> list[Any]:
    """Answer ``values`` as a list if there is room for them, joined."""
    separator = more[0] if more else separator
    pieces = list(values)
    listed(len(pieces))
    budget().weigh(pieces)
    budget().room(len(pieces) * len(str(separator)))
    return pieces


def _split(name: str, text: str, sep: Any = None, maxsplit: int = -1, **_: Any) -> None:
    if len(text) < LONGEST_LIST or 0 <= maxsplit < LONGEST_LIST:
        return
    if name != "splitlines" and isinstance(sep, str) and sep:
        listed(text.count(sep) + 1)
    else:
        listed(sum(1 for _ in islice(_SPLIT[name].finditer(text), LONGEST_LIST)) + 1)


def _center(_value: Any, width: int = 80) -> None:
    padded(width)


def _indent(text: Any, width: int | str = 4, *_: Any, **__: Any) -> None:
    columns = len(width) if isinstance(width, str) else width
    padded(columns)
    budget().room(len(str(text)) + (str(text).count("\n") + 1) * columns)


def _wordwrap(text: Any, width: int = 79, *args: Any, **kwargs: Any) -> None:
    wrapstring = kwargs.get("wrapstring") or (args[1] if len(args) > 1 else None) or "\n"
    budget().room(len(str(text)) + len(str(text)) // max(width, 1) * len(wrapstring))
    if len(wrapstring) > 1:
        padded(len(wrapstring))
        budget().room(len(str(text)) * len(wrapstring))


def _format(value: Any, *args: Any, **kwargs: Any) -> None:
    formatted(str(value), kwargs or args)


def _replace(text: Any, old: Any, new: Any, *_: Any, **__: Any) -> None:
    replaced(str(text), old, new)


def _columns(_value: Any, count: int, *_: Any, **__: Any) -> None:
    listed(count)


def _round(value: Any, precision: int = 0, *_: Any, **__: Any) -> None:
    padded(precision)
    if isinstance(value, int):
        raised(10, precision)


def _sum(_value: Any, _attribute: Any = None, start: Any = 0) -> None:
    # From a list on it copies all of the sum at each step, out of reach of any count.
    if not isinstance(start, (int, float)):
        raise OverBudget("adds up something other than numbers")


def _tojson(_value: Any, indent: int | None = None) -> None:
    if indent is not None and indent > 16:  # noqa: PLR2004 - deep nesting multiplies it
        raise OverBudget(f"indents JSON by {indent}; at most 16 is allowed")


_MEASURES: dict[str, Callable[..., None]] = {
    "batch": _columns,
    "center": _center,
    "format": _format,
    "indent": _indent,
    "replace": _replace,
    "round": _round,
    "slice": _columns,
    "sum": _sum,
    "tojson": _tojson,
    "wordwrap": _wordwrap,
}
