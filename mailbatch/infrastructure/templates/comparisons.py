"""Checked comparisons, searches and look-ups: each can take far longer than its values are large."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any

from jinja2.utils import Namespace

from mailbatch.infrastructure.templates.budget import PLAIN, VIEWS, OverBudget, current_budget, is_small
from mailbatch.infrastructure.templates.operations import with_length

if TYPE_CHECKING:
    from collections.abc import Callable

_USUAL: frozenset[Any] = frozenset({dict, list, str, tuple})
_FEW = 1_000
_SIZED: tuple[Any, ...] = (list, tuple, range, *VIEWS)
_NANOSECONDS_OF_A_LOOK = 30
_NANOSECONDS_OF_A_CHARACTER = 3
MOST_KEYS = 1_000
"""Most keys of a dict that are not texts: who chooses numbers chooses their hashes, and can make all of them equal."""


def compare(symbol: str, left: Any, right: Any) -> Any:
    """Return the result of the comparison ``symbol``, one of Jinja2's except ``in`` and ``notin``."""
    if left.__class__ not in PLAIN and right.__class__ not in PLAIN:
        check_comparison(left, right)
    return _OPERATORS[symbol](left, right)


def contains(item: Any, holder: Any) -> bool:
    """Return ``item in holder``."""
    if holder.__class__ in _USUAL and len(holder) <= _FEW and is_small(item):
        return item in holder
    return item in check_search(item, holder)


def check_comparison(left: Any, right: Any) -> None:
    """Check comparing ``left`` with ``right``: with lists in lists that takes as long as spelling them out."""
    if left.__class__ is not str and right.__class__ is not str:
        current_budget().measure((left, right))


def check_search(item: Any, holder: Any) -> Any:
    """Check searching ``holder`` for ``item``; return ``holder``, a generator as a list."""
    budget = current_budget()
    if isinstance(holder, str):
        budget.use_time((len(holder) + (len(item) if isinstance(item, str) else 0)) * _NANOSECONDS_OF_A_CHARACTER)
        return holder
    if isinstance(holder, dict):
        check_hash(item)
        return holder
    plain = is_small(item)
    if isinstance(holder, _SIZED):
        budget.use_time(len(holder) * _NANOSECONDS_OF_A_LOOK)
    elif not plain:
        holder = with_length(holder)
    if not plain:
        budget.measure((item, holder))
    return holder


def check_hash(key: Any) -> Any:
    """Return ``key`` if it may be looked up: a tuple hashes all that it holds, and an error message shows all of it."""
    if key.__class__ not in PLAIN and not isinstance(key, str):
        current_budget().measure(key)
    return key


def check_pairs(values: Any) -> Any:
    """Return ``values``, pairs or a dict, if a dict may be made of them."""
    if not isinstance(values, dict):
        values = with_length(values)
        if not all(isinstance(pair, (list, tuple, str)) for pair in values):
            raise OverBudget("makes a dict of something other than pairs")
    current_budget().measure(values)
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
"""The callables of templates that make a dict."""
