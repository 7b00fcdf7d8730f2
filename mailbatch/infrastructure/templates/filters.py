"""The filters that templates may use, each checked before it can make too much or take too long.

The cost of a call is estimated from the sizes of *all* its arguments, for the worst content that these may have. The
estimates are nanoseconds on a machine of 2020, rounded up; tests/integration/test_templates_fuzz.py searches for calls
that take longer.
"""

from __future__ import annotations

from functools import partial, wraps
from types import GeneratorType
from typing import TYPE_CHECKING, Any, TypeAlias

from jinja2 import pass_eval_context
from jinja2.filters import FILTERS, make_attrgetter, make_multi_attrgetter
from markupsafe import Markup, escape

from mailbatch.infrastructure.templates.budget import OverBudget, check_list_length, current_budget, is_small
from mailbatch.infrastructure.templates.comparisons import check_hash
from mailbatch.infrastructure.templates.filter_arguments import CHECKS, check_nothing
from mailbatch.infrastructure.templates.language_filters import LANGUAGE_FILTERS
from mailbatch.infrastructure.templates.null_values import ACCEPT_NULL, CHANGED_FILTERS, default
from mailbatch.infrastructure.templates.operations import (
    NANOSECONDS_OF_A_CHARACTER,
    WIDEST,
    check_join,
    with_length,
)
from mailbatch.infrastructure.templates.text_values import as_text, null_error, without_exponents

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from jinja2.nodes import EvalContext

# Filters that read the whole text of their arguments, and what a character costs. A filter that is in none of these
# lists does not exist: pprint, urlize (quadratic on hostile text) and those that a later Jinja2 may add.
_TEXT = dict.fromkeys(
    """capitalize center e escape filesizeformat float forceescape format int lower replace safe string tojson trim
    truncate upper xmlattr""".split(),  # noqa: SIM905 - read as prose, not as a column of quotes
    NANOSECONDS_OF_A_CHARACTER,
) | {"indent": 150, "striptags": 250, "nl2br": 200, "title": 500, "urlencode": 300, "wordcount": 250, "wordwrap": 600}
# The filters of ``_TEXT`` that do not turn their value into a text; all others of them do.
_NOT_AS_TEXT = frozenset({"filesizeformat", "float", "int", "tojson", "urlencode", "xmlattr"})
# Python, not Jinja2, turns the arguments of these into a text.
_BY_PYTHON = frozenset({"format", "urlencode", "xmlattr"})
# Filters that compare values with each other. Each time a character costs little, a value in a list more (``measure``).
_SORTING = {"dictsort": 5, "groupby": 10, "max": 20, "min": 20, "sort": 5, "unique": 20}
_LIST = frozenset(
    """abs attr batch count first items join last length list map random reject rejectattr reverse round
    select selectattr slice sum""".split()  # noqa: SIM905 - as above
)
# Filters that go through many values one by one; most make a list of all.
_WALK = (_LIST | set(_SORTING)) - {"abs", "attr", "count", "first", "last", "length", "random", "round"}
# The position of the argument that names an attribute, behind the value; 99: by keyword only.
_POSITION_OF_ATTRIBUTE = {
    "attr": 0,
    "groupby": 0,
    "join": 1,
    "map": 99,
    "max": 1,
    "min": 1,
    "rejectattr": 0,
    "selectattr": 0,
    "sort": 2,
    "sum": 0,
    "unique": 1,
}

_Arguments: TypeAlias = tuple[tuple[Any, ...], dict[str, Any]]


def checked_filters() -> dict[str, Callable[..., Any]]:
    """Return the filters by name."""
    functions = FILTERS | CHANGED_FILTERS | LANGUAGE_FILTERS | {"nl2br": nl2br}
    checked = {name: _checked(name, functions[name]) for name in (*_TEXT, *_SORTING, *_LIST, *LANGUAGE_FILTERS)}
    return checked | {"d": default, "default": default}  # which makes nothing


@pass_eval_context
def nl2br(eval_ctx: EvalContext, value: str) -> str:
    """Write each line end of ``value`` as ``<br>`` as well, where the template is HTML."""
    if not eval_ctx.autoescape:
        return value
    return escape(value).replace("\r\n", "\n").replace("\n", Markup("<br>\n"))


