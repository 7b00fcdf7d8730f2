"""The filters, tests and methods that templates may use, measured before they can grow or work without measure.

What one of them costs is estimated from the sizes of *all* that it is given, for the worst that these may hold. The
estimates are nanoseconds on a machine of 2020, rounded up; tests/integration/test_templates_fuzz.py looks for what
takes longer.
"""

from __future__ import annotations

import re
from functools import partial, wraps
from itertools import chain, islice
from types import GeneratorType
from typing import TYPE_CHECKING, Any, TypeAlias

from jinja2 import Undefined, pass_context, pass_environment
from jinja2.filters import FILTERS, _GroupTuple, do_items, make_attrgetter, make_multi_attrgetter
from jinja2.runtime import LoopContext
from jinja2.tests import TESTS

from mailbatch.infrastructure.templates.budget import (
    LONGEST_LIST,
    PLAIN,
    SHORT,
    WIDEST,
    OverBudget,
    budget,
    counted_as_number,
    formatted,
    gathered,
    listed,
    padded,
    raised,
    remained,
    replaced,
    small,
)
from mailbatch.infrastructure.templates.comparing import comparable, findable, hashable
from mailbatch.infrastructure.templates.wording import as_text, ensure_formattable, null

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from jinja2 import Environment
    from jinja2.runtime import Context

_NANOSECONDS = 30
"""What a character costs at most where nothing else is said."""
# Filters that spell out what they are given, and what a character costs. What is named in none of these lists is not
# there: of Jinja2's own that is pprint, urlize (quadratic on hostile text) and whatever a later version may add.
_TEXT = dict.fromkeys(
    """capitalize center e escape filesizeformat float forceescape format int lower replace safe string tojson trim
    truncate upper xmlattr""".split(),  # noqa: SIM905 - read as prose, not as a column of quotes
    _NANOSECONDS,
) | {"indent": 150, "striptags": 250, "title": 500, "urlencode": 300, "wordcount": 250, "wordwrap": 600}
# Of these the rest writes what it is given as a text.
_NO_TEXT = frozenset({"filesizeformat", "float", "int", "tojson", "urlencode", "xmlattr"})
# What compares values with each other; a character costs little each time, a value in a list more (``weigh``).
_SORTING = {"dictsort": 5, "groupby": 10, "max": 20, "min": 20, "sort": 5, "unique": 20}
_LIST = frozenset(
    """abs attr batch count first items join last length list map random reject rejectattr reverse round
    select selectattr slice sum""".split()  # noqa: SIM905 - as above
)
# Given many values, these go through them one by one, and most make a list of all.
_WALK = (_LIST | set(_SORTING)) - {"abs", "attr", "count", "first", "last", "length", "random", "round"}
_NANOSECONDS_OF_A_LINE = 5_000
"""What each line costs ``wordwrap`` beside its characters."""
_NANOSECONDS_OF_A_METHOD = {"join": 10, "swapcase": 80, "title": 80}
# They go from the end, or through all signs that they are given, for each character: no bound but the product.
_PRODUCT = frozenset({"lstrip", "rfind", "rindex", "rpartition", "rsplit", "rstrip", "strip"})
_LINE_END = r"\r\n|[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]"
_SPLIT = {"split": re.compile(r"\s+"), "rsplit": re.compile(r"\s+"), "splitlines": re.compile(_LINE_END)}
_PADDING = frozenset({"center", "ljust", "rjust", "zfill"})
TAKE_NULL = frozenset(
    """attr d default float int items map reject rejectattr select selectattr tojson""".split()  # noqa: SIM905 - as above
)
"""Filters that may be given null; for all others it is what a missing variable is."""


def measured_filters() -> dict[str, Callable[..., Any]]:
    """Return the filters by name."""
    measured = {name: _measured(name, _OWN.get(name, FILTERS[name])) for name in (*_TEXT, *_SORTING, *_LIST)}
    return measured | {"d": default, "default": default}  # which makes nothing


def measured_tests() -> dict[str, Any]:
    """Return the tests by name; each use is a step, because ``select`` uses one a hundred thousand times."""
    own = {"defined": is_defined, "undefined": is_undefined}
    return {name: _counted(name, own.get(name, function)) for name, function in TESTS.items()}


def is_defined(value: Any) -> bool:
    """Whether there is a value: null is none."""
    return value is not None and not isinstance(value, Undefined)


