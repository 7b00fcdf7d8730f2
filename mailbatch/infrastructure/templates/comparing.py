"""Comparing, looking for and looking up values, measured: each can take far longer than its values are large."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any

from jinja2.utils import Namespace

from mailbatch.infrastructure.templates.budget import PLAIN, VIEWS, OverBudget, budget, gathered, small

if TYPE_CHECKING:
    from collections.abc import Callable

_USUAL: frozenset[Any] = frozenset({dict, list, str, tuple})
_FEW = 1_000
_SIZED: tuple[Any, ...] = (list, tuple, range, *VIEWS)
_NANOSECONDS_OF_A_LOOK = 30
_NANOSECONDS_OF_A_SIGN = 3
MOST_KEYS = 1_000
"""Keys of a dict that are no texts: whoever chooses numbers chooses their hashes, and can make all of them the same."""


def compared(symbol: str, left: Any, right: Any) -> Any:
    """Do what the comparison ``symbol`` does, one of Jinja2's but ``in`` and ``notin``."""
    if left.__class__ not in PLAIN and right.__class__ not in PLAIN:
        comparable(left, right)
    return _OPERATORS[symbol](left, right)


def among(item: Any, holder: Any) -> bool:
    """Do what ``in`` does."""
    if holder.__class__ in _USUAL and len(holder) <= _FEW and small(item):
        return item in holder
    return item in findable(item, holder)


def comparable(left: Any, right: Any) -> None:
    """See that ``left`` and ``right`` may be compared: with lists in lists that takes as long as spelling them out."""
    if left.__class__ is not str and right.__class__ is not str:
        budget().weigh((left, right))


def findable(item: Any, holder: Any) -> Any:
    """See that ``item`` may be looked for in ``holder``, and return that, a generator as a list."""
    spending = budget()
    if isinstance(holder, str):
        spending.work((len(holder) + (len(item) if isinstance(item, str) else 0)) * _NANOSECONDS_OF_A_SIGN)
        return holder
    if isinstance(holder, dict):
        hashable(item)
        return holder
    plain = small(item)
    if isinstance(holder, _SIZED):
        spending.work(len(holder) * _NANOSECONDS_OF_A_LOOK)
    elif not plain:
        holder = gathered(holder)
    if not plain:
        spending.weigh((item, holder))
    return holder


def hashable(key: Any) -> Any:
    """Return ``key`` if it may be looked up: a tuple's hash asks for those of all that it holds, an error tells all."""
    if key.__class__ not in PLAIN and not isinstance(key, str):
        budget().weigh(key)
    return key


def keyed(values: Any) -> Any:
    """Return ``values``, pairs or a dict, as they may become a dict."""
    if not isinstance(values, dict):
        values = gathered(values)
        if not all(isinstance(pair, (list, tuple, str)) for pair in values):
            raise OverBudget("makes a dict of something other than pairs")
    budget().weigh(values)
    keys = values if isinstance(values, dict) else (pair[0] for pair in values if pair)
    if sum(not isinstance(key, str) for key in keys) > MOST_KEYS:
        raise OverBudget(f"makes a dict of more than {MOST_KEYS} keys that are no texts")
    return values


_OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "eq": operator.eq,
    "ne": operator.ne,
    "gt": operator.gt,
    "gteq": operator.ge,
    "lt": operator.lt,
    "lteq": operator.le,
}
MAKERS_OF_DICTS: tuple[Any, ...] = (dict, Namespace)
"""What a template calls to have a dict made."""
