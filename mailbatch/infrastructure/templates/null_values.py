"""Filters and tests of Jinja2, changed so that null counts as a missing value."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jinja2 import Undefined, pass_context, pass_environment
from jinja2.filters import FILTERS, _GroupTuple, do_items, make_attrgetter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from jinja2 import Environment
    from jinja2.runtime import Context

ACCEPT_NULL = frozenset(
    """attr d default float int items map reject rejectattr select selectattr tojson""".split()  # noqa: SIM905 - read as prose, not as a column of quotes
)
"""Filters that accept null; all others treat it as a missing variable."""


def is_defined(value: Any) -> bool:
    """Return whether there is a value; null is none."""
    return value is not None and not isinstance(value, Undefined)


def is_undefined(value: Any) -> bool:
    """Return whether the value is missing or null."""
    return not is_defined(value)


def default(value: Any, default_value: Any = "", boolean: bool = False) -> Any:  # noqa: FBT001, FBT002 - Jinja2's signature
    """Return ``value``, or ``default_value`` if it is missing or null; with ``boolean`` also if it is false."""
    nothing = value is None or isinstance(value, Undefined) or (boolean and not value)
    return default_value if nothing else value


def items(value: Any) -> Iterator[tuple[Any, Any]]:
    """Return the pairs of a dict; none if it is missing or null."""
    return iter(()) if value is None else do_items(value)


@pass_environment
def attr(environment: Environment, obj: Any, name: str) -> Any:
    """Return the attribute ``name`` of ``obj``. It may be a method, because the template may call it."""
    sandbox: Any = environment
    return sandbox.method(obj, name) if hasattr(obj, name) else sandbox.undefined(obj=obj, name=name)


@pass_environment
def groupby(
    environment: Environment,
    value: Iterable[Any],
    attribute: str | int,
    default: Any = None,
    case_sensitive: bool = False,  # noqa: FBT001, FBT002 - Jinja2's signature
) -> list[Any]:
    """Group ``value``; ``default`` also stands for an attribute that is null."""
    if default is None:
        return list(FILTERS["groupby"](environment, value, attribute, None, case_sensitive))
    getter = make_attrgetter(environment, attribute, default=default)
    pairs = [{"key": default if (key := getter(one)) is None else key, "value": one} for one in value]
    grouped = FILTERS["groupby"](environment, pairs, "key", None, case_sensitive)
    return [_GroupTuple(key, [pair["value"] for pair in group]) for key, group in grouped]


@pass_context
def map_(context: Context, value: Iterable[Any], *args: Any, **kwargs: Any) -> Iterator[Any]:
    """Map ``value``; ``default`` also stands for an attribute that is null."""
    mapped: Iterator[Any] = FILTERS["map"](context, value, *args, **kwargs)
    if args or (default := kwargs.get("default")) is None:
        return mapped
    return (default if one is None else one for one in mapped)


CHANGED_FILTERS: dict[str, Callable[..., Any]] = {
    "attr": attr,
    "groupby": groupby,
    "items": items,
    "map": map_,
}
"""The filters above that are checked like all others; ``default`` makes nothing and needs no check."""
