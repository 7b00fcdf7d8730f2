"""Hostile templates: none reaches the interpreter, or takes much memory or time."""

from __future__ import annotations

import resource
import time
from contextlib import suppress

import pytest
from jinja2 import Environment, StrictUndefined

from mailbatch.domain.errors import CannotCompose
from mailbatch.domain.reservation import Mail
from mailbatch.infrastructure.templates.budget import STEPS_BETWEEN_CLOCK_READS, Budget, OverBudget
from mailbatch.infrastructure.templates.renderer import TemplateRenderer
from mailbatch.infrastructure.templates.sandbox import Sandbox

MOST = 1_000_000
DOUBLED_LISTS = "{% set a = [1, 1] %}" + "{% set a = [a, a] %}" * 40


HOARD = "{% set x = 'x' * 900000 %}{% set ns = namespace(l=[]) %}"


def render(source: str, most: int = MOST, **context) -> str:
    mail = Mail(recipients="ann@example.org", subject="s", body_text=source, context=context)
    return TemplateRenderer(None, most)(mail).text or ""


def fault(source: str, **context) -> str:
    with pytest.raises(CannotCompose) as caught:
        render(source, **context)
    [line] = caught.value.errors
    return line


def peak_kib() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


@pytest.mark.parametrize(
    "source",
    [
        "{{ 'x' * 900000000 }}",
        "{{ 900000000 * 'x' }}",
        "{{ [1] * 900000000 }}",
        "{{ 10 ** 10000000 }}",
        "{{ (2 ** 4000) * (2 ** 4000) }}",
        "{{ 'x'.center(500000000) }}",
        "{{ 'x'.ljust(500000000) }}",
        "{{ 'x'.rjust(500000000) }}",
        "{{ '1'.zfill(500000000) }}",
        "{{ 'x'['center'](500000000) }}",
        "{{ ('x'|attr('center'))(500000000) }}",
        "{{ '\\t'.expandtabs(500000000) }}",
        "{{ 'x'.encode().center(500000000) }}",
        "{{ (5).to_bytes(500000000, 'big') }}",
        "{{ 'x'.translate({120: 'y' * 900000}) }}",
        "{{ 'x'|center(500000000) }}",
        "{{ 'x'|indent(500000000, true) }}",
        "{{ 'x y'|wordwrap(1, wrapstring='y' * 900000) }}",
        "{{ ('x ' * 1000)|wordwrap(1, wrapstring='y' * 1001) }}",
        "{{ '%999999999d' % 1 }}",
        "{{ '%.999999999f' % 1 }}",
        "{{ '%*d' % (999999999, 1) }}",
        "{{ '%999999999d'|format(1) }}",
        "{{ '{:999999999}'.format(1) }}",
        "{{ '{:{}}'.format(1, 999999999) }}",
        "{{ '{0:{w}}'.format_map({'0': 1, 'w': 999999999}) }}",
        "{{ ('%s' * 1000) % ((('x' * 1000000),) * 1000) }}",
        "{{ [1]|batch(900000000, 0)|list }}",
        HOARD + "{% for i in range(100000) %}{% set ns.l = ns.l + [x|upper] %}{% endfor %}",
        HOARD + "{% for i in range(100000) %}{% set ns.l = ns.l + [x[1:]] %}{% endfor %}",
        HOARD + "{% for i in range(100000) %}{% set ns.l = ns.l + [x ~ i] %}{% endfor %}",
        HOARD + "{% for i in range(100000) %}{% set ns.l = ns.l + [x + 'x'] %}{% endfor %}",
        HOARD + "{% for i in range(100000) %}{% set ns.l = ns.l + [[1] * 100000] %}{% endfor %}",
        HOARD + "{{ ([x] * 90000)|map('upper')|list|length }}",
        HOARD + "{{ range(90000)|map('string')|map('replace', '1', x)|list|length }}",
        HOARD + "{% set x = x[:60000] %}{% for i in range(100000) %}{% set ns.l = ns.l + [x|upper] %}{% endfor %}",
        "{% for i in range(20) %}{{ range(100000)|select('odd')|list|length }}{% endfor %}",
        "{% for i in range(20) %}{{ range(100000)|map('string')|list|length }}{% endfor %}",
        "{{ ([[1] * 100000] * 100000)|sum(start=[])|length }}",
        "{{ ('ab ' * 300000).split()|length }}",
        "{{ ('ab ' * 300000).split('a')|length }}",
        "{{ ('a\\n' * 300000).splitlines()|length }}",
        "{{ ('ab ' * 300000)|list|length }}",
        "{{ [1]|slice(900000000)|list }}",
        "{{ 1|round(100000000, 'ceil') }}",
        "{{ [1]|tojson(900000000) }}",
        "{{ 'aaaa'|replace('a', 'b' * 900000) }}",
        "{{ 'aaaa'.replace('a', 'b' * 900000) }}",
        "{{ ['x' * 100000] | list | join('y' * 900001) if false else (['x' * 100000] * 1000)|join }}",
        "{{ ('y' * 100000).join(['x'] * 1000) }}",
        "{{ range(100000000) }}",
        "{{ lipsum(100000) }}",
        "{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}",
        "{% for i in range(100000) recursive %}{{ loop(range(100000)) }}{% endfor %}",
        "{% set ns = namespace(x='x') %}{% for i in range(60) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}",
        "{% set ns = namespace(x='x') %}{% for i in range(60) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
        "{% set ns = namespace(x=[1]) %}{% for i in range(60) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
        "{% set a = 'xx' %}" + "{% set a %}{{ a }}{{ a }}{% endset %}" * 60,
        "{% set a = '\"' %}" + "{% set a = a|tojson|string %}" * 60,
        "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
        "{% macro m(n) %}{% if n %}{{ m(n - 1) }}{{ m(n - 1) }}{% endif %}{% endmacro %}{{ m(60) }}",
        "{% macro m(n) %}{% if n %}x{{ m(n - 1) }}{{ m(n - 1) }}{% endif %}{% endmacro %}{{ m(60) }}",
        DOUBLED_LISTS + "{{ a }}",
        DOUBLED_LISTS + "{{ a|tojson }}",
        DOUBLED_LISTS + "{{ a|string|length }}",
        DOUBLED_LISTS + "{{ a ~ '' }}",
        DOUBLED_LISTS + "{{ '%s' % a }}",
        DOUBLED_LISTS + "{{ '%s'|format(a) }}",
        DOUBLED_LISTS + "{{ '{}'.format(a) }}",
        DOUBLED_LISTS + "{{ a|join }}",
        DOUBLED_LISTS + "{{ ''.join(a) }}",
        "{% for i in range(100000) %}{{ 'xxxxxxxxxxxxxxxx' }}{% endfor %}",
        "{{ " + "(" * 3000 + "1" + ")" * 3000 + " }}",
        "{{ " + "1 + " * 20_000 + "1 }}",
        "{{ [" + "1," * 400_000 + "1] }}",
    ],
)
def test_templates_that_would_fill_memory_or_take_for_ever_fail_fast(source):
    before, began = peak_kib(), time.thread_time()
    line = fault(source)
    assert line.startswith("body_text")
    assert line.isprintable()
    assert time.thread_time() - began < 15
    assert peak_kib() - before < 200_000


