"""Filters and tests have the same parameters and names as Jinja2's, and return the same."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
from jinja2 import Environment, StrictUndefined
from jinja2.filters import FILTERS
from jinja2.tests import TESTS

from mailbatch.infrastructure.templates.budget import Budget
from mailbatch.infrastructure.templates.filters import checked_filters
from mailbatch.infrastructure.templates.sandbox import Sandbox
from mailbatch.infrastructure.templates.value_tests import checked_tests

PEOPLE = "[{'n': 'b', 'x': 2}, {'n': 'B', 'x': 1}, {'n': 'a', 'x': 1}]"
# A value, and an argument for each parameter of Jinja2's.
FILTERED: dict[str, tuple[str, dict[str, str]]] = {
    "attr": ("range(3)", {"name": "'stop'"}),
    "batch": ("[1, 2, 3]", {"linecount": "2", "fill_with": "0"}),
    "center": ("'x'", {"width": "7"}),
    "d": ("nothing", {"default_value": "'-'", "boolean": "true"}),
    "default": ("''", {"default_value": "'-'", "boolean": "true"}),
    "dictsort": ("{'b': 1, 'A': 3, 'a': 2}", {"case_sensitive": "true", "by": "'value'", "reverse": "true"}),
    "filesizeformat": ("123456", {"binary": "true"}),
    "float": ("'x'", {"default": "1.5"}),
    "groupby": (PEOPLE, {"attribute": "'n'", "default": "'z'", "case_sensitive": "true"}),
    "indent": ("'a\\n\\nb'", {"width": "2", "first": "true", "blank": "true"}),
    "int": ("'0b11'", {"default": "7", "base": "2"}),
    "join": (PEOPLE, {"d": "'; '", "attribute": "'n'"}),
    "max": (PEOPLE, {"case_sensitive": "true", "attribute": "'n'"}),
    "min": (PEOPLE, {"case_sensitive": "true", "attribute": "'n'"}),
    "replace": ("'aaa'", {"old": "'a'", "new": "'b'", "count": "2"}),
    "round": ("2.345", {"precision": "1", "method": "'ceil'"}),
    "slice": ("[1, 2, 3]", {"slices": "2", "fill_with": "0"}),
    "sort": (PEOPLE, {"reverse": "true", "case_sensitive": "true", "attribute": "'n'"}),
    "sum": (PEOPLE, {"attribute": "'x'", "start": "10"}),
    "tojson": ("[1]", {"indent": "2"}),
    "trim": ("'xax'", {"chars": "'x'"}),
    "truncate": ("'the quick fox'", {"length": "8", "killwords": "true", "end": "'~'", "leeway": "0"}),
    "unique": (PEOPLE, {"case_sensitive": "true", "attribute": "'n'"}),
    "wordwrap": (
        "'abcdef gh-ij'",
        {"width": "4", "break_long_words": "false", "wrapstring": "'|'", "break_on_hyphens": "false"},
    ),
    "xmlattr": ("{'a': 1, 'b': none}", {"autospace": "false"}),
}
JINJAS = set(checked_filters()) & set(FILTERS)
NEEDED = {"attr", "batch", "groupby", "replace", "slice"}
"""Filters whose first parameters must be given; of ``join``, ``sum`` and the like the attribute, for these values."""
OF_PEOPLE = {"join", "max", "min", "sort", "sum", "unique"}
GIVEN_BY_JINJA2 = {"context", "env", "environment", "eval_ctx"}
FREE = {"format", "map", "reject", "rejectattr", "select", "selectattr"}
TESTED: dict[str, tuple[str, dict[str, str]]] = {
    "divisibleby": ("9", {"num": "3"}),
    "in": ("1", {"seq": "[1]"}),
    "sameas": ("none", {"other": "none"}),
}


def parameters(function: Any) -> list[tuple[str, Any, Any]]:
    """Return name, kind and default of each parameter behind the value that is filtered."""
    try:
        found = inspect.signature(function).parameters.values()
    except ValueError:  # a function of C without a signature, which takes nothing else
        return []
    return [(one.name, one.kind, one.default) for one in found if one.name not in GIVEN_BY_JINJA2][1:]


def passed(function: Any) -> Any:
    return getattr(function, "jinja_pass_arg", None)


def rendered(environment: Environment, expression: str) -> str:
    source = f"{{% set x = {expression} %}}{{{{ x if x is string or x is not iterable else x|list|tojson }}}}"
    with Budget(1_000_000):
        return environment.from_string(source).render()


@pytest.mark.parametrize("name", sorted(JINJAS))
def test_each_filter_has_the_signature_of_jinja2s(name):
    ours, theirs = checked_filters()[name], FILTERS[name]
    assert passed(ours) == passed(theirs)
    assert parameters(ours) == parameters(theirs)


@pytest.mark.parametrize("name", sorted(checked_tests()))
def test_each_test_has_the_signature_of_jinja2s(name):
    ours, theirs = checked_tests()[name], TESTS[name]
    assert parameters(ours) == parameters(theirs)


@pytest.mark.parametrize("name", sorted(JINJAS - FREE))
def test_each_parameter_of_a_filter_works_by_its_name_and_by_its_place(name):
    value, given = FILTERED.get(name, ("'x'", {}))
    assert list(given) == [one for one, _, _ in parameters(FILTERS[name])]
    least = dict(list(given.items())[: 2 if name == "replace" else 1]) if name in NEEDED else {}
    if name in OF_PEOPLE:
        least["attribute"] = given["attribute"]
    calls = [", ".join(given.values())]
    calls += [", ".join(f"{n}={v}" for n, v in {**least, one: given[one]}.items()) for one in given]
    ours, theirs = Sandbox(html=False), Environment(undefined=StrictUndefined)  # noqa: S701 - as asked
    for call in calls if given else []:
        expression = f"{value}|{name}({call})"
        assert rendered(ours, expression) == rendered(theirs, expression), expression


@pytest.mark.parametrize(
    "expression",
    [
        "'%s-%s'|format(1, 'a')",
        "'%(a)s'|format(a=1)",
        f"{PEOPLE}|map(attribute='n')",
        f"{PEOPLE}|map(attribute='y', default='-')",
        "['a']|map('replace', old='a', new='b')",
        "['a']|map('indent', width=2, first=true)",
        "[1, 2, 3, 4]|select('divisibleby', num=2)",
        "[1, 2, 3]|reject('in', seq=[1])",
        f"{PEOPLE}|selectattr('x', 'in', seq=[2])",
        f"{PEOPLE}|rejectattr('x', 'sameas', other=2)",
        f"({PEOPLE}|groupby('x')|first).grouper",
        f"({PEOPLE}|groupby('x')|first).list",
    ],
)
def test_filters_that_hand_parameters_on_do_so_by_name(expression):
    theirs = Environment(undefined=StrictUndefined)  # noqa: S701 - as asked
    assert rendered(Sandbox(html=False), expression) == rendered(theirs, expression)


@pytest.mark.parametrize("name", sorted(checked_tests()))
def test_each_parameter_of_a_test_works_by_its_name_and_by_its_place(name):
    named = [one for one, kind, _ in parameters(TESTS[name]) if kind is not inspect.Parameter.POSITIONAL_ONLY]
    value, given = TESTED.get(name, ("1", {}))
    assert list(given) == named
    for call in (", ".join(given.values()), ", ".join(f"{n}={v}" for n, v in given.items())) if given else ():
        assert rendered(Sandbox(html=False), f"{value} is {name}({call})") == "True"
