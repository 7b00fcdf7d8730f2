"""Inline sources and named templates, and their error messages."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from jinja2.exceptions import SecurityError, UndefinedError
from support.waiting import wait_until

from mailbatch.domain.errors import CannotCompose
from mailbatch.domain.letter import Rendered
from mailbatch.domain.reservation import Mail
from mailbatch.infrastructure.templates.budget import Budget
from mailbatch.infrastructure.templates.options import Options
from mailbatch.infrastructure.templates.renderer import TemplateRenderer
from mailbatch.infrastructure.templates.sandbox import Sandbox

if TYPE_CHECKING:
    from pathlib import Path

MOST = 1_000_000


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "templates"
    write(folder, "welcome/subject.txt", "Welcome, {{ name }}\n")
    write(folder, "welcome/body.txt", "Dear {{ name }},\nyours\n")
    write(folder, "welcome/body.html", "<p>Dear {{ name }}</p>\n")
    return folder


def write(folder: Path, name: str, source: str) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(source, encoding="utf-8")
    return path


def mail(**fields) -> Mail:
    return Mail(recipients="ann@example.org", **fields)


def render(folder: Path | None = None, **fields) -> Rendered:
    return TemplateRenderer(folder, MOST)(mail(**fields))


def faults(folder: Path | None = None, **fields) -> list[str]:
    with pytest.raises(CannotCompose) as caught:
        render(folder, **fields)
    assert all(error.isprintable() for error in caught.value.errors)
    return caught.value.errors


def test_inline_sources_are_templates_and_only_html_is_escaped():
    name = {"name": "<Ann & Bob>"}
    rendered = render(subject="{{ name }}", body_text="{{ name }}", body_html="<p>{{ name }}</p>", context=name)
    assert rendered == Rendered(subject="<Ann & Bob>", text="<Ann & Bob>", html="<p>&lt;Ann &amp; Bob&gt;</p>")


@pytest.mark.parametrize(
    "source",
    [
        "{{ a ~ '<' }}",
        "{{ a + '<' }}",
        "{{ [a, '<']|join }}",
        "{{ '%s<'|format(a) }}",
        "{{ '{}<'.format(a) }}",
        "{% set b %}{{ a }}<{% endset %}{{ b }}",
        "{% macro b() %}{{ a }}<{% endmacro %}{{ b() }}",
    ],
)
def test_html_is_escaped_whichever_way_a_value_takes(source):
    html = render(subject="s", body_html=source, context={"a": "<i>"}).html
    assert html in ("&lt;i&gt;&lt;", "&lt;i&gt;<"), "a '<' of the source's own may stand"
    assert "<i>" not in html


def test_sources_run_without_a_context():
    assert render(subject="{{ 1 + 1 }}", body_text="{% if true %}yes{% endif %}").subject == "2"


def test_a_source_without_tags_stays_as_it_is():
    css = "<style>a {color: red}</style> 100% }} %}\r\n"
    rendered = render(subject="{a}", body_text=css, body_html=css)
    assert (rendered.subject, rendered.text, rendered.html) == ("{a}", css, css)


def test_line_ends_at_the_end_of_a_source_are_kept():
    assert render(subject="s", body_text="{{ 1 }}\n\n").text == "1\n\n"


def test_a_missing_variable_is_named_with_part_and_line():
    lines = faults(subject="{{ a }}", body_text="x\n\n{{ name }}\n", body_html="<p>\n{{ user.name }}</p>", context={})
    assert lines == [
        "subject line 1: 'a' is undefined",
        "body_text line 3: 'name' is undefined",
        "body_html line 2: 'user' is undefined",
    ]


def test_a_syntax_error_is_named_with_part_and_line():
    [line] = faults(subject="s", body_text="x\n{{ a b }}")
    assert line == "body_text line 2: expected token 'end of print statement', got 'b'"


def test_an_error_of_python_is_named_with_its_class():
    [line] = faults(subject="s", body_text="\n{{ 1 // 0 }}")
    assert line.startswith("body_text line 2: ZeroDivisionError: ")


@pytest.mark.parametrize(
    "tag", ["{% include 'x' %}", "{% import 'x' as x %}", "{% extends 'x' %}", "{% from 'x' import y %}"]
)
def test_an_inline_source_includes_nothing(folder, tag):
    write(folder, "x", "secret")
    assert faults(folder, subject="s", body_text=tag) == [
        "body_text line 1: an inline source cannot include, import or extend; use a named template"
    ]


def test_a_named_template_brings_all_parts(folder):
    rendered = render(folder, template="welcome", context={"name": "A&B"})
    assert rendered == Rendered(subject="Welcome, A&B", text="Dear A&B,\nyours\n", html="<p>Dear A&amp;B</p>\n")


def test_a_mails_own_parts_replace_those_of_the_template(folder):
    rendered = render(folder, template="welcome", subject="Hi", body_text="own", context={"name": "Ann"})
    assert (rendered.subject, rendered.text, rendered.html) == ("Hi", "own", "<p>Dear Ann</p>\n")


def test_a_template_may_leave_out_parts(folder):
    write(folder, "bare/body.html", "<p>x</p>")
    assert render(folder, template="bare", subject="s") == Rendered(subject="s", text=None, html="<p>x</p>")
    [line] = faults(folder, template="bare")
    assert line == f"subject: is missing; give one, or add it to {folder}/bare as subject.txt"


def test_a_changed_template_is_read_again(folder):
    templates = TemplateRenderer(folder, MOST)
    assert templates(mail(template="welcome", context={"name": "Ann"})).subject == "Welcome, Ann"
    path = write(folder, "welcome/subject.txt", "Hello, {{ name }}")
    os.utime(path, ns=(1, 1))
    assert templates(mail(template="welcome", context={"name": "Ann"})).subject == "Hello, Ann"
    path.unlink()
    with pytest.raises(CannotCompose, match="subject: is missing"):
        templates(mail(template="welcome", context={"name": "Ann"}))


def test_the_disk_is_not_read_between_two_looks(folder):
    templates = TemplateRenderer(folder, MOST, look_again=3_600)
    write(folder, "welcome/body.txt", "{% include 'parts/footer.txt' %}")
    footer = write(folder, "parts/footer.txt", "bye\n")
    first = templates(mail(template="welcome", context={"name": "Ann"}))
    for path in (footer, *(folder / "welcome").iterdir()):
        path.unlink()
    assert templates(mail(template="welcome", context={"name": "Ann"})) == first
    assert first.text == "bye\n"


def test_a_change_is_seen_at_the_next_look(folder):
    templates = TemplateRenderer(folder, MOST, look_again=0.01)
    assert templates(mail(template="welcome", context={"name": "Ann"})).subject == "Welcome, Ann"
    os.utime(write(folder, "welcome/subject.txt", "Hello, {{ name }}"), ns=(1, 1))
    wait_until(
        lambda: templates(mail(template="welcome", context={"name": "Ann"})).subject == "Hello, Ann", 5, "subject"
    )
    (folder / "welcome/body.html").unlink()
    wait_until(lambda: templates(mail(template="welcome", context={"name": "Ann"})).html is None, 5, "html")


def test_the_error_of_a_missing_template_says_where_it_was_looked_for(folder):
    assert faults(folder, template="goodbye") == [
        f"template goodbye: not found in {folder} (a folder with subject.txt, body.txt, body.html)"
    ]


def test_the_error_of_an_unreadable_file_does_not_show_its_path(tmp_path):
    deep = tmp_path.joinpath(*["d" * 200] * ((3_900 - len(str(tmp_path))) // 201))
    write(deep, "t/body.txt", "{% include '" + "/".join(["a" * 200] * 3) + "' %}")
    write(deep, "t/subject.txt", "s")
    assert faults(deep, template="t") == ["template t/body.txt line 1: cannot be read: File name too long"]
    assert faults(deep, template="a" * 255) == [f"template {'a' * 255}: cannot be read: File name too long"]


def test_a_template_without_a_directory_says_what_to_set():
    assert faults(template="welcome") == [
        "template welcome: there is no template directory; set MAILBATCH_TEMPLATE_DIR"
    ]


def test_an_error_in_a_named_template_names_file_and_line(folder):
    write(folder, "welcome/body.txt", "\n\n{{ surname }}")
    write(folder, "welcome/body.html", "\n{% if %}")
    assert faults(folder, template="welcome", context={"name": "Ann"}) == [
        "template welcome/body.txt line 3: 'surname' is undefined",
        "template welcome/body.html line 2: Expected an expression, got 'end of statement block'",
    ]


def test_the_error_of_a_template_that_is_not_utf8_says_so(folder):
    (folder / "welcome" / "body.txt").write_bytes(b"gr\xfc\xdfe")
    assert faults(folder, template="welcome", context={"name": "Ann"}) == [
        "template welcome/body.txt: is not UTF-8 (byte 2)"
    ]


def test_named_templates_share_files_and_html_stays_escaped(folder):
    write(folder, "parts/footer.txt", "bye {{ name }}")
    write(folder, "welcome/body.txt", "{% include 'parts/footer.txt' %}")
    write(folder, "welcome/body.html", "{% include 'parts/footer.txt' %}")
    rendered = render(folder, template="welcome", context={"name": "<A>"})
    assert (rendered.text, rendered.html) == ("bye <A>", "bye &lt;A&gt;")


def test_an_error_in_an_included_file_names_that_file(folder):
    write(folder, "parts/footer.txt", "\n{{ nobody }}")
    write(folder, "welcome/body.txt", "{% include 'parts/footer.txt' %}")
    assert faults(folder, template="welcome", context={"name": "A"}) == [
        "template parts/footer.txt (included by template welcome/body.txt) line 2: 'nobody' is undefined"
    ]


@pytest.mark.parametrize(
    "name",
    ["..", ".", " ", "../welcome", "welcome/../welcome", "/etc", "a b", "welcome\n", "wélcome", "a\\b", "a" * 256],
)
def test_a_template_name_is_one_plain_word(folder, name):
    [line] = faults(folder, template=name)
    assert "is no template name" in line


@pytest.mark.parametrize(
    "name",
    [
        *("../secret.txt", "/etc/passwd", "welcome/../../secret.txt", "link/secret.txt", "gone.txt"),
        *("a" * 256, "welcome/" + "a" * 256),
    ],
)
def test_nothing_outside_the_directory_is_included(folder, name):
    write(folder.parent, "outside/secret.txt", "secret")
    write(folder.parent, "secret.txt", "secret")
    (folder / "link").symlink_to(folder.parent / "outside")
    write(folder, "welcome/body.txt", f"{{% include {name!r} %}}")
    [line] = faults(folder, template="welcome", context={"name": "A"})
    told = f"template welcome/body.txt line 1: cannot include '{name}': it is not in the template directory"
    assert line == told[: len(line)]
    assert len(line) > 100 or line == told


def test_a_link_out_of_the_directory_is_not_found(folder):
    write(folder.parent, "outside/body.txt", "secret")
    (folder / "link").symlink_to(folder.parent / "outside")
    [line] = faults(folder, template="link", subject="s")
    assert "not found" in line


def test_a_link_inside_the_directory_is_followed(folder):
    (folder / "hello").symlink_to(folder / "welcome")
    assert render(folder, template="hello", context={"name": "Ann"}).subject == "Welcome, Ann"


@pytest.mark.parametrize("context", [["a"], "a", 3])
def test_a_context_that_is_no_object_is_this_mails_fault(context):
    [line] = faults(subject="s", body_text="{{ 1 }}", context=context)
    assert line.startswith("body_text: ")


def test_a_mail_without_filters_of_a_language_does_not_import_babel():
    source = "import sys; from mailbatch.infrastructure.templates.renderer import TemplateRenderer as R; "
    source += "from mailbatch.domain.reservation import Mail; "
    source += "R(None, 1000)(Mail(recipients='', subject='{{ 1 }}', body_text='{{ 2|upper }}')); "
    source += "sys.exit('babel' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", source], check=False).returncode == 0


def test_filters_write_in_the_language_of_the_settings():
    templates = TemplateRenderer(None, MOST, options=Options(locale="de"))
    assert templates(mail(subject="{{ 1.5|number }}", body_text="{{ 0.5|percent }}")).subject == "1,5"


def test_an_error_of_a_filter_names_the_line():
    [line] = faults(subject="s", body_text="Dear\n{{ at|date }}", context={"at": "soon"})
    assert line.startswith("body_text line 2: the filter date is given something other than a date or a time")


@pytest.mark.parametrize("value", [{"a": 1}, {"a": None}, {}, {"items": 2}, "a", [1], 5, None], ids=repr)
@pytest.mark.parametrize("name", ["a", "items", "upper", "__class__"])
def test_an_attribute_in_generated_code_is_that_of_the_sandbox(value, name):
    sandbox = Sandbox(html=False)
    with Budget(MOST):
        found = sandbox.compile_expression(f"value.{name}", undefined_to_none=False)(value=value)
    assert shown(found) == shown(sandbox.getattr(value, name))


def shown(value: Any) -> str:
    try:
        return str(value)
    except (UndefinedError, SecurityError) as error:
        return repr(error)