TWO = (
    "{% set a = [1, 1] %}{% set b = [1, 1] %}"
    + "{% set a = [a, a] %}{% set b = [b, b] %}" * 60
    + "{% set t = (1, 1) %}{% set u = (1, 1) %}"
    + "{% set t = (t, t) %}{% set u = (u, u) %}" * 60
    + "{% set ns = namespace(l=a) %}{% set os = namespace(l=b) %}"
)
"""Two lists, two tuples and two namespaces that are equal, and without end when somebody compares or hashes them."""
HALF = "{% set h = 'a' * 4000000 %}{% set n = 'b' ~ 'a' * 2000000 %}{% set s = 'é' ~ 'x' * 9000000 %}"


@pytest.mark.parametrize(
    "source",
    [
        "{{ ('a'*8000000).rfind('ab' ~ 'a'*4000000) }}",
        HALF + "{{ h.rindex('a' ~ n) }}",
        HALF + "{{ h.rpartition('a' ~ n)|length }}",
        HALF + "{{ h.rsplit('a' ~ n)|length }}",
        HALF + "{{ h['rfind']('a' ~ n) }}",
        HALF + "{{ (h|attr('rfind'))('a' ~ n) }}",
        HALF + "{{ [h]|map('trim', s)|list|length }}",
        HALF + "{{ h.strip(s)|length }}",
        HALF + "{{ h.lstrip(s)|length }}",
        HALF + "{{ h|trim(s)|length }}",
        HALF + "{{ h|wordwrap(1)|length }}",
        HALF + "{{ ('a-' * 2000000)|wordwrap|length }}",
        HALF + "{{ h|center(1)|title|length }}",
        "{{ ('a ' * 9000000)|wordcount }}",
        "{{ ('<b>' * 6000000)|striptags|length }}",
        "{{ ('é' * 9000000)|urlencode|length }}",
        "{{ ('1 ' * 9000000) % 1 }}",
        "{{ ('{' * 9000000).format(1) }}",
        "{{ '%999999999d' is even }}",
        "{{ '%999999999d' is divisibleby(3) }}",
        "{{ ['%999999999d']|select('odd')|list|length }}",
        "{{ '%999999999d' is divisibleby(num=3) }}",
        HALF + "{{ ([h] * 90000)|sort|length }}",
        HALF + "{{ ([h] * 90000)|min|length }}",
        HALF + "{{ ([h] * 90000)|unique|list|length }}",
        HALF + "{{ ([{'x': h}] * 90000)|groupby('x')|length }}",
        HALF + "{{ ([{'x': h}] * 90000)|sort(attribute='x')|length }}",
        HALF + "{{ n in [h] * 90000 }}",
        HALF + "{{ ([h] * 90000).index(n) }}",
        HALF + "{{ h.startswith((h,) * 90000) }}",
        HALF + "{{ [{'x': 1}]|map(attribute=h)|list|length }}",
        TWO + "{{ a == b }}",
        TWO + "{{ 1 < 2 < 3 and 0 != a == b }}",
        TWO + "{{ a < b }}",
        TWO + "{{ a in [b] }}",
        TWO + "{{ a in [b]|map('list') }}",
        TWO + "{{ [b].index(a) }}",
        TWO + "{{ [b].count(a) }}",
        TWO + "{{ [a]|select('==', b)|list|length }}",
        TWO + "{{ [a]|select('in', [b])|list|length }}",
        TWO + "{{ [a, b]|sort|length }}",
        TWO + "{{ [a, b]|max|length }}",
        TWO + "{{ [ns, os]|sort(attribute='l')|length }}",
        TWO + "{{ [ns, os]|groupby('l')|length }}",
        TWO + "{{ [ns]|join(attribute='l') }}",
        TWO + "{{ ns }}",
        TWO + "{{ '{0.l}'.format(ns) }}",
        TWO + "{{ {'x': a}.values()|list|tojson }}",
        TWO + "{{ {'x': a}.items()|list|tojson }}",
        TWO + "{{ a is upper }}",
        TWO + "{% for x in [a, b] %}{{ loop.changed(x) }}{% endfor %}",
        TWO + "{{ {t: 1} }}",
        TWO + "{{ {1: 1}[t] }}",
        TWO + "{{ {1: 1}[a] }}",
        TWO + "{{ '11'|groupby(a)|list }}",
        TWO + "{{ {1: 1}.get(t) }}",
        TWO + "{{ t in {1: 1} }}",
        TWO + "{{ t is filter }}",
        TWO + "{{ dict([(t, 1)]) }}",
        TWO + "{{ dict([[t, 1]|map('default')]) }}",
        TWO + "{{ namespace([(t, 1)]) }}",
        TWO + "{{ [t, u]|unique|list|length }}",
        TWO + "{{ {1: 1}.keys() - [t] }}",
        "{{ dict(pairs) }}",
        "{{ {" + ", ".join(f"{2305843009213693951 * i}: 1" for i in range(20_000)) + "}|length }}",
    ],
)  # fmt: skip
def test_no_single_operation_takes_longer_than_its_share(source, monkeypatch):
    pairs = [(2305843009213693951 * i, i) for i in range(50_000)] if "pairs" in source else []
    before, began = peak_kib(), time.thread_time()
    mail = Mail(recipients="a@b", subject="s", body_text=source, context={"pairs": pairs})
    if source.startswith(TWO):  # Without end is without end: fewer steps show it sooner.
        monkeypatch.setattr(Budget.__init__, "__defaults__", (100_000, 5.0))
    with pytest.raises(CannotCompose, match=r"at once|steps|formats|more than|longer|not allowed|no texts|pairs|is a "):
        TemplateRenderer(None, 26_214_400)(mail)
    assert time.thread_time() - began < 5
    assert peak_kib() - before < 400_000


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("{{ text|striptags|wordwrap|length > 800000 }}", "True"),
        ("{{ text|replace('customer', 'friend')|length < text|length }}", "True"),
        ("{{ text.splitlines()|length }} {{ text.find('no such words in it') }} {{ 'fox' in text }}", "20001 -1 True"),
        ("{{ text.rfind('no such words') }} {{ text.strip(' .\n')|length < text|length }}", "-1 True"),
        ("{% for user in users if user.id in wanted %}{{ user.name }}{% endfor %}", "user 7user 9"),
        ("{{ users|sort(attribute='name')|map(attribute='id')|first }} {{ users|groupby('town')|length }}", "0 10"),
        ("{{ users|map(attribute='town')|unique|join(', ')|length }} {{ (users|max(attribute='id')).id }}", "78 1999"),
        ("{{ users == users }} {{ users[0] in users }} {{ users[0] != users[1] }}", "True True True"),
        ("{{ users|rejectattr('id', 'in', wanted)|list|length }}", "1998"),
        ("{{ users|selectattr('id', '<', 10)|list|length }} {{ 1 < users|length <= 2000 }}", "10 True"),
        ("{{ text|title|length == text|length }} {{ text|wordcount }}", "True 200000"),
        ("{{ text|indent|length > text|length }} {{ text|urlencode|length > text|length }}", "True True"),
        ("{{ text|upper|lower == text|lower }} {{ text|tojson|length > text|length }}", "True True"),
    ],
)  # fmt: skip
def test_a_newsletter_with_a_megabyte_of_context_still_renders(source, expected):
    text = "Dear customer, the <b>quick</b> fox is in stock.\n" * 20_000 + "."
    users = [{"id": i, "name": f"user {i}", "town": f"town {i % 10}"} for i in range(2000)]
    context = {"text": text, "users": users, "wanted": [7, 9, *range(5000, 6000)]}
    assert render(source, most=26_214_400, **context) == expected