def is_undefined(value: Any) -> bool:
    """Whether there is no value, or null."""
    return not is_defined(value)


def default(value: Any, default_value: Any = "", boolean: bool = False) -> Any:  # noqa: FBT001, FBT002 - Jinja2's signature
    """Return ``value``, or ``default_value`` for null and what is missing; with ``boolean`` for all that is false."""
    nothing = value is None or isinstance(value, Undefined) or (boolean and not value)
    return default_value if nothing else value


def items(value: Any) -> Iterator[tuple[Any, Any]]:
    """Return the pairs of a dict; of null, and of what is missing, none."""
    return iter(()) if value is None else do_items(value)


@pass_environment
def attr(environment: Environment, obj: Any, name: str) -> Any:
    """Return the attribute ``name`` of ``obj``, a method as well: the template may call it."""
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
    """Group ``value``; ``default`` stands for an attribute that is null, too."""
    if default is None:
        return list(FILTERS["groupby"](environment, value, attribute, None, case_sensitive))
    getter = make_attrgetter(environment, attribute, default=default)
    pairs = [{"key": default if (key := getter(one)) is None else key, "value": one} for one in value]
    grouped = FILTERS["groupby"](environment, pairs, "key", None, case_sensitive)
    return [_GroupTuple(key, [pair["value"] for pair in group]) for key, group in grouped]


@pass_context
def map_(context: Context, value: Iterable[Any], *args: Any, **kwargs: Any) -> Iterator[Any]:
    """Map ``value``; ``default`` stands for an attribute that is null, too."""
    made: Iterator[Any] = FILTERS["map"](context, value, *args, **kwargs)
    if args or (default := kwargs.get("default")) is None:
        return made
    return (default if one is None else one for one in made)


_OWN: dict[str, Callable[..., Any]] = {
    "attr": attr,
    "groupby": groupby,
    "items": items,
    "map": map_,
}


def measured_format(text: str, method: Callable[..., str]) -> Callable[..., str]:
    """Wrap ``format`` or ``format_map`` of ``text``, which is ``method``."""

    @wraps(method)
    def measured(*args: Any, **kwargs: Any) -> Any:
        formatted(text, [*args, *kwargs.values()])
        return budget().check(method(*args, **kwargs))

    return measured


def measure_formatting(left: Any, right: Any) -> None:
    """Measure ``left % right``, and see that what a text is formatted with has a text."""
    remained(left, right)
    if isinstance(left, str):
        ensure_formattable(left, right)


def measure_method(method: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, ...]:
    """See that a bound method may be called so; return the arguments to call it with."""
    owner, name = method.__self__, method.__name__
    if owner.__class__ is str and len(owner) <= SHORT and not args and not kwargs:
        return args
    if isinstance(owner, str):
        return _measure_text_method(owner, name, args, kwargs)
    if isinstance(owner, (list, tuple)) and args:
        findable(args[0], owner)
    elif isinstance(owner, dict) and args:
        hashable(args[0])
    elif isinstance(owner, LoopContext):  # ``loop.changed`` compares
        budget().weigh(args)
    return args


def _measure_text_method(text: str, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, ...]:
    if name == "join" and args:
        args = (_joined(text, *args), *args[1:])
    elif len(text) > SHORT or kwargs or not all(map(small, args)):
        given = budget().weigh((*args, *kwargs.values())) if args or kwargs else 0
        cost = (len(text) + given) * _NANOSECONDS_OF_A_METHOD.get(name, _NANOSECONDS)
        budget().work(cost + (len(text) * given if name in _PRODUCT else 0))
        if name in _SPLIT:
            _split(name, text, *args, **kwargs)
    if name == "replace":
        replaced(text, *args[:2])
    elif name in _PADDING:
        padded(args[0] if args else None)
    return args


def _counted(name: str, function: Any) -> Callable[..., Any]:
    measure = _MEASURES_OF_TESTS.get(name, _compare)

    @wraps(function)
    def counted(*args: Any, **kwargs: Any) -> Any:
        budget().step()
        if kwargs:  # no test has more than one
            args = (*args, *kwargs.values())
        # A text may be a format for ``odd``; a number is nothing for any test.
        if len(args) > 1 or args[0].__class__ not in PLAIN:
            args = measure(*args)
        return function(*args)

    return counted


