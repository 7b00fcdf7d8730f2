"""The methods of values that templates may call, each checked before it runs."""

from __future__ import annotations

import re
from functools import wraps
from itertools import islice
from typing import TYPE_CHECKING, Any

from jinja2.filters import _GroupTuple
from jinja2.runtime import LoopContext

from mailbatch.infrastructure.templates.budget import (
    LONGEST_LIST,
    SHORT,
    check_list_length,
    current_budget,
    is_small,
)
from mailbatch.infrastructure.templates.comparisons import check_hash, check_search
from mailbatch.infrastructure.templates.operations import (
    NANOSECONDS_OF_A_CHARACTER,
    check_format,
    check_join,
    check_padding,
    check_replacement,
)

if TYPE_CHECKING:
    from collections.abc import Callable

_TEXT_METHODS = frozenset(
    """capitalize casefold center count endswith find index isalnum isalpha isascii isdecimal isdigit islower isnumeric
    isspace istitle isupper join ljust lower lstrip partition removeprefix removesuffix replace rfind rindex rjust
    rpartition rsplit rstrip split splitlines startswith strip swapcase title upper zfill""".split()  # noqa: SIM905 - read as prose, not as a column of quotes
)
METHODS: dict[type, frozenset[str]] = {
    str: _TEXT_METHODS,
    bytes: frozenset(),
    int: frozenset(),
    float: frozenset({"is_integer"}),
    dict: frozenset({"get", "items", "keys", "values"}),
    list: frozenset({"count", "index"}),
    _GroupTuple: frozenset({"count", "grouper", "index", "list"}),
    tuple: frozenset({"count", "index"}),
}
"""The methods of each type; all others do not exist for a template."""
_NANOSECONDS_OF_A_CHARACTER = {"join": 10, "swapcase": 80, "title": 80}
# They go from the end, or through all characters to strip, for each character: only the product bounds their cost.
_PRODUCT = frozenset({"lstrip", "rfind", "rindex", "rpartition", "rsplit", "rstrip", "strip"})
_LINE_END = r"\r\n|[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]"
_SPLIT = {"split": re.compile(r"\s+"), "rsplit": re.compile(r"\s+"), "splitlines": re.compile(_LINE_END)}
_PADDING = frozenset({"center", "ljust", "rjust", "zfill"})


def check_method(method: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, ...]:
    """Check calling a bound method; return the positional arguments to call it with. Raises ``OverBudget``."""
    owner, name = method.__self__, method.__name__
    if owner.__class__ is str and len(owner) <= SHORT and not args and not kwargs:
        return args
    if isinstance(owner, str):
        return _check_text_method(owner, name, args, kwargs)
    if isinstance(owner, (list, tuple)) and args:
        check_search(args[0], owner)
    elif isinstance(owner, dict) and args:
        check_hash(args[0])
    elif isinstance(owner, LoopContext):  # ``loop.changed`` compares
        current_budget().measure(args)
    return args


def checked_format(text: str, method: Callable[..., str]) -> Callable[..., str]:
    """Wrap ``method``, which is ``format`` or ``format_map`` of ``text``."""

    @wraps(method)
    def checked(*args: Any, **kwargs: Any) -> Any:
        check_format(text, [*args, *kwargs.values()])
        return current_budget().check_result(method(*args, **kwargs))

    return checked


def _check_text_method(text: str, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, ...]:
    if name == "join" and args:
        args = (check_join(text, *args), *args[1:])
    elif len(text) > SHORT or kwargs or not all(map(is_small, args)):
        given = current_budget().measure((*args, *kwargs.values())) if args or kwargs else 0
        cost = (len(text) + given) * _NANOSECONDS_OF_A_CHARACTER.get(name, NANOSECONDS_OF_A_CHARACTER)
        current_budget().use_time(cost + (len(text) * given if name in _PRODUCT else 0))
        if name in _SPLIT:
            _check_split(name, text, *args, **kwargs)
    if name == "replace":
        check_replacement(text, *args[:2])
    elif name in _PADDING:
        check_padding(args[0] if args else None)
    return args


def _check_split(name: str, text: str, sep: Any = None, maxsplit: int = -1, **_: Any) -> None:
    if len(text) < LONGEST_LIST or 0 <= maxsplit < LONGEST_LIST:
        return
    if name != "splitlines" and isinstance(sep, str) and sep:
        check_list_length(text.count(sep) + 1)
    else:
        check_list_length(sum(1 for _ in islice(_SPLIT[name].finditer(text), LONGEST_LIST)) + 1)