BIG = "{% set big = '<' * 200000 %}"


@pytest.mark.parametrize(
    "source",
    [
        BIG + "{% for i in range(100000) %}{{ big }}{% endfor %}",
        BIG + "{{ big }}" * 60,
        BIG + "{% for i in range(100000) %}{{ big|lower }}{% endfor %}",
        BIG + "{% set text %}{% for i in range(100000) %}{{ big }}{% endfor %}{% endset %}",
        BIG + "{% macro m() %}{% for i in range(100000) %}{{ big }}{% endfor %}{% endmacro %}{{ m() }}",
        BIG + "{% filter lower %}{% for i in range(100000) %}{{ big[:4000] }}{% endfor %}{% endfilter %}",
        "{% set big = 'y' * 99999 %}{% set t %}{% for i in range(90000) %}{{ big[i:i+4000] }}{% endfor %}{% endset %}",
        BIG + "{% for i in [1] recursive %}{% for j in range(100000) %}{{ big[:4000] }}{% endfor %}{% endfor %}",
        BIG + "{% for i in range(100000) %}{{ [big]|tojson }}{% endfor %}",
        BIG
        + "{% set t %}{% for i in range(9999) %}{% autoescape i %}{{ big }}{% endautoescape %}{% endfor %}{% endset %}",
        BIG + "{{ [big, [big], [[big]], [[[big]]]]|tojson }}",
        "{{ [1]|batch(100000, [1]|batch(100000, 0)|list)|list|tojson }}",
    ],
)
def test_output_that_escaping_or_repeated_writing_multiplies_is_counted(source):
    mail = Mail(recipients="ann@example.org", subject="s", body_html=source)
    templates = TemplateRenderer(None, MOST)
    before, began = peak_kib(), time.thread_time()
    with pytest.raises(CannotCompose, match=r"characters|bytes|values|steps"):
        templates(mail)
    assert time.thread_time() - began < 15
    assert peak_kib() - before < 200_000


