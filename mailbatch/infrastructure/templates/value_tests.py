"""The tests that templates may use (``is odd``, ``is in`` …), each checked before it runs."""

from __future__ import annotations

from functools import wraps
from typing import TYPE_CHECKING, Any

from jinja2.tests import TESTS

from mailbatch.infrastructure.templates.budget import PLAIN, current_budget
from mailbatch.infrastructure.templates.comparisons import check_comparison, check_hash, check_search
from mailbatch.infrastructure.templates.null_values import is_defined, is_undefined
from mailbatch.infrastructure.templates.operations import check_remainder

if TYPE_CHECKING:
    from collections.abc import Callable


def checked_tests() -> dict[str, Any]:
    """Return the tests by name. Each use is a step, because ``select`` may use one a hundred thousand times."""
    changed = {"defined": is_defined, "undefined": is_undefined}
    return {name: _checked(name, changed.get(name, function)) for name, function in TESTS.items()}


def _checked(name: str, function: Any) -> Callable[..., Any]:
    check = _CHECKS.get(name, _check_comparison)

    @wraps(function)
    def checked(*args: Any, **kwargs: Any) -> Any:
        current_budget().step()
        if kwargs:  # no test has more than one
            args = (*args, *kwargs.values())
        # A text may be a format for ``odd``; a number alone is harmless for every test.
        if len(args) > 1 or args[0].__class__ not in PLAIN:
            args = check(*args)
        return function(*args)

    return checked


def _check_comparison(*args: Any) -> tuple[Any, ...]:
    if len(args) == 2:  # noqa: PLR2004 - one with the other
        check_comparison(*args)
    return args


def _check_search(*args: Any) -> tuple[Any, ...]:
    return (args[0], check_search(*args)) if len(args) == 2 else args  # noqa: PLR2004 - the value, and where to search


def _check_division(value: Any, by: Any = 2) -> tuple[Any, ...]:
    check_remainder(value, by)
    return value, by


def _check_division_by_two(value: Any) -> tuple[Any, ...]:
    check_remainder(value, 2)
    return (value,)


def _check_spelling(*args: Any) -> tuple[Any, ...]:
    current_budget().measure(args)
    return args


def _check_look_up(*args: Any) -> tuple[Any, ...]:
    return (*args[:-1], check_hash(args[-1]))  # Jinja2 passes its environment first


_CHECKS = {
    "divisibleby": _check_division,
    "even": _check_division_by_two,
    "filter": _check_look_up,
    "in": _check_search,
    "lower": _check_spelling,
    "odd": _check_division_by_two,
    "test": _check_look_up,
    "upper": _check_spelling,
}