def _checked(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    # Jinja2 passes its context, environment or evaluation context first to the filters that ask for it.
    skip = 1 if hasattr(function, "jinja_pass_arg") else 0
    check = _check_of(name, skip)
    writes_text, accepts_null = name in _TEXT and name not in _NOT_AS_TEXT, name in ACCEPT_NULL
    by_python = name in _BY_PYTHON

    @wraps(function)
    def checked(*args: Any, **kwargs: Any) -> Any:
        value = args[skip]
        if writes_text and value.__class__ is not str:
            args = (*args[:skip], as_text(value, f"a value given to {name}"), *args[skip + 1 :])
        elif value is None and not accepts_null:
            raise null_error(f"a value given to {name}")
        if len(args) != skip + 1 or kwargs or not is_small(args[skip]):
            args, kwargs = check(args, kwargs)
        if by_python:
            args, kwargs = tuple(map(without_exponents, args)), without_exponents(kwargs)
        result = function(*args, **kwargs)
        if result.__class__ is GeneratorType:
            return _count_steps(result)
        return current_budget().check_result(result)

    return checked


def _count_steps(values: Iterable[Any]) -> Iterator[Any]:
    step = current_budget().step
    for value in values:
        step()
        yield value


def _check_of(name: str, skip: int) -> Callable[[tuple[Any, ...], dict[str, Any]], _Arguments]:
    """Return the check of a filter. It gets the arguments, and returns those to call the filter with."""
    check_arguments = CHECKS.get(name, check_nothing)

    def check(args: tuple[Any, ...], kwargs: dict[str, Any]) -> _Arguments:
        own = args[skip:]
        if name in _TEXT:
            current_budget().use_time(current_budget().measure((*own, *kwargs.values())) * _TEXT[name])
        elif name in _WALK and own and hasattr(own[0], "__len__"):  # a generator counts its steps itself
            check_list_length(len(own[0]))
        if name in _POSITION_OF_ATTRIBUTE:
            _attribute(name, own[1:], kwargs)
        check_arguments(*own, **kwargs)
        return args, kwargs

    if name == "join":
        return _check_join
    return partial(_check_sorting, name, skip) if name in _SORTING else check


def _check_sorting(name: str, skip: int, args: tuple[Any, ...], kwargs: dict[str, Any]) -> _Arguments:
    """Check comparing the values with each other; return the arguments with these values as a list."""
    values = with_length(args[skip])
    by = _attribute(name, args[skip + 1 :], kwargs) if name in _POSITION_OF_ATTRIBUTE else None
    keys: Any = values
    if by is not None:
        rest = args[skip + 1 :]
        other = kwargs.get("default", rest[1] if name == "groupby" and len(rest) > 1 else None)
        many = make_multi_attrgetter(args[0], by) if name == "sort" else None
        getter = many or make_attrgetter(args[0], by, default=other)
        keys = [getter(value) for value in values]
    size = current_budget().measure(keys)
    rounds = 1 if name in {"max", "min", "unique"} else len(keys).bit_length()
    current_budget().use_time(size * _SORTING[name] * rounds)
    return (*args[:skip], values, *args[skip + 1 :]), kwargs


def _attribute(name: str, rest: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Return the attribute that a filter reads of each value, or None. The length of its name is bounded."""
    position = _POSITION_OF_ATTRIBUTE[name]
    attribute = rest[position] if len(rest) > position else kwargs.get("name" if name == "attr" else "attribute")
    if attribute is None:
        return None
    if isinstance(attribute, str) and len(attribute) > WIDEST:
        raise OverBudget(f"asks for an attribute whose name has more than {WIDEST} characters")
    return check_hash(attribute)


def _check_join(args: tuple[Any, ...], kwargs: dict[str, Any]) -> _Arguments:
    """Return the arguments of ``join`` with a checked list of the texts to join, already read from the attribute."""
    context, values, *rest = args
    separator = rest[0] if rest else kwargs.get("d", "")
    attribute = _attribute("join", tuple(rest), kwargs)
    if attribute is not None:
        values = map(make_attrgetter(context.environment, attribute), values)
    texts = [v if v.__class__ is str else as_text(v, "a value given to join") for v in with_length(values)]
    as_text(separator, "the separator given to join")
    return (context, check_join(separator, texts), separator), {}