@pytest.mark.parametrize("names", ["['no/such.txt'] * 100000", "['a/' * 9000000]", "t", "[t]", "'a/' * 9000000"])
def test_searches_for_files_are_bounded(tmp_path, names):
    (tmp_path / "news").mkdir()
    doubled = "{% set t = (1, 1) %}" + "{% set t = (t, t) %}" * 60
    (tmp_path / "news/body.txt").write_text(doubled + f"{{% include {names} %}}")
    began = time.thread_time()
    with pytest.raises(CannotCompose):
        TemplateRenderer(tmp_path, 26_214_400)(Mail(recipients="a@b", subject="s", template="news"))
    assert time.thread_time() - began < 8


def test_includes_are_steps(tmp_path):
    (tmp_path / "again").mkdir()
    (tmp_path / "again/body.txt").write_text(
        "{% set n = n - 1 %}{% if n %}{% include 'again/body.txt' %}{% include 'again/body.txt' %}{% endif %}"
    )
    mail = Mail(recipients="ann@example.org", subject="s", template="again", context={"n": 60})
    with pytest.raises(CannotCompose, match=r"steps|seconds"):
        TemplateRenderer(tmp_path, MOST)(mail)


@pytest.mark.parametrize(
    "source",
    [
        "{{ text }} {{ marks }} {{ number }} {{ ratio }} {{ yes }} {{ nothing or 1 }} {{ texts|tojson }} {{ long }}",
        "{{ table.key }} {{ table['key'] }} {{ table.items()|list|tojson }} {{ table.get('no', marks) }}",
        "{{ '<' }} {{ 1 }} {{ [none, 1.5]|tojson }} {{ marks|safe }} {{ marks|e }}{{ text if yes }}{{ long|upper }}",
        "{% autoescape yes %}{{ marks }}{% endautoescape %}{% autoescape nothing %}{{ marks }}{% endautoescape %}",
        "{% autoescape false %}{{ marks }}{% endautoescape %}{% autoescape true %}{{ marks }}{% endautoescape %}",
        "{% for t in texts %}{{ loop.index }} {{ t }} {{ loop.last }}{% else %}-{% endfor %}{{ texts|join('<') }}",
        "{% macro m(a, b='<') %}{{ a }}{{ b }}{% endmacro %}{{ m(marks) }}",
        "{% macro m() %}{{ caller() }}{% endmacro %}{% call m() %}{{ marks }}{% endcall %}",
        "{% filter upper %}{{ marks }}x{% endfilter %}{{ yes and marks }}{{ marks|upper|length }}",
        "{% set a %}{{ marks }}{% endset %}{{ a }}{{ a ~ marks }}{{ marks ~ number }}{{ marks + a }}",
        "{% block b %}{{ marks }}{% endblock %}{{ self.b() }}{% with x = marks %}{{ x }}{% endwith %}",
    ],
)
@pytest.mark.parametrize("html", [False, True])
def test_the_output_is_the_same_as_jinja2s(source, html):
    context = {
        "text": "Ann",
        "marks": '<a href="\'">&</a>',
        "number": 7,
        "ratio": 0.5,
        "yes": True,
        "nothing": None,
        "texts": ["a", "<b>"],
        "table": {"key": "<value>"},
        "long": "é<" * 5000,
    }
    plain = Environment(autoescape=html, undefined=StrictUndefined, keep_trailing_newline=True)  # noqa: S701 - as asked
    mail = Mail(recipients="a@b", subject="s", **{"body_html" if html else "body_text": source}, context=context)
    rendered = TemplateRenderer(None, MOST)(mail)
    written = rendered.html if html else rendered.text
    expected = plain.from_string(source).render(context)
    assert written == expected


