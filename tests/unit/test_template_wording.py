"""The text that a mail shows for each kind of value: nothing of Python reaches a customer."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest

from mailbatch.domain.errors import CannotCompose
from mailbatch.domain.reservation import Mail
from mailbatch.infrastructure.templates.renderer import TemplateRenderer

CONTEXT: dict[str, Any] = {
    "name": "Ann",
    "nick": None,
    "empty": "",
    "order": {"items": ["tea", "milk"], "total": 19.9, "keys": None, "note": None, "count": 3},
    "plain": {"a": 1},
    "users": [{"nick": "Bo", "town": "Rome"}, {"nick": None, "town": None}],
    "texts": ["a", None],
    "table": [["a"], {"b": 1}],
    "yes": True,
}


def render(source: str, *, html: bool = False, **more: Any) -> str:
    field = "body_html" if html else "body_text"
    mail = Mail(recipients="ann@example.org", subject="s", context={**CONTEXT, **more}, **{field: source})
    made = TemplateRenderer(None, 1_000_000)(mail)
    return (made.html if html else made.text) or ""


def fault(source: str, *, html: bool = False, **more: Any) -> str:
    with pytest.raises(CannotCompose) as caught:
        render(source, html=html, **more)
    [line] = caught.value.errors
    return line.partition(" line 1: ")[2]


@pytest.mark.parametrize("html", [False, True])
@pytest.mark.parametrize(
    ("source", "named"),
    [
        ("Dear {{ nick }},", "'nick'"),
        ("{{ order.note }}", "'order.note'"),
        ("{{ order['note'] }}", "'order['note']'"),
        ("{{ users[1].nick }}", "'users[1].nick'"),
        ("{% for u in users %}{{ u.nick }}{% endfor %}", "'u.nick'"),
        ("{{ order.get('no') }}", "'order.get(…)'"),
        ("{{ 'Dear ' ~ nick }}", "'nick'"),
        ("{{ nick ~ '!' }}", "'nick'"),
        ("{{ nick|upper }}", "'nick'"),
        ("{{ order.note|trim|title }}", "'order.note'"),
        ("{{ nick|string }}", "'nick'"),
        ("{{ nick|safe }}", "'nick'"),
        ("{{ nick|e }}", "'nick'"),
        ("{{ nick|forceescape }}", "'nick'"),
        ("{{ nick|urlencode }}", "'nick'"),
        ("{{ nick|replace('a', 'b') }}", "'nick'"),
        ("{{ nick|length }}", "'nick'"),
        ("{{ nick|join }}", "'nick'"),
        ("{{ nick|first }}", "'nick'"),
        ("{{ nick or none }}", "a value"),
        ("{{ none }}", "'none'"),
        ("{{ name|replace('A', nick) }}", "what replace puts in"),
        ("{{ ['a', 'b']|join(nick) }}", "the separator given to join"),
        ("{{ texts|join(', ') }}", "a value given to join"),
        ("{{ users|map(attribute='nick')|join(', ') }}", "a value given to join"),
        ("{{ users|join(', ', attribute='nick') }}", "a value given to join"),
        ("{{ texts|map('upper')|join }}", "a value given to upper"),
        ("{{ texts|map('urlencode')|join }}", "a value given to urlencode"),
        ("{{ {'q': nick}|urlencode }}", "a value given to urlencode"),
        ("{{ 'Dear %s' % nick }}", "a value that is formatted"),
        ("{{ '%s %s' % (name, nick) }}", "a value that is formatted"),
        ("{{ '%(nick)s' % {'nick': nick, 'a': 1} }}", "a value that is formatted"),
        ("{{ 'Dear %s'|format(nick) }}", "a value that is formatted"),
        ("{{ '%(n)s'|format(n=nick) }}", "a value that is formatted"),
        ("{{ 'Dear {}'.format(nick) }}", "a value that is formatted"),
        ("{{ '{0[note]}'.format(order) }}", "'0[note]'"),
        ("{{ '{n}'.format_map({'n': nick}) }}", "'n'"),
        ("{% filter upper %}{{ nick }}{% endfilter %}", "'nick'"),
        ("{% set x %}{{ nick }}{% endset %}{{ x }}", "'nick'"),
        ("{% macro m(x) %}{{ x }}{% endmacro %}{{ m(nick) }}", "'x'"),
        ("{% for x in nick %}{{ x }}{% endfor %}", "'nick'"),
        ("{% autoescape yes %}{{ nick }}{% endautoescape %}", "'nick'"),
    ],
)
def test_writing_null_is_an_error_that_names_the_value(source, named, html):
    assert fault(source, html=html) == f"{named} is null"


@pytest.mark.parametrize(
    ("source", "kind"),
    [
        ("{{ order.items }}", "'order.items' is a list; loop over it"),
        ("{{ order['items'] }}", "'order['items']' is a list"),
        ("{{ order }}", "'order' is an object; write one of its values"),
        ("{{ order.values() }}", "'order.values()' is a list"),
        ("{{ plain.items() }}", "'plain.items()' is a list"),
        ("{{ texts[:1] }}", "'texts[…]' is a list"),
        ("{{ [1] + [2] }}", "a value is a list"),
        ("{{ 'x' ~ texts }}", "'texts' is a list"),
        ("{{ texts|string }}", "a value given to string is a list"),
        ("{{ texts|upper }}", "a value given to upper is a list"),
        ("{{ table|join }}", "a value given to join is a list"),
        ("{{ '%s' % order }}", "a value that is formatted is an object"),
        ("{{ '%s %s' % (name, texts) }}", "a value that is formatted is a list"),
        ("{{ '{}'.format(texts) }}", "a value that is formatted is a list"),
        ("{{ users|map(attribute='nick') }}", "'users|map' is a list"),
        ("{{ texts|batch(2) }}", "'texts|batch' is a list"),
        ("{{ texts|reverse }}", "'texts|reverse' is a list"),
        ("{{ range }}", "'range' is a function"),
        ("{{ dict }}", "'dict' is a function"),
        ("{{ range(3) }}", "'range(…)' is a list"),
        ("{{ cycler('a') }}", "'cycler(…)' is a Cycler"),
        ("{{ joiner }}", "'joiner' is a function"),
        ("{{ namespace(a=1) }}", "'namespace(…)' is a Namespace"),
        ("{{ self }}", "'self' is a TemplateReference"),
        ("{% block b %}x{% endblock %}{{ self.b }}", "'self.b' is a function"),
        ("{% macro m() %}{% endmacro %}{{ m }}", "'m' is a function"),
        ("{% for x in texts %}{{ loop }}{% endfor %}", "'loop' is the loop itself"),
        ("{% for x in texts %}{{ loop.cycle }}{% endfor %}", "'loop.cycle' is a function"),
        ("{{ (-1) ** 0.5 }}", "a value is a complex"),
        ("{{ 1e308 * 10 }}", "a value is inf, not a number that can be written"),
        ("{{ 'nan'|float }}", "''nan'|float' is nan"),
        ("{{ name.upper }}", "'upper' is a method here, not a value; it has to be called: upper()"),
        ("{{ name['upper'] }}", "'upper' is a method here"),
        ("{{ [name]|map(attribute='upper')|join }}", "'upper' is a method here"),
        ("{{ texts.count }}", "'count' is a method here"),
        ("{{ 'x'.format }}", "''x'.format' is a function"),
        ("{{ plain.items }}", "'items' is a method here"),
        ("{{ plain['items'] }}", "'items' is a method here"),
        ("{% for a in plain.items %}{{ a }}{% endfor %}", "'items' is a method here"),
        ("{% if plain.keys %}x{% endif %}", "'keys' is a method here"),
        ("{{ plain.copy }}", "'dict object' has no attribute 'copy'"),
    ],
)
def test_writing_anything_but_text_number_date_or_markup_is_an_error_that_names_it(source, kind):
    assert fault(source).startswith(kind)
    assert fault(source, html=True).startswith(kind)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("{% if nick %}x{% else %}-{% endif %}", "-"),
        ("{{ nick or 'friend' }}{{ empty or nick or 'you' }}", "friendyou"),
        ("{{ nick|default('friend') }} {{ order.note|d('-') }} {{ missing|default('-') }}", "friend - -"),
        ("{{ nick|default }}{{ nick|default(default_value='a', boolean=true) }}{{ empty|d('b', true) }}", "ab"),
        ("{{ 0|default('x') }}{{ false|default('x') }}{{ empty|default('x') }}", "0False"),
        ("{{ nick is defined }} {{ nick is undefined }} {{ name is defined }} {{ empty is defined }}",
         "False True True True"),
        ("{{ nick is none }} {{ name is not none }} {{ nick == none }}", "True True True"),
        ("{{ users|selectattr('nick', 'defined')|map(attribute='nick')|join }}", "Bo"),
        ("{{ users|selectattr('nick')|map(attribute='nick')|join }}", "Bo"),
        ("{{ users|map(attribute='nick')|select|join }}", "Bo"),
        ("{{ users|map(attribute='nick', default='-')|join(' ') }}", "Bo -"),
        ("{{ users|map(attribute='nick')|map('default', '-')|join(' ') }}", "Bo -"),
        ("{% for t, g in users|groupby('town', default='?') %}{{ t }}={{ g|length }} {% endfor %}", "?=1 Rome=1 "),
        ("{{ nick.first|default('-') }}", "-"),
        ("{% for k, v in nick|items %}{{ k }}{% endfor %}-", "-"),
        ("{{ nick|map('upper')|join }}{{ nick|select|list|length }}", "0"),
        ("{{ nick|tojson }} {{ texts|tojson }}", 'null ["a", null]'),
        ("{{ {'class': 'x', 'id': nick}|xmlattr }}", ' class="x"'),
        ("{{ order.items|join(', ') }} {{ order['items']|length }}", "tea, milk 2"),
        ("{% for item in order.items %}{{ item }} {% endfor %}", "tea milk "),
        ("{{ order.count }}", "3"),
        ("{{ order.keys()|list|length }} {{ order.items()|list|length }} {{ order['items']()|list|length }}", "5 5 5"),
        ("{% for k, v in plain.items() %}{{ k }}={{ v }}{% endfor %} {{ plain.get('b', '-') }}", "a=1 -"),
        ("{{ plain.items|default('-') }}{{ plain.items is defined }}", "-False"),
        ("{% if order.items %}{{ order.items[0] }}{% endif %}", "tea"),
        ("{{ name.upper() }} {{ 'x'.join(['a', 'b']) }} {{ '{:>4}'.format(name) }} {{ '%5.2f' % 2 }}",
         "ANN axb  Ann  2.00"),
        ("{{ '%(total).2f' % order }} {{ '{0[total]:.2f} {o[items][0]}'.format(order, o=order) }}", "19.90 19.90 tea"),
        ("{{ nick and nick.x or '-' }}{{ 'x' if nick is none else nick }}", "-x"),
        ("{{ yes }} {{ not yes }} {{ 'yes' if yes else 'no' }}", "True False yes"),
        ("{{ '' ~ 1 ~ yes }} {{ [1, 2.5, true]|join(' ') }} {{ 7|string }} {{ 7|upper }}", "1True 1 2.5 True 7 7"),
        ("{{ 19.9 }} {{ 20.0 }} {{ 2 * 3 }} {{ 7 / 2 }} {{ 7 // 2 }} {{ 10 ** 20 }}", "19.9 20.0 6 3.5 3 1" + "0" * 20),
        ("{{ 1e16 }} {{ 0.00001 }} {{ -2.5e-7 }} {{ 1.5e300 }}",
         "10000000000000000 0.00001 -0.00000025 15" + "0" * 299),
        ("{{ 1e16 ~ '' }} {{ [0.00001]|join }} {{ 1e16|string }}", "10000000000000000 0.00001 10000000000000000"),
        ("{{ '%s %6s|%.1e' % (1e16, 0.00001, 0.00001) }} {{ '%(a)s' % {'a': 1e16} }} {{ '%s' % -0.0 }}",
         "10000000000000000 0.00001|1.0e-05 10000000000000000 0.0"),
        ("{{ '%s'|format(0.00001) }} {{ '%(a)s'|format(a=1e16) }}", "0.00001 10000000000000000"),
        ("{{ '{} {!s} {a:>8} {a:.2}'.format(1e16, 0.00001, a=0.00001) }}", "10000000000000000 0.00001  0.00001 1e-05"),
        ("{{ '{a:+,}'.format_map({'a': 1e16}) }}", "+10,000,000,000,000,000"),
        ("{{ 1e16|urlencode }} {{ {'q': 0.00001}|urlencode }} {{ [('q', 1e16)]|urlencode }}",
         "10000000000000000 q=0.00001 q=10000000000000000"),
        ("{{ {'a': 0.00001}|xmlattr }}", ' a="0.00001"'),
        ("{{ price * 2 }} {{ price|float + 0.5 }} {{ -0.001|round(2) }} {{ -0.5 }}", "19.9019.90 20.4 0.0 -0.5"),
        ("{% set c = cycler('a', 'b') %}{{ c.next() }}{{ c.next() }}{{ c.current }}", "aba"),
        ("{% for x in texts %}{{ loop.index }}{{ loop.cycle('a', 'b') }}{% endfor %}", "1a2b"),
    ],
)  # fmt: skip
def test_null_counts_as_missing_and_every_value_with_a_text_is_written(source, expected):
    assert render(source, price="19.90") == expected


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("{{ nick > 3 }}", "TypeError: '>' not supported between instances of null and 'int'"),
        ("{{ nick.upper() }}", "null has no attribute 'upper'"),
        ("{{ 'a' + nick }}", 'TypeError: can only concatenate str (not "null") to str'),
        ("{{ nick is even }}", "TypeError: unsupported operand type(s) for %: null and 'int'"),
    ],
)
def test_the_error_of_an_operation_with_null_calls_it_null(source, said):
    assert fault(source) == said


def test_values_of_python_types_are_written_as_well():
    more = {
        "price": Decimal("1.10E+3"),
        "day": date(2026, 12, 24),
        "when": datetime(2026, 12, 24, 9, tzinfo=UTC),
    }
    assert render("{{ price }} {{ day }} {{ when }}", **more) == "1100 2026-12-24 2026-12-24 09:00:00+00:00"
    assert fault("{{ price }}", price=Decimal("NaN")).startswith("'price' is NaN")


def test_markup_is_written_and_only_text_is_escaped():
    source = "{% set x %}<b>{{ name }}</b>{% endset %}{{ x }}{{ '<i>'|safe }}{{ '<i>' }}{{ [name]|tojson }}"
    assert render(source, html=True) == '<b>Ann</b><i>&lt;i&gt;["Ann"]'
    assert render("{{ '{}'|safe }}{{ ('<{}>'|safe).format('<') }}", html=True) == "{}<&lt;>"
    assert render("{{ ('<%s>'|safe) % 0.00001 }}{{ ('<{}>'|safe).format(1e16) }}", html=True) == (
        "<0.00001><10000000000000000>"
    )


def test_a_long_chain_of_names_makes_no_long_error():
    source = "{{ " + ".".join(["order"] + ["x" * 40] * 3) + "|default(none) }}"
    assert len(fault(source)) < 120
    deep: dict[str, Any] = {"a": None}
    for _ in range(40):
        deep = {"a": deep}
    assert fault("{{ deep" + ".a" * 41 + " }}", deep=deep) == "'….a.a.a.a.a.a' is null"