def _compare(*args: Any) -> tuple[Any, ...]:
    if len(args) == 2:  # noqa: PLR2004 - one with the other
        comparable(*args)
    return args


def _find(*args: Any) -> tuple[Any, ...]:
    return (args[0], findable(*args)) if len(args) == 2 else args  # noqa: PLR2004 - what is looked for, and where


def _divide(value: Any, by: Any = 2) -> tuple[Any, ...]:
    remained(value, by)
    return value, by


def _halve(value: Any) -> tuple[Any, ...]:
    remained(value, 2)
    return (value,)


def _spell(*args: Any) -> tuple[Any, ...]:
    budget().weigh(args)
    return args


def _look_up(*args: Any) -> tuple[Any, ...]:
    return (*args[:-1], hashable(args[-1]))  # Jinja2 hands its environment first


_MEASURES_OF_TESTS = {
    "divisibleby": _divide,
    "even": _halve,
    "filter": _look_up,
    "in": _find,
    "lower": _spell,
    "odd": _halve,
    "test": _look_up,
    "upper": _spell,
}


def _measured(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    # Filters that Jinja2 hands its context, environment or evaluation context take that first.
    skip = 1 if hasattr(function, "jinja_pass_arg") else 0
    prepare = _preparation(name, skip)
    says, takes_null = name in _TEXT and name not in _NO_TEXT, name in TAKE_NULL

    @wraps(function)
    def measured(*args: Any, **kwargs: Any) -> Any:
        value = args[skip]
        if says and value.__class__ is not str:
            args = (*args[:skip], as_text(value, f"a value given to {name}"), *args[skip + 1 :])
        elif value is None and not takes_null:
            raise null(f"a value given to {name}")
        if len(args) != skip + 1 or kwargs or not small(args[skip]):
            args, kwargs = prepare(args, kwargs)
        made = function(*args, **kwargs)
        return _stepping(made) if made.__class__ is GeneratorType else budget().check(made)

    return measured


_Given: TypeAlias = tuple[tuple[Any, ...], dict[str, Any]]


def _preparation(name: str, skip: int) -> Callable[[tuple[Any, ...], dict[str, Any]], _Given]:
    """Return what measures the arguments of a filter, and returns those to call it with."""
    measure = _MEASURES.get(name, _anything)

    def prepare(args: tuple[Any, ...], kwargs: dict[str, Any]) -> _Given:
        own = args[skip:]
        if name in _TEXT:
            budget().work(budget().weigh((*own, *kwargs.values())) * _TEXT[name])
        elif name in _WALK and own and hasattr(own[0], "__len__"):  # what has none is counted by who makes it
            listed(len(own[0]))
        if name in _PLACES_OF_ATTRIBUTES:
            _attribute(name, own[1:], kwargs)
        measure(*own, **kwargs)
        return args, kwargs

    if name == "join":
        return _joinable
    return partial(_sortable, name, skip) if name in _SORTING else prepare


def _anything(*_: Any, **__: Any) -> None:
    """Measure nothing more."""


def _stepping(values: Iterable[Any]) -> Iterator[Any]:
    step = budget().step
    for value in values:
        step()
        yield value


def _sortable(name: str, skip: int, args: tuple[Any, ...], kwargs: dict[str, Any]) -> _Given:
    """Return the arguments with a list in the place of the values, if these may be compared with each other."""
    values = gathered(args[skip])
    by = _attribute(name, args[skip + 1 :], kwargs) if name in _PLACES_OF_ATTRIBUTES else None
    keys: Any = values
    if by is not None:
        rest = args[skip + 1 :]
        other = kwargs.get("default", rest[1] if name == "groupby" and len(rest) > 1 else None)
        many = make_multi_attrgetter(args[0], by) if name == "sort" else None
        getter = many or make_attrgetter(args[0], by, default=other)
        keys = [getter(value) for value in values]
    size = budget().weigh(keys)
    rounds = 1 if name in {"max", "min", "unique"} else len(keys).bit_length()
    budget().work(size * _SORTING[name] * rounds)
    return (*args[:skip], values, *args[skip + 1 :]), kwargs


_PLACES_OF_ATTRIBUTES = {
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


def _attribute(name: str, rest: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Return the attribute that a filter asks each value for, or None. Its name has a bound."""
    place = _PLACES_OF_ATTRIBUTES[name]
    attribute = rest[place] if len(rest) > place else kwargs.get("name" if name == "attr" else "attribute")
    if attribute is None:
        return None
    if isinstance(attribute, str) and len(attribute) > WIDEST:
        raise OverBudget(f"asks for an attribute whose name has more than {WIDEST} characters")
    return hashable(attribute)


def _joinable(args: tuple[Any, ...], kwargs: dict[str, Any]) -> _Given:
    """Return the arguments of ``join`` with a measured list of what is joined, its attributes if it names one."""
    context, values, *rest = args
    separator = rest[0] if rest else kwargs.get("d", "")
    attribute = _attribute("join", tuple(rest), kwargs)
    if attribute is not None:
        values = map(make_attrgetter(context.environment, attribute), values)
    said = [v if v.__class__ is str else as_text(v, "a value given to join") for v in gathered(values)]
    as_text(separator, "the separator given to join")
    return (context, _joined(separator, said), separator), {}


def _joined(separator: Any, values: Iterable[Any] = (), *_: Any) -> list[Any]:
    """Return ``values`` as a list if there is room for them, joined."""
    pieces = list(gathered(values))
    budget().weigh((pieces, separator))
    budget().room(len(pieces) * len(str(separator)))
    return pieces


def _split(name: str, text: str, sep: Any = None, maxsplit: int = -1, **_: Any) -> None:
    if len(text) < LONGEST_LIST or 0 <= maxsplit < LONGEST_LIST:
        return
    if name != "splitlines" and isinstance(sep, str) and sep:
        listed(text.count(sep) + 1)
    else:
        listed(sum(1 for _ in islice(_SPLIT[name].finditer(text), LONGEST_LIST)) + 1)


def _trim(value: Any, chars: str | None = None) -> None:
    if chars is not None:
        budget().work(len(str(value)) * len(str(chars)))


def _center(_value: Any, width: int = 80) -> None:
    padded(width)


def _indent(text: Any, width: int | str = 4, *_: Any, **__: Any) -> None:
    columns = len(width) if isinstance(width, str) else width
    padded(columns)
    budget().room(len(str(text)) + (str(text).count("\n") + 1) * columns)


def _wordwrap(
    text: Any, width: int = 79, break_long_words: Any = 1, wrapstring: str | None = None, *_: Any, **__: Any
) -> None:
    wrapstring, text = wrapstring or "\n", str(text)
    budget().room(len(text) + len(text) // max(width, 1) * len(wrapstring))
    if len(wrapstring) > 1:
        padded(len(wrapstring))
        budget().room(len(text) * len(wrapstring))
    # A word that is longer than the line is copied for each line that it makes.
    longest = max(map(len, text.split()), default=0) if break_long_words and len(text) > width else 0
    copied = longest * len(text) // max(width, 1)
    budget().work((text.count("\n") + 1) * _NANOSECONDS_OF_A_LINE + copied // 4)


def _format(value: Any, *args: Any, **kwargs: Any) -> None:
    formatted(str(value), kwargs or args)
    ensure_formattable(str(value), kwargs or args)


def _replace(text: Any, old: Any, new: Any, *_: Any, **__: Any) -> None:
    replaced(str(text), as_text(old, "what replace looks for"), as_text(new, "what replace puts in"))


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
    listed(linecount)


def _slice(_value: Any, slices: int, *_: Any, **__: Any) -> None:
    listed(slices)


def _number(value: Any, *_: Any, **__: Any) -> None:
    counted_as_number(value)


def _round(value: Any, precision: int = 0, *_: Any, **__: Any) -> None:
    padded(precision)
    if isinstance(value, int):
        raised(10, precision)


def _sum(_value: Any, attribute: Any = None, start: Any = 0) -> None:  # noqa: ARG001 - its place
    # From a list on it copies all of the sum at each step, out of reach of any count.
    if not isinstance(start, (int, float)):
        raise OverBudget("adds up something other than numbers")


def _tojson(_value: Any, indent: int | None = None) -> None:
    if indent is not None and indent > 16:  # noqa: PLR2004 - deep nesting multiplies it
        raise OverBudget(f"indents JSON by {indent}; at most 16 is allowed")


_MEASURES: dict[str, Callable[..., None]] = {
    "batch": _batch,
    "center": _center,
    "filesizeformat": _number,
    "float": _number,
    "format": _format,
    "indent": _indent,
    "int": _number,
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