@pytest.mark.parametrize(
    "source",
    [
        "{% for i in range(2000) %}{% for j in range(2000) %}{% endfor %}{% endfor %}",
        "{% for i in range(2000) recursive %}{% if loop.depth == 1 %}{{ loop(range(2000)) }}{% endif %}{% endfor %}",
        "{% macro m() %}{% endmacro %}{% for i in range(100000) %}{{ m() }}{{ m() }}{% endfor %}",
    ],
)
def test_loops_end_by_their_steps_however_fast_the_machine_is(source):
    assert "more than 1000000 steps" in fault(source)


@pytest.mark.parametrize(
    "source",
    [
        "{{ ''.__class__.__mro__ }}",
        "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
        "{{ self.__init__.__globals__ }}",
        "{{ range.__self__ }}",
        "{{ ''|attr('__class__') }}",
        "{{ '{0.__class__.__mro__}'.format(1) }}",
        "{{ items.append(1) }}",
        "{{ user.clear() }}",
        "{{ user.update({}) }}",
        "{{ 'x'.encode() }}",
        "{{ 'x'|pprint }}",
        "{{ environment.loader }}",
        "{{ joined }}",
    ],
)
def test_there_is_no_way_out_of_the_sandbox(source):
    assert fault(source, items=[1], user={"name": "Ann"})


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("{{ '%.2f' % 3.14159 }} {{ '%05d' % 42 }} {{ '100%' }}", "3.14 00042 100%"),
        ("{{ '{:,.2f}'.format(1234567.891) }} {{ '{name}'.format(name=name) }}", "1,234,567.89 Ann"),
        ("{{ '%05d'|format(42) }} {{ '7'.zfill(3) }}|{{ 'x'.ljust(3) }}|{{ 'x'|center(5) }}|", "00042 007|x  |  x  |"),
        ("{{ ', '.join(items) }} {{ items|join(' & ') }}", "a, b a & b"),
        ("{{ users|join(', ', attribute='name') }}", "Cy, Di"),
        ("{{ 'abc'.replace('b', 'x') }} {{ 'abc'|replace('b', 'x') }}", "axc axc"),
        ("{{ 'a b,c'.split()[1] }} {{ 'a b,c'.split(',', 1)[0] }} {{ 'a\\nb'.splitlines()|last }}", "b,c a b b"),
        ("{{ 'abc'|list|join('-') }} {{ users[1:]|map(attribute='name')|first }} {{ 'abc'[::-1] }}", "a-b-c Di cba"),
        ("{{ name.upper() }} {{ name|lower }} {{ name[:2] }} {{ name ~ '!' }}", "ANN ann An Ann!"),
        ("{% for u in users %}{{ loop.index }}/{{ loop.length }} {{ u.name }} {% endfor %}", "1/2 Cy 2/2 Di "),
        ("{% for u in users %}{{ u.name }}{{ ', ' if not loop.last }}{% endfor %}", "Cy, Di"),
        ("{% for u in users if u.name != 'Cy' %}{{ u.name }}{% else %}none{% endfor %}", "Di"),
        ("{% for u in [] %}x{% else %}none{% endfor %}", "none"),
        ("{% for k, v in prices.items() %}{{ k }}={{ v|round(2) }} {% endfor %}", "tea=1.5 "),
        ("{% for n in tree recursive %}{{ n.n }}{% if n.c %}({{ loop(n.c) }}){% endif %}{% endfor %}", "1(2(3))"),
        ("{% macro bold(x) %}*{{ x }}*{% endmacro %}{{ bold(name) }}", "*Ann*"),
        ("{% set x %}a{{ name }}{% endset %}{{ x }}", "aAnn"),
        ("{{ users|map(attribute='name')|sort|first }} {{ [3, 1]|sum }} {{ items|length }}", "Cy 4 2"),
        ("{{ 7 % 4 }} {{ 2 ** 10 }} {{ 2 * 3 + 1 }} {{ ([1] + [2])|tojson }} {{ 'a' + 'b' }}", "3 1024 7 [1, 2] ab"),
        ("{{ missing|default('-') }} {{ 'a\nb'|indent(2) }} {{ items|tojson }}", '- a\n  b ["a", "b"]'),
        ("{{ 'the quick fox'|wordwrap(9) }} {{ 'the quick'|truncate(8, true, '', 0) }}", "the quick\nfox the quic"),
        ("{{ [{'n': 2}, {'n': 3}]|sum(attribute='n') }} {{ [1, 2]|batch(linecount=1)|map('sum')|join(',') }}", "5 1,2"),
        ("{{ [1]|slice(slices=1)|list|tojson }} {{ 9 is divisibleby(num=3) }} {{ 1 is in(seq=[2]) }}",
         "[[1]] True False"),
        ("{% for row in range(4)|batch(2) %}{{ row|tojson }}{% endfor %}", "[0, 1][2, 3]"),
    ],
)  # fmt: skip
def test_what_ordinary_mails_use_works(source, expected):
    context = {
        "name": "Ann",
        "items": ["a", "b"],
        "users": [{"name": "Cy"}, {"name": "Di"}],
        "prices": {"tea": 1.5},
        "tree": [{"n": 1, "c": [{"n": 2, "c": [{"n": 3, "c": []}]}]}],
    }
    assert render(source, **context) == expected


