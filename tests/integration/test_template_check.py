"""``mailbatch template check`` finds what would fail a mail, or spoil it, before a mail uses the template."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

GOOD = {
    "subject.txt": "Hello {{ name }}",
    "body.txt": "Dear {{ name }}",
    "body.html": "<p>{{ name }}<img src='logo.png'><img src='https://x.example/a.png'><img src='cid:logo.png'></p>",
    "logo.png": "",
    "sample.json": '{"name": "Ann"}',
}


@pytest.fixture
def check(say: Any, tmp_path: Path) -> Callable[..., tuple[int, str, str]]:
    def check(files: dict[str, str], *args: str) -> tuple[int, str, str]:
        for name, source in ({f"hi/{name}": text for name, text in GOOD.items()} | files).items():
            path = tmp_path / "templates" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(source, encoding="utf-8")
        return say("template", "check", *args, TEMPLATE_DIR=str(tmp_path / "templates"))

    return check


def test_a_template_that_is_in_order_is_named_with_its_languages(check):
    files = {"hi/de/subject.txt": "Hallo", "hi/de/body.txt": "Liebe {{ name }}", "bare/subject.txt": "s"}
    assert check({**files, "bare/body.txt": "b", "shared/macros.html": ""}) == (
        0,
        "bare: ok (en); compiled only, because it has no sample.json\nhi: ok (en, de)\n",
        "",
    )


def test_names_that_a_template_sets_are_no_variables(check):
    """At its top level, for its blocks, its layout and what it includes."""
    child = (
        "{% extends 'base/x.html' %}{% from 'base/m.html' import bold, thin as light %}{% import 'base/m.html' as m %}"
        "{% set title, rest = 'T', 'R' %}{% set long %}L{% endset %}{% macro own() %}O{% endmacro %}"
        "{% block main %}{{ bold(name) }}{{ light() }}{{ m.thin() }}{{ title }}{{ rest }}"
        "{{ long }}{{ own() }}{% endblock %}"
    )
    base = "<title>{{ title }}</title>{% block main %}{% endblock %}{% include 'base/foot.html' %}"
    macros = "{% macro bold(t) %}<b>{{ t }}</b>{% endmacro %}{% macro thin() %}t{% endmacro %}"
    files = {"hi/body.html": child, "base/x.html": base, "base/m.html": macros, "base/foot.html": "{{ rest }}"}
    assert check(files, "hi") == (0, "hi: ok (en)\n", "")
    code, out, _ = check(files | {"base/foot.html": "{{ total }}"}, "hi")
    assert (code, out) == (1, "hi (en): hi/sample.json has no value for total\n")


@pytest.mark.parametrize(
    ("files", "line"),
    [
        ({"hi/body.txt": "{{ name"}, "hi (en): template hi/body.txt line 1: unexpected end of template, expected"),
        ({"hi/body.txt": "{% include 'x/y.txt' %}"}, "hi (en): template hi/body.txt: cannot include 'x/y.txt': it"),
        ({"hi/de/body.txt": "x"}, "hi (de): subject: is missing; give one, or add it to "),
        ({"hi/body.html": "{{ total + rate }}"}, "hi (en): hi/sample.json has no value for rate, total"),
        ({"hi/body.html": "{{ name.first }}"}, "hi (en): template hi/body.html line 1: 'str object' has no attribute"),
        ({"hi/body.html": "{{ name|date }}"}, "hi (en): template hi/body.html line 1: the filter date is given"),
        ({"hi/subject.txt": "a\nb"}, "hi (en): subject: has a line break (U+000A); it must be one line"),
        ({"hi/subject.txt": " "}, "hi (en): subject: is empty"),
        ({"hi/de/subject.txt": "s", "hi/de/body.html": "<p>"}, "hi (de): has HTML and no text: add body.txt, or "),
        ({"hi/body.html": "<img src=../x.png>"}, "hi (en): body.html shows the image ../x.png, which is not in hi/"),
        ({"hi/body.html": "<img src='cid:b.png'>"}, "hi (en): body.html shows the image cid:b.png, which is not in"),
        (
            {"hi/body.html": "<img src='my logo.png'>", "hi/my logo.png": "PNG"},
            "hi (en): body.html shows the image my logo.png, which is not embedded: a name has",
        ),
        ({"hi/body.html": "{{ 'x' * 110000 }}"}, "hi (en): body.html has 110000 bytes; Gmail cuts a mail off after"),
        ({"hi/sample.json": "{"}, "hi (en): hi/sample.json is no JSON: Expecting property name"),
        ({"hi/sample.json": "[]"}, "hi (en): hi/sample.json is no JSON object of names and values"),
        ({"hi/sample.json": "[" * 2**20 + " "}, "hi (en): hi/sample.json has more than 1048576 bytes"),
        ({"hi/template.toml": "x = 1"}, "hi (en): template hi: template.toml has 'x'; it may have html_to_text"),
    ],
)
def test_what_is_wrong_is_a_line_that_names_template_language_and_place(check, files, line):
    code, out, err = check(files, "hi")
    assert (code, err) == (1, "")
    assert out.startswith(line)
    assert out.count("\n") == 1


def test_the_findings_are_also_json(check):
    code, out, _ = check({"hi/subject.txt": ""}, "hi", "--json")
    found = [{"locale": "en", "finding": "subject: is empty"}]
    assert (code, json.loads(out)) == (1, [{"name": "hi", "locales": ["en"], "rendered": True, "findings": found}])


@pytest.mark.parametrize("name", ["gone", "../hi", ""])
def test_a_template_that_is_not_there_is_named(check, name):
    code, out, err = check({}, name)
    assert (code, out) == (1, "")
    assert err.startswith("mailbatch: no template ")


def test_without_a_folder_it_says_what_to_set(say):
    assert say("template", "check")[2] == "mailbatch: there is no template directory; set MAILBATCH_TEMPLATE_DIR\n"


def test_the_templates_of_the_examples_are_in_order(say):
    code, out, _ = say("template", "check", TEMPLATE_DIR=str(Path(__file__).parents[2] / "examples" / "templates"))
    assert (code, out.count(": ok (en)\n")) == (0, 5)