def test_a_long_ordinary_list_fits_the_budget():
    text = render("{% for n in numbers %}{{ n }}\n{% endfor %}", numbers=list(range(50_000)))
    assert text.count("\n") == 50_000


def test_output_is_counted_in_bytes():
    assert render("{{ x }}", most=100, x="ö" * 50)
    with pytest.raises(CannotCompose, match="more than 100 bytes"):
        render("{{ x }}", most=100, x="ö" * 51)


def test_a_budget_of_time_ends_what_takes_few_steps():
    budget = Budget(MOST, seconds=0.0)
    budget.step(100)
    with pytest.raises(OverBudget, match="takes longer than 0 seconds"):
        budget.step(100)


@pytest.mark.parametrize("count", [1, STEPS_BETWEEN_CLOCK_READS, STEPS_BETWEEN_CLOCK_READS + 1])
@pytest.mark.parametrize("kind", [list, tuple, iter])
def test_a_turn_over_any_values_is_a_step(count, kind):
    turns, sandbox = 0, Sandbox(html=False)
    with Budget(MOST, steps=10_000), suppress(OverBudget):
        for _ in range(20_000):
            turns += len(list(sandbox.count_turns(kind([0] * count))))
    assert 10_000 - count <= turns <= 10_000 + STEPS_BETWEEN_CLOCK_READS


def test_the_faults_of_a_source_are_found_each_time():
    templates = TemplateRenderer(None, MOST)
    mail = Mail(recipients="a@b", subject="s", body_text="{{ 'x' * 900000000 }}")
    for _ in range(3):
        with pytest.raises(CannotCompose, match="makes a text of more than"):
            templates(mail)
